"""A SavedModel computes what the classifier computes, from pixels and from image files, and is written whole or not."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust import export
from tfrobust.models import mnist


def small_classifier(input_shape=(28, 28, 1), seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            # They compute something else in training mode.
            keras.layers.Dropout(0.5),
            keras.layers.BatchNormalization(moving_mean_initializer="random_uniform"),
            keras.layers.Dense(10),
        ]
    )


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def random_pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def signatures(directory):
    loaded = tf.saved_model.load(str(directory))
    # The variables of a loaded model live as long as it does.
    return loaded, loaded.signatures["serving_default"], loaded.signatures["serve_bytes"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def classifier():
    return small_classifier()


@pytest.fixture(scope="module")
def saved_model(classifier, tmp_path_factory):
    directory = tmp_path_factory.mktemp("export") / "saved_model" / "1"
    export.export_saved_model(classifier, directory)
    return directory


# What the signatures compute.


@pytest.mark.parametrize("batch_size", [1, 5])
def test_serving_default(classifier, saved_model, batch_size):
    _loaded, serving_default, _ = signatures(saved_model)
    x = random_images(batch_size, 28, 28, 1)
    outputs = serving_default(images=tf.constant(x))
    logits = classifier(x, training=False).numpy()
    assert set(outputs) == {"logits", "probabilities", "class"}
    assert outputs["logits"].dtype == outputs["probabilities"].dtype == tf.float32
    np.testing.assert_allclose(outputs["logits"], logits, atol=1e-5)
    np.testing.assert_allclose(outputs["probabilities"], tf.nn.softmax(logits), atol=1e-6)
    assert outputs["class"].dtype == tf.int64
    np.testing.assert_array_equal(outputs["class"], logits.argmax(axis=-1))


def test_challenge_cnn(tmp_path):
    classifier = mnist.challenge_cnn(seed=0)
    export.export_saved_model(classifier, tmp_path / "1")
    _loaded, serving_default, serve_bytes = signatures(tmp_path / "1")
    x = random_images(3, 28, 28, 1)
    np.testing.assert_allclose(
        serving_default(images=tf.constant(x))["logits"], classifier(x, training=False), atol=1e-5
    )
    # Its second convolution fails on a batch of none in some of TensorFlow's kernels.
    for outputs in (
        serving_default(images=tf.zeros([0, 28, 28, 1])),
        serve_bytes(image_bytes=tf.constant([], tf.string)),
    ):
        assert {name: tuple(value.shape) for name, value in outputs.items()} == {
            "logits": (0, 10),
            "probabilities": (0, 10),
            "class": (0,),
        }


def test_logits_are_float32_whatever_the_classifier_computes_in(tmp_path):
    classifier = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3, dtype="bfloat16")]
    )
    export.export_saved_model(classifier, tmp_path / "1")
    _loaded, serving_default, _ = signatures(tmp_path / "1")
    outputs = serving_default(images=tf.constant(random_images(2, 4, 4, 1)))
    assert outputs["logits"].dtype == outputs["probabilities"].dtype == tf.float32


def test_png_bytes_are_exactly_the_float_pixels(saved_model):
    _loaded, serving_default, serve_bytes = signatures(saved_model)
    pixels = random_pixels(3, 28, 28, 1)
    pixels[0].flat[:256] = np.arange(256)
    outputs = serve_bytes(image_bytes=tf.stack([tf.io.encode_png(image) for image in pixels]))
    # The division of `datasets`: NumPy's, rounded once.
    expected = serving_default(images=tf.constant(pixels.astype(np.float32) / np.float32(255)))
    for name in expected:
        np.testing.assert_array_equal(outputs[name], expected[name])


def test_jpeg_bytes(tmp_path):
    classifier = small_classifier((8, 8, 3))
    export.export_saved_model(classifier, tmp_path / "1")
    _loaded, serving_default, serve_bytes = signatures(tmp_path / "1")
    jpegs = [tf.io.encode_jpeg(image) for image in random_pixels(2, 8, 8, 3)]
    pixels = np.stack([tf.io.decode_jpeg(image, dct_method="INTEGER_ACCURATE") for image in jpegs])
    expected = serving_default(images=tf.constant(pixels.astype(np.float32) / np.float32(255)))
    np.testing.assert_array_equal(serve_bytes(image_bytes=tf.stack(jpegs))["logits"], expected["logits"])


def test_bytes_are_converted_to_the_classifiers_channels(tmp_path, saved_model):
    grey = random_pixels(28, 28, 1)
    colour = np.repeat(grey, 3, axis=-1)
    _loaded, _, serve_bytes = signatures(saved_model)
    # libpng weighs the three equal channels with weights that sum to 1.
    both = serve_bytes(image_bytes=tf.stack([tf.io.encode_png(grey), tf.io.encode_png(colour)]))["logits"]
    np.testing.assert_allclose(both[0], both[1], atol=1e-5)

    export.export_saved_model(small_classifier((28, 28, 3)), tmp_path / "1")
    _loaded, serving_default, serve_bytes = signatures(tmp_path / "1")
    expected = serving_default(images=tf.constant(colour[np.newaxis].astype(np.float32) / np.float32(255)))
    np.testing.assert_array_equal(serve_bytes(image_bytes=[tf.io.encode_png(grey)])["logits"], expected["logits"])


def test_images_of_other_sizes_are_resized(classifier, saved_model):
    _loaded, serving_default, serve_bytes = signatures(saved_model)
    large, small, fitting = random_pixels(56, 40, 1), random_pixels(7, 14, 1), random_pixels(28, 28, 1)
    outputs = serve_bytes(image_bytes=tf.stack([tf.io.encode_png(image) for image in (large, small, fitting)]))
    expected = np.stack(
        [tf.image.resize(image / np.float32(255), [28, 28], antialias=True) for image in (large, small)]
    )
    np.testing.assert_allclose(outputs["logits"][:2], classifier(expected, training=False), atol=1e-4)
    alone = serving_default(images=tf.constant(fitting[np.newaxis] / np.float32(255)))
    np.testing.assert_allclose(outputs["logits"][2], alone["logits"][0], atol=1e-5)


def test_resizing_halves_by_hand(tmp_path):
    """Antialiased bilinear halving weighs rows 1/8, 3/8, 3/8, 1/8; the classifier here is the identity."""
    identity = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten()])
    export.export_saved_model(identity, tmp_path / "1")
    _loaded, _, serve_bytes = signatures(tmp_path / "1")
    stripes = np.zeros((4, 4, 1), np.uint8)
    stripes[0] = 255
    logits = serve_bytes(image_bytes=[tf.io.encode_png(stripes)])["logits"]
    # At the upper border the row above the image is left out and the weights 3, 3, 1 sum to 7.
    np.testing.assert_allclose(logits, [[3 / 7, 3 / 7, 0, 0]], atol=1e-6)


def test_what_is_transparent_is_black(tmp_path):
    directory = tmp_path / "1"
    export.export_saved_model(small_classifier((4, 4, 3)), directory)
    _loaded, serving_default, serve_bytes = signatures(directory)
    pixels = random_pixels(4, 4, 4)
    for depth in (2, 4):
        file = tf.io.encode_png(pixels[:, :, -depth:]).numpy()
        colours = np.broadcast_to(pixels[:, :, -depth:-1], (4, 4, 3)).astype(np.float32) / 255
        expected = serving_default(images=tf.constant(colours * (pixels[:, :, -1:] / np.float32(255)))[None])
        served = serve_bytes(image_bytes=tf.constant([file]))
        np.testing.assert_allclose(served["logits"], expected["logits"], atol=1e-5)


@pytest.mark.parametrize("shape", [(28, 28, 1), (1, 27, 28, 1), (1, 32, 32, 1), (1, 28, 28, 3)])
def test_images_of_another_shape(tmp_path, shape):
    directory = tmp_path / "1"
    # It takes images of any size itself.
    layers = [keras.Input((28, 28, 1)), keras.layers.Conv2D(2, 3), keras.layers.GlobalMaxPooling2D()]
    export.export_saved_model(keras.Sequential(layers), directory)
    _loaded, serving_default, _ = signatures(directory)
    with pytest.raises((tf.errors.InvalidArgumentError, TypeError), match=r"28,\s*28,\s*1"):
        serving_default(images=tf.zeros(shape))


def test_bytes_that_are_no_image(saved_model):
    _loaded, _, serve_bytes = signatures(saved_model)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Unknown image file format"):
        serve_bytes(image_bytes=tf.constant([b"no image"]))


# Classifiers and folders that are refused.


@pytest.mark.parametrize(
    ("classifier", "got"),
    [
        (keras.Sequential([keras.layers.Dense(2)]), "none"),
        (keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), r"\(None, 4\)"),
        (
            keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalMaxPooling2D()]),
            r"\(None, None, None, 3\)",
        ),
        (keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Flatten()]), r"\(None, 4, 4, 2\)"),
    ],
)
def test_input_shape_is_checked(classifier, got, tmp_path):
    with pytest.raises(ValueError, match=rf"classifier must .* input_shape is \[B, H, W, C\].* got {got}"):
        export.export_saved_model(classifier, tmp_path / "1")
    assert names(tmp_path) == []


def test_output_shape_is_checked(tmp_path):
    images = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3)])
    with pytest.raises(ValueError, match=r"classifier must return logits \[B, K\], got .*\(None, 2, 2, 2\)"):
        export.export_saved_model(images, tmp_path / "1")


def test_no_folder_but_a_saved_model_is_replaced(classifier, saved_model, tmp_path):
    (tmp_path / "notes.txt").write_text("precious")
    for directory in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match="directory must be a new folder, an empty one or an earlier SavedModel"):
            export.export_saved_model(classifier, directory)
    with pytest.raises(ValueError, match="directory must be"):
        export.export_saved_model(classifier, saved_model.parent)
    assert contents(tmp_path) == {"notes.txt": b"precious"}


def test_keras_suffix(classifier, tmp_path):
    with pytest.raises(ValueError, match=r"path must end in '.keras', got '.*model.h5'"):
        export.save_keras(classifier, tmp_path / "model.h5")


def test_a_folder_is_no_keras_file(classifier, tmp_path):
    (tmp_path / "model.keras").mkdir()
    (tmp_path / "model.keras" / "notes.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"path must be that of a file, got the folder .*model.keras"):
        export.save_keras(classifier, tmp_path / "model.keras")
    assert contents(tmp_path / "model.keras") == {"notes.txt": b"precious"}


# Written whole or not at all.


def test_overwrite(tmp_path):
    x = random_images(2, 28, 28, 1)
    for seed in (1, 2):
        classifier = small_classifier(seed=seed)
        export.export_saved_model(classifier, tmp_path / "1")
        export.save_keras(classifier, tmp_path / "model.keras")
        logits = classifier(x, training=False)
        _loaded, serving_default, _ = signatures(tmp_path / "1")
        np.testing.assert_allclose(serving_default(images=tf.constant(x))["logits"], logits, atol=1e-5)
        np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras")(x), logits, atol=1e-5)
    assert names(tmp_path) == ["1", "model.keras"]


def test_others_may_read_what_is_written(classifier, tmp_path):
    """TensorFlow Serving runs as another user; a folder of `tempfile` is for its owner alone."""
    export.export_saved_model(classifier, tmp_path / "1")
    export.save_keras(classifier, tmp_path / "model.keras")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "1").stat().st_mode & 0o777 == 0o777 & ~mask
    assert (tmp_path / "model.keras").stat().st_mode & 0o777 == 0o666 & ~mask


def test_links_are_followed(classifier, saved_model, tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for _ in range(2):
        export.export_saved_model(classifier, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "target") == names(saved_model)


def _fails_halfway(error):
    """Stands in for `tf.saved_model.save` and `keras.Model.save`: writes a part and then raises."""

    def write(*args, **kwargs):
        path = pathlib.Path(args[1])
        if path.suffix != ".keras":
            (path / "variables").mkdir(parents=True)
            path = path / "saved_model.pb"
        path.write_bytes(b"half")
        raise error

    return write


FULL_DISK = [
    OSError(28, "No space left on device"),
    tf.errors.ResourceExhaustedError(None, None, "{{function_node x}} model; No space left on device"),
]


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("error", [*FULL_DISK, KeyboardInterrupt()], ids=lambda error: type(error).__name__)
def test_a_write_that_fails_changes_nothing(classifier, tmp_path, monkeypatch, earlier, error):
    directory, file = tmp_path / "1", tmp_path / "model.keras"
    if earlier:
        export.export_saved_model(classifier, directory)
        export.save_keras(classifier, file)
    before = contents(tmp_path)
    monkeypatch.setattr(tf.saved_model, "save", _fails_halfway(error))
    monkeypatch.setattr(keras.Sequential, "save", _fails_halfway(error))
    interrupted = isinstance(error, KeyboardInterrupt)
    for write, target in ((export.export_saved_model, directory), (export.save_keras, file)):
        with pytest.raises(KeyboardInterrupt if interrupted else export.ExportError) as raised:
            write(classifier, target)
        if not interrupted:
            message = str(raised.value)
            assert message.startswith(f"{target} cannot be written (") and "No space left on device" in message
            assert "function_node" not in message
            assert message.endswith("the earlier one is intact") == earlier
    assert contents(tmp_path) == before
    assert names(tmp_path) == (["1", "model.keras"] if earlier else [])


def test_a_rename_that_fails_puts_the_earlier_one_back(classifier, saved_model, tmp_path, monkeypatch):
    export.export_saved_model(classifier, tmp_path / "1")
    before, rename = contents(tmp_path), os.rename

    def fails_for_the_new_one(source, target):
        if pathlib.Path(target) == tmp_path / "1" and "earlier" not in str(source):
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails_for_the_new_one)
    with pytest.raises(export.ExportError, match=r"Permission denied.*; the earlier one is intact"):
        export.export_saved_model(small_classifier(seed=1), tmp_path / "1")
    assert contents(tmp_path) == before
    assert names(tmp_path) == ["1"]


def test_a_parent_that_is_a_file(classifier, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(export.ExportError, match="cannot be written"):
        export.save_keras(classifier, tmp_path / "file" / "model.keras")


# The command line of TensorFlow, which knows nothing of tfrobust.


def _saved_model_cli(*arguments):
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_saved_model_cli_show(saved_model):
    shown = _saved_model_cli("show", "--dir", saved_model, "--all")
    blocks = {block.split("'")[0]: block for block in shown.split("signature_def['")[1:]}
    assert {"serving_default", "serve_bytes"} <= set(blocks)
    for name, model_input in (("serving_default", "images"), ("serve_bytes", "image_bytes")):
        for key in (f"inputs['{model_input}']", "outputs['logits']", "outputs['probabilities']", "outputs['class']"):
            assert key in blocks[name]
    assert "shape: (-1, 28, 28, 1)" in blocks["serving_default"]


def test_saved_model_cli_run(classifier, saved_model, tmp_path):
    x = random_images(2, 28, 28, 1)
    np.save(tmp_path / "x.npy", x)
    model = ("--dir", saved_model, "--tag_set", "serve", "--signature_def", "serving_default")
    inputs = ("--inputs", f"images={tmp_path / 'x.npy'}", "--outdir", tmp_path)
    printed = _saved_model_cli("run", *model, *inputs)
    assert "Result for output key logits:" in printed
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), classifier(x, training=False), atol=1e-5)
