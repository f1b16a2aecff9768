"""Twins whose weights are constants: the same function, of the weights of when the graph was made."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.test_precision import gradients, images, residual
from tfrobust import frozen_weights, precision
from tfrobust.attacks import PGD, DeepFool
from tfrobust.evaluation import evaluate
from tfrobust.minimum_norm_evaluation import evaluate_minimum_norm
from tfrobust.models.mnist import challenge_cnn, threshold_cnn
from tfrobust.packed_dense import PackedDense
from tfrobust.precision import AttackTwin
from tfrobust.threat_models import ThreatModel


@pytest.fixture(autouse=True)
def a_cpu_with_bfloat16(monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)


def packed(twin):
    return [layer for layer in twin._clone.layers if isinstance(layer, PackedDense)]


def small(*between):
    keras.utils.set_random_seed(2)
    stack = [layers.Conv2D(3, 3, activation="relu"), *between, layers.Flatten(), layers.Dense(7, activation="relu")]
    return keras.Sequential([keras.Input((6, 6, 1)), *stack, layers.Dense(6, use_bias=False), layers.Dense(3)])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_values_and_gradients_are_those_of_keras(dtype, use_bias):
    rng = np.random.default_rng(0)
    options = {"activation": "gelu", "use_bias": use_bias, "bias_initializer": "uniform", "dtype": dtype}
    ours, theirs = PackedDense(5, **options), layers.Dense(5, **options)
    x = tf.constant(rng.normal(size=(4, 9)), dtype)
    theirs(x), ours.build((None, 9))
    ours.set_weights(theirs.get_weights())
    found = []
    for layer in (ours, theirs):
        biases = [layer.bias.value] if use_bias else []
        with tf.GradientTape() as tape:
            tape.watch([x, *biases])
            y = layer(x)
        found.append([y, *tape.gradient(y, [x, *biases])])
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype == x.dtype
        np.testing.assert_allclose(
            *(tf.cast(v, tf.float32) for v in (one, other)), atol={"float32": 1e-6}.get(dtype, 0.02)
        )


@pytest.mark.parametrize("build", [small, lambda: challenge_cnn(seed=0), lambda: threshold_cnn(seed=0), residual])
def test_a_frozen_twin_has_the_logits_and_gradients_of_the_other(build):
    model = build()
    x = images(model.input_shape[1:])
    frozen, other = AttackTwin(model, "bfloat16", frozen=True), AttackTwin(model, "bfloat16")
    assert frozen._frozen and not other._frozen and not packed(other)
    # Whose only dense layer makes the logits, in float32.
    assert packed(frozen) or build is residual
    for one, two in zip(gradients(frozen.logits_fn(), x), gradients(other.logits_fn(), x), strict=True):
        np.testing.assert_allclose(one, two, atol=0.02 * np.abs(two).max())


def test_the_weights_are_those_of_when_the_function_was_made():
    model, x = small(), images((6, 6, 1))
    twin = AttackTwin(model, "bfloat16", frozen=True)

    @tf.function(autograph=False)
    def logits(x):
        return twin.logits_fn()(x)

    before = logits(x)
    assert not logits.get_concrete_function(x).captured_inputs
    for layer in (model.layers[0], *model.layers[-3:]):
        layer.set_weights([2 * value for value in layer.get_weights()])
    np.testing.assert_array_equal(logits(x), before)
    after = twin.logits_fn()(x)
    np.testing.assert_allclose(after, AttackTwin(model, "bfloat16").logits_fn()(x), atol=0.01 * np.abs(after).max())
    assert np.abs(after - before).max() > 0.5 * np.abs(after).max()


@pytest.fixture
def frozen(monkeypatch):
    """The weights of all twins that become constants."""
    made, freeze = [], AttackTwin._frozen_weights
    monkeypatch.setattr(AttackTwin, "_frozen_weights", lambda self: (made.append(freeze(self)), made[-1])[1])
    monkeypatch.setattr(frozen_weights, "NUM_EXAMPLES", 4)
    return made


def test_an_evaluation_freezes_and_sees_the_weights_of_its_time(frozen):
    model, x = small(), images((6, 6, 1)).numpy()
    attacks, y = {"PGD": PGD(ThreatModel("linf", 0.2), 5, 0.1)}, np.array([0, 1, 2, 0])
    evaluate(model, x, y, attacks, seed=0, precision="bfloat16")
    count = len(frozen)
    evaluate_minimum_norm(model, x, y, {"DeepFool": DeepFool("l2", steps=2)}, seed=0, precision="bfloat16")
    assert len(frozen) > count > 0
    count = len(frozen)
    model.set_weights([-value for value in model.get_weights()])
    evaluate(model, x, y, attacks, seed=0, precision="bfloat16")
    assert len(frozen) > count
    kernel, negated = (weights[0][0] for (weights, _) in (frozen[count - 1], frozen[-1]))
    np.testing.assert_array_equal(np.float32(kernel), -np.float32(negated))


def test_large_batches_and_few_images_are_not_worth_it(frozen):
    model, x = small(), images((6, 6, 1)).numpy()
    attacks, y = {"PGD": PGD(ThreatModel("linf", 0.2), 5, 0.1)}, np.array([0, 1, 2, 0])
    evaluate(model, x, y, attacks, seed=0, precision="bfloat16", batch_size=101)
    evaluate(model, x[:3], y[:3], attacks, seed=0, precision="bfloat16")
    assert not frozen


def test_what_is_not_packed(monkeypatch):
    # In float32, at the end, in three dimensions, with other weights, or too large.
    assert not packed(AttackTwin(small(), "float32", frozen=True))
    assert [layer.units for layer in packed(AttackTwin(small(), "bfloat16", frozen=True))] == [7, 6]
    model, x = small(layers.Dense(4)), images((6, 6, 1))
    found = [AttackTwin(model, "bfloat16", frozen=frozen).logits_fn()(x) for frozen in (True, False)]
    np.testing.assert_allclose(*found, atol=0.05)
    model = small()
    model.layers[2].enable_lora(2)
    twin = AttackTwin(model, "bfloat16", frozen=True)
    assert [layer.units for layer in packed(twin)] == [6]
    np.testing.assert_allclose(twin.logits_fn()(x), model(x), atol=0.05)
    monkeypatch.setattr(frozen_weights, "MOST_BYTES", 100)
    assert not packed(AttackTwin(small(), "bfloat16", frozen=True))
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: False)
    monkeypatch.setattr(frozen_weights, "MOST_BYTES", 10**6)
    assert not packed(AttackTwin(small(), "bfloat16", frozen=True))
