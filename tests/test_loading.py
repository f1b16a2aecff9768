"""Every kind of stored classifier loads to the same function; what is none gives one clear line."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust import checkpoints, checks, evaluation, export, loading, suites, tf1_checkpoints
from tfrobust.attacks.base import input_gradient
from tfrobust.losses import cross_entropy
from tfrobust.models import mnist
from tfrobust.threat_models import ThreatModel


def small_classifier():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(8, "relu"), keras.layers.Dense(10)]
    )


def images(n=4):
    return np.random.default_rng(0).random((n, 28, 28, 1), np.float32)


@pytest.fixture(scope="module")
def classifier():
    return small_classifier()


@pytest.fixture(scope="module")
def saved_model(classifier, tmp_path_factory):
    directory = tmp_path_factory.mktemp("loading") / "1"
    export.export_saved_model(classifier, directory)
    return directory


def save_function(function, directory, *specs):
    """A SavedModel whose `serving_default` is `function`."""
    module = tf.Module()
    signature = tf.function(function, input_signature=specs, autograph=False)
    tf.saved_model.save(module, str(directory), signatures={"serving_default": signature})


PIXELS = tf.TensorSpec([None, 28, 28, 1], tf.float32, name="images")


def flat_logits(x):
    return tf.reshape(x, [-1, 784])[:, :10]


# Round trips.


def save_h5(classifier, path):
    classifier.save(path)


@pytest.mark.parametrize(
    ("save", "name"),
    [
        (export.export_saved_model, "saved_model"),
        (export.save_keras, "a.keras"),
        (save_h5, "a.h5"),
        (lambda classifier, path: classifier.export(path, verbose=False), "keras_export"),
    ],
    ids=["SavedModel", "keras", "h5", "keras-export"],
)
def test_round_trip(classifier, tmp_path, save, name):
    save(classifier, tmp_path / name)
    loaded = loading.load_classifier(tmp_path / name)
    assert loaded.input_shape == (None, 28, 28, 1)
    np.testing.assert_allclose(loaded(tf.constant(images())), classifier(images(), training=False), atol=1e-5)


def test_round_trip_of_the_challenge_cnn(tmp_path):
    classifier = mnist.challenge_cnn(seed=0)
    export.save_keras(classifier, tmp_path / "model.keras")
    export.export_saved_model(classifier, tmp_path / "1")
    for path in (tmp_path / "model.keras", tmp_path / "1", str(tmp_path)):
        loaded = loading.load_classifier(path)
        np.testing.assert_allclose(loaded(tf.constant(images())), classifier(images(), training=False), atol=1e-5)


class Trainer(keras.Model):
    """As much of a trainer as checkpoints ask for."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier


def save_training_checkpoint(model_dir, classifier):
    trainer = Trainer(classifier)
    trainer.compile(optimizer="sgd")
    checkpoints.save_architecture(model_dir, classifier)
    return checkpoints.TrainingCheckpoints(model_dir, trainer).save()


def test_model_dir_with_checkpoints_only(classifier, tmp_path):
    prefix = save_training_checkpoint(tmp_path, classifier)
    for path in (str(tmp_path), prefix, f"{prefix}.index"):
        loaded = loading.load_classifier(path)
        np.testing.assert_array_equal(loaded(images()), classifier(images(), training=False))


def test_a_checkpoint_of_a_model_dir_that_has_a_keras_file_too(classifier, tmp_path):
    prefix = save_training_checkpoint(tmp_path, classifier)
    export.save_keras(mnist.challenge_cnn(seed=0), tmp_path / "model.keras")
    np.testing.assert_array_equal(loading.load_classifier(prefix)(images()), classifier(images(), training=False))
    assert loading.load_classifier(tmp_path).name == "mnist_challenge_cnn"


def test_checkpoints_of_a_challenge_and_of_our_training_in_one_folder(classifier, tmp_path):
    original = mnist.challenge_cnn(seed=0)
    of_the_challenge = tf1_checkpoints.save(original, tmp_path / "checkpoint", global_step=300)
    np.testing.assert_array_equal(loading.load_classifier(tmp_path)(images()), original(images()))
    ours = save_training_checkpoint(tmp_path, classifier)
    for prefix, expected in ((of_the_challenge, original), (ours, classifier)):
        loaded = loading.load_classifier(prefix)
        np.testing.assert_array_equal(loaded(images()), expected(images(), training=False))


def test_the_keras_file_of_a_model_dir_comes_before_its_checkpoints(classifier, tmp_path, monkeypatch):
    export.save_keras(classifier, tmp_path / "model.keras")
    monkeypatch.setattr(checkpoints, "load_classifier", None)
    assert isinstance(loading.load_classifier(tmp_path), keras.Model)


# A SavedModel is a function that can be attacked.


def test_gradient_of_a_saved_model(classifier, saved_model):
    loaded = loading.load_classifier(saved_model)
    x, y = tf.constant(images()), tf.constant([0, 1, 2, 3])
    expected = input_gradient(lambda x: classifier(x, training=False), cross_entropy, x, y)
    np.testing.assert_allclose(input_gradient(loaded, cross_entropy, x, y), expected, atol=1e-6)
    compiled = tf.function(lambda x, y: input_gradient(loaded, cross_entropy, x, y))
    np.testing.assert_allclose(compiled(x, y), expected, atol=1e-6)
    assert np.abs(expected).max() > 1e-3


def test_evaluation_of_a_saved_model(classifier, saved_model):
    labels = classifier(images(), training=False).numpy().argmax(axis=-1)
    reports = [
        evaluation.evaluate(
            model, images(), labels, suites.quick(ThreatModel("linf", 0.02)), seed=0, precision="float32"
        )
        for model in (classifier, loading.load_classifier(saved_model))
    ]
    np.testing.assert_allclose(reports[0].x_adv, reports[1].x_adv, atol=1e-6)
    assert reports[0].robust_accuracy == reports[1].robust_accuracy


def test_of_numbered_saved_models_the_highest_is_taken(classifier, tmp_path):
    for version, bias in (("1", 0.1), ("9", 0.2), ("10", 0.3)):
        classifier_of_version = keras.models.clone_model(classifier)
        classifier_of_version.set_weights([weight + bias for weight in classifier.get_weights()])
        export.export_saved_model(classifier_of_version, tmp_path / version)
    # Not yet whole, as while it is being copied.
    (tmp_path / "11").mkdir()
    expected = classifier_of_version(images(), training=False)
    np.testing.assert_allclose(loading.load_classifier(tmp_path)(tf.constant(images())), expected, atol=1e-5)


def test_the_fingerprint_of_a_saved_model_is_that_of_its_weights(classifier, saved_model, tmp_path):
    before = loading.fingerprint(loading.load_classifier(saved_model))
    assert before == loading.fingerprint(loading.load_classifier(saved_model))
    other = keras.models.clone_model(classifier)
    other.set_weights([weight + 0.1 for weight in classifier.get_weights()])
    export.export_saved_model(other, tmp_path / "1")
    assert loading.fingerprint(loading.load_classifier(tmp_path / "1")) not in (None, before)


def test_images_of_another_size(saved_model):
    with pytest.raises(ValueError, match=r"classifier must take images of shape \(32, 32, 3\)"):
        checks.check_classifier(
            loading.load_classifier(saved_model), np.zeros((1, 32, 32, 3), np.float32), np.zeros(1, np.int64)
        )


def test_repr(saved_model):
    expected = f"SavedModelClassifier({str(saved_model)!r}, input_shape=(None, 28, 28, 1), output='logits')"
    assert repr(loading.load_classifier(str(saved_model))) == expected


def test_input_is_cast_to_the_signature_and_logits_to_float32(tmp_path):
    spec = tf.TensorSpec([None, 28, 28, 1], tf.float64, name="anything")
    save_function(lambda x: {"scores": flat_logits(x)}, tmp_path / "1", spec)
    loaded = loading.load_classifier(tmp_path / "1")
    logits = loaded(tf.constant(images()))
    assert logits.dtype == tf.float32
    np.testing.assert_array_equal(logits, flat_logits(images()))


def test_unknown_shape(tmp_path):
    save_function(lambda x: {"logits": flat_logits(x)}, tmp_path / "1", tf.TensorSpec(None, tf.float32))
    loaded = loading.load_classifier(tmp_path / "1")
    assert loaded.input_shape is None
    np.testing.assert_array_equal(loaded(tf.constant(images())), flat_logits(images()))


# What cannot be loaded.


def error_of(path):
    with pytest.raises(loading.ModelLoadError) as raised:
        loading.load_classifier(path)
    message = str(raised.value)
    assert "\n" not in message and str(path) in message
    return message


def test_nothing_there(tmp_path):
    assert error_of(tmp_path / "none.keras").endswith("none.keras does not exist")


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "notes.txt").write_text("no model")
    assert "is no model: the name of a Keras file ends in .keras or .h5" in error_of(tmp_path / "notes.txt")


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_damaged_keras_files(classifier, tmp_path, name):
    path = tmp_path / name
    classifier.save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"no model", whole[: len(whole) // 2], whole[:-100]):
        path.write_bytes(damaged)
        assert "cannot be read (" in error_of(path)


def test_a_damaged_byte(classifier, tmp_path):
    path = tmp_path / "model.keras"
    classifier.save(path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    path.write_bytes(damaged)
    # Python's words, or Keras's where it has lost these.
    assert re.search(r"cannot be read \((Bad CRC-32|A total of 1 objects could not be loaded)", error_of(path))
    # Also where it is the file of a model_dir; no older checkpoint takes its place unasked.
    with pytest.raises(loading.ModelLoadError, match=r"model\.keras cannot be read"):
        loading.load_classifier(tmp_path)


def test_a_folder_of_another_kind(tmp_path):
    expected = "is no model: it holds no saved_model.pb, no model.keras and no training checkpoint"
    assert expected in error_of(tmp_path)


def test_unreadable_checkpoints(classifier, tmp_path):
    prefix = save_training_checkpoint(tmp_path, classifier)
    (tmp_path / "checkpoint-0.data-00000-of-00001").write_bytes(b"")
    for path in (tmp_path, prefix):
        assert error_of(path).startswith(f"checkpoint {prefix} cannot be read (")
    (tmp_path / "architecture.json").unlink()
    assert error_of(tmp_path) == f"{tmp_path} is no model: architecture.json is missing beside {prefix}"


@pytest.mark.parametrize(
    "part", ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]
)
@pytest.mark.parametrize("remains", ["half", "nothing"])
def test_damaged_saved_models(classifier, tmp_path, part, remains):
    export.export_saved_model(classifier, tmp_path / "1")
    path = tmp_path / "1" / part
    if remains == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    message = error_of(tmp_path / "1")
    assert "cannot be read (" in message or (part == "saved_model.pb" and "is no model" in message)


def test_saved_model_without_the_signature(tmp_path):
    module = tf.Module()
    tf.saved_model.save(module, str(tmp_path / "none"), signatures={})
    assert error_of(tmp_path / "none").endswith("has no signature 'serving_default', its signatures: none")
    other = tf.function(flat_logits, input_signature=[PIXELS])
    tf.saved_model.save(module, str(tmp_path / "other"), signatures={"predict": other})
    assert error_of(tmp_path / "other").endswith("its signatures: ['predict']")


@pytest.mark.parametrize(
    ("function", "spec", "expected"),
    [
        (
            lambda x: {"a": flat_logits(x), "b": flat_logits(x)},
            PIXELS,
            r"an output 'logits' .* got a float32 \(None, 10\), b float32 \(None, 10\)",
        ),
        (
            lambda x: {"class": tf.argmax(flat_logits(x), -1)},
            PIXELS,
            r"an output 'logits' .* got class int64 \(None,\)",
        ),
        (lambda x: {"logits": x}, PIXELS, r"an output 'logits' .* got logits float32 \(None, 28, 28, 1\)"),
        (
            lambda x: {"logits": x},
            tf.TensorSpec([None, 8], name="x"),
            r"images \[B, H, W, C\], got x float32 \(None, 8\)",
        ),
        (
            lambda x: {"logits": tf.strings.to_number(x)},
            tf.TensorSpec([None], tf.string, name="x"),
            r"images \[B, H, W, C\], got x string \(None,\)",
        ),
    ],
    ids=["two outputs", "classes", "images", "vectors", "strings"],
)
def test_signature_that_is_no_classifier(tmp_path, function, spec, expected):
    save_function(function, tmp_path / "1", spec)
    with pytest.raises(loading.ModelLoadError, match=expected):
        loading.load_classifier(tmp_path / "1")
