"""Models of mixed and half precision are attacked, judged and trained in float32."""

import contextlib
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.test_precision import MODELS, assert_same, gradients, images
from tfrobust import datasets, export, loading
from tfrobust.attacks import PGD, Transfer
from tfrobust.attacks.apgd import apgd_t
from tfrobust.evaluation import evaluate
from tfrobust.full_precision import in_float32, lowest_precision, rounds
from tfrobust.models.small import capacity_cnn
from tfrobust.precision import AttackTwin, in_training, inference
from tfrobust.red_flags import inspect_report
from tfrobust.threat_models import ThreatModel
from tfrobust.trainers import AdversarialTrainer

POLICIES = ("mixed_float16", "float16", "mixed_bfloat16", "bfloat16")
LINF = ThreatModel("linf", 0.1)


@contextlib.contextmanager
def default_policy(name):
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")


def twins(build, policy):
    """The same network twice, with a dtype policy and in float32."""
    exact = build()
    with default_policy(policy):
        low = build()
    low.set_weights([np.asarray(value, np.float32) for value in exact.get_weights()])
    exact.set_weights([np.asarray(value, np.float32) for value in low.get_weights()])
    return low, exact


def policies(model):
    return [layer.dtype_policy.name for layer in model._flatten_layers()]


def without_input():
    """Keras gives it an input of its first layer's precision, to which images are cast."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential([layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3)])
    model.build((None, 8, 8, 3))
    return model


def nested_without_input():
    return keras.Sequential([keras.Input((8, 8, 3)), without_input()])


def functional_of_nested():
    inputs = keras.Input((8, 8, 3), dtype=keras.config.dtype_policy().compute_dtype)
    return keras.Model(inputs, without_input()(inputs))


MODELS = {
    **MODELS,
    "without input": (without_input, (8, 8, 3)),
    "nested without input": (nested_without_input, (8, 8, 3)),
    "input of that precision": (functional_of_nested, (8, 8, 3)),
}


@pytest.mark.parametrize("policy", POLICIES)
# Keras rounds what a Normalization has adapted to when it is built, and a PReLU's weights are not in the model's list.
@pytest.mark.parametrize("name", sorted(set(MODELS) - {"adapted normalisation", "activation with weights"}))
def test_logits_and_gradients_are_those_of_float32(name, policy):
    build, shape = MODELS[name]
    low, exact = twins(build, policy)
    before, x, inputs = policies(low), images(shape), [tensor.dtype for tensor in getattr(low, "inputs", None) or []]
    assert any(map(rounds, low._flatten_layers()))
    expected = gradients(inference(exact), x)
    assert_same(gradients(inference(low), x), expected)
    assert_same(gradients(AttackTwin(low, "float32").logits_fn(), x), expected)
    assert policies(low) == before
    assert inputs == [tensor.dtype for tensor in getattr(low, "inputs", None) or []]
    twin = AttackTwin(low, "bfloat16")
    assert twin.precision == AttackTwin(exact, "bfloat16").precision
    assert_same(gradients(twin.logits_fn(), x)[:1], expected[:1], tolerance=0.02)


def test_a_layer_of_lower_precision_has_its_policy_again_after_an_error():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype="mixed_float16")])
    before = policies(model)
    with pytest.raises(RuntimeError), in_float32(model):
        assert model.layers[0].compute_dtype == "float32"
        raise RuntimeError
    assert policies(model) == before and "mixed_float16" in before


def test_one_object_may_hold_the_policies_of_all_layers():
    policy = keras.dtype_policies.DTypePolicyMap(default_policy="mixed_float16")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype=policy, name="first")])
    with in_float32(model):
        assert model.layers[0].compute_dtype == "float32"
    assert model.layers[0].compute_dtype == "float16"


def confident(policy=None):
    """Trained until cross-entropies are far below what float16 holds."""
    data = datasets.load("digits", "train")
    keras.utils.set_random_seed(0)
    with default_policy(policy or "float32"):
        return capacity_cnn(seed=0, scale=2), data


@pytest.fixture(scope="module")
def trained():
    model, data = confident()
    model.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(data.images[:1000], data.labels[:1000], batch_size=100, epochs=5, verbose=0)
    model.layers[-1].set_weights([20 * value for value in model.layers[-1].get_weights()])
    return model.get_weights()


@pytest.fixture(scope="module")
def in_float16(trained):
    model, _ = confident("mixed_float16")
    model.set_weights(trained)
    return model


def test_a_model_of_mixed_precision_is_no_more_robust(trained, in_float16):
    exact, data = confident()
    exact.set_weights(trained)
    attacks = {"PGD": PGD(LINF, 10, 0.025)}
    shown = data.images[:100], data.labels[:100]
    reports = [evaluate(model, *shown, attacks, seed=0, precision="float32") for model in (in_float16, exact)]
    assert reports[0].robust_accuracy == reports[1].robust_accuracy < 0.7
    assert {report.precision for report in reports} == {"float32"}
    auto = evaluate(in_float16, *shown, attacks, seed=0)
    assert abs(auto.robust_accuracy - reports[0].robust_accuracy) < 0.05
    assert not any(flag.name == "gradients in float16" for flag in inspect_report(auto, attacks))
    rounded = evaluate(lambda x: in_float16(x, training=False), *shown, attacks, seed=0)
    assert rounded.robust_accuracy > reports[0].robust_accuracy + 0.1  # by float16 alone
    transferred = evaluate(exact, *shown, {"PGD": Transfer(attacks["PGD"], in_float16)}, seed=0, precision="float32")
    assert transferred.robust_accuracy == reports[1].robust_accuracy


def test_an_attack_that_is_called_with_the_model_itself(trained, in_float16):
    exact, data = confident()
    exact.set_weights(trained)
    x, y = data.images[:50], data.labels[:50]
    for attack in (PGD(LINF, 10, 0.025), apgd_t(LINF, steps=3)):
        found = [np.asarray(attack(model, x, y, seed=0)) for model in (in_float16, exact)]
        # But for what chooses between points, whose logits are the model's own.
        assert np.mean(np.abs(found[0] - found[1]) > 1e-3) < 0.05


def test_of_a_function_in_float16_the_report_says_so(tmp_path, in_float16):
    export.export_saved_model(in_float16, tmp_path / "saved")
    _, data = confident()
    attacks = {"PGD": PGD(LINF, 2, 0.05)}
    for function in (loading.SavedModelClassifier(tmp_path / "saved"), lambda x: in_float16(x, training=False)):
        report = evaluate(function, data.images[:20], data.labels[:20], attacks, seed=0)
        assert report.precision == "float16"
        assert inspect_report(report, attacks)[0].name == "gradients in float16"


class Casting(layers.Layer):
    def call(self, x):
        return tf.cast(tf.cast(x, tf.float16), tf.float32)


def casting_by_operation():
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(keras.ops.cast(inputs, "float16"))))


def traced_before():
    model = without_input()

    class Traced(keras.Model):
        @tf.function(autograph=False)
        def call(self, x):
            return model(x)

    traced = Traced()
    traced(images((8, 8, 3)))
    return traced


def quantised():
    model = without_input()
    try:
        model.quantize("int4")
    except ValueError:
        pytest.skip("this Keras has no int4")
    return model


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@pytest.mark.parametrize(
    "build",
    [
        lambda: keras.Sequential([keras.Input((8, 8, 3)), Casting(), layers.Flatten(), layers.Dense(3)]),
        casting_by_operation,
        traced_before,
        quantised,
    ],
)
def test_a_models_own_casts_are_told(build):
    with default_policy("mixed_float16"):
        model = build()
    attacks = {"PGD": PGD(LINF, 2, 0.05)}
    for precision in ("auto", "float32"):
        report = evaluate(model, images((8, 8, 3)), [0, 1, 2, 0], attacks, seed=0, precision=precision)
        assert report.precision == "float16"
        assert inspect_report(report, attacks)[0].name == "gradients in float16"


class Centred(layers.Layer):
    """Holds a number in the precision that it was made for."""

    def __init__(self, **options):
        super().__init__(**options)
        self.mean = tf.constant(0.5, self.compute_dtype)

    def call(self, x):
        return x - self.mean


def test_a_model_that_works_in_its_own_precision_alone_is_refused():
    with default_policy("mixed_float16"):
        model = keras.Sequential([keras.Input((8, 8, 3)), Centred(), layers.Flatten(), layers.Dense(3)])
    message = r"classifier must compute in float32, in which it fails \(.*half.*\): make it with Keras's dtype policy"
    with pytest.raises(ValueError, match=message):
        evaluate(model, images((8, 8, 3)), [0, 1, 2, 0], {"PGD": PGD(LINF, 2, 0.05)}, seed=0)
    with pytest.raises(ValueError, match=message):
        AdversarialTrainer(model, PGD(LINF, 2, 0.05), seed=0)
    with pytest.raises(ValueError, match=r"classifier must take images of shape \(4, 4, 3\)"):
        evaluate(model, images((4, 4, 3)), [0, 1, 2, 0], {"PGD": PGD(LINF, 2, 0.05)}, seed=0)


def test_threads_may_call_one_model_together():
    with default_policy("mixed_float16"):
        model = without_input()
    before, x, first_is_in, second_is_in = policies(model), images((8, 8, 3)), threading.Event(), threading.Event()

    def first():
        with in_float32(model):
            first_is_in.set()
            assert second_is_in.wait(20)

    def second():
        assert first_is_in.wait(20)
        with in_float32(model):
            second_is_in.set()
            thread.join(20)
            return model(x).dtype, [layer.compute_dtype for layer in model.layers]

    thread = threading.Thread(target=first)
    thread.start()
    assert second() == (tf.float32, ["float32"] * 3)
    assert policies(model) == before and model.inputs[0].dtype == "float16"


@pytest.mark.parametrize("policy", ["float32", *POLICIES])
def test_a_functions_precision_is_that_of_its_coarsest_sums(policy):
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(3, dtype=policy)])
    expected = policy.removeprefix("mixed_")
    shown = np.zeros([2, 8, 8, 1], np.float32)
    assert lowest_precision(lambda x: model(x), shown) == expected
    assert lowest_precision(tf.function(lambda x: model(x), autograph=False), shown) == expected


@pytest.mark.parametrize("batch_norm", ["inference", "batch"])
def test_training_is_that_of_float32(batch_norm):
    def build():
        return keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(4, 3, kernel_initializer=keras.initializers.HeNormal(1)),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Flatten(),
                layers.Dense(3, kernel_initializer=keras.initializers.HeNormal(2)),
            ]
        )

    x = np.random.default_rng(0).uniform(size=(16, 8, 8, 1)).astype(np.float32)
    found = []
    for model, policy in zip(twins(build, "mixed_float16"), ("mixed_float16", "float32"), strict=True):
        with default_policy(policy):
            attack = PGD(LINF, 2, 0.05)
            trainer = AdversarialTrainer(model, attack, seed=0, precision="float32", attack_batch_norm=batch_norm)
            trainer.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            trainer.fit(x, np.arange(16) % 3, epochs=2, verbose=0)
            trainer.evaluate(x, np.arange(16) % 3, verbose=0)
        found.append(model.get_weights())
    for low, exact in zip(*found, strict=True):
        np.testing.assert_allclose(low, exact, atol=1e-6)


def test_a_model_in_training_mode_is_in_float32():
    build, shape = MODELS["batch normalisation"]
    low, exact = twins(build, "mixed_float16")
    x = images(shape)
    np.testing.assert_allclose(in_training(low)(x), in_training(exact)(x), atol=1e-6)
