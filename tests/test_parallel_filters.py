"""Parallel first filters: what they add up to at a pixel is rounded, and not what each of them adds."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust import datasets, losses
from tfrobust.attacks.base import input_gradient
from tfrobust.attacks.pgd import PGD
from tfrobust.models.mnist import challenge_cnn
from tfrobust.parallel_filters import TurnedConv2D, parallel_pairs, turn
from tfrobust.precision import AttackTwin
from tfrobust.threat_models import ThreatModel
from tfrobust.trainers.adversarial import AdversarialTrainer

layers = keras.layers


def test_pairs_are_each_others_nearest_and_point_the_same_way():
    a, b, c, d = np.eye(4)
    filters = [a, b, -a, 0.3 * a, c, 0 * a, c + 0.1 * d, c + 0.3 * d, d, b + d]
    kernel = np.stack(filters, axis=-1).reshape([2, 2, 1, 10])
    # The seventh is nearer to the fifth than the eighth, which is left over; cosine 0.71 is not parallel.
    np.testing.assert_array_equal(parallel_pairs(kernel), [[0, 3], [4, 6]])
    assert parallel_pairs(kernel[..., :3]).shape == (0, 2)


def test_turning_is_orthogonal_and_sums_what_a_pixel_gets():
    lengths = np.array([3.0, 1.0, 4.0, 0.0, 0.0], np.float32)
    kernel = tf.constant(lengths.reshape([1, 1, 1, 5]))
    turned = turn(kernel, np.array([[0, 2], [3, 4]])).numpy()
    np.testing.assert_allclose(turned @ turned.T, np.eye(5), atol=1e-6)
    np.testing.assert_allclose(turned @ lengths, [5, 1, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(turned[[1, 3, 4]], np.eye(5)[[1, 3, 4]], atol=1e-6)


def cancelling(*between):
    """Two thresholds whose gradients, of 4.0078125 and -4 above both, bfloat16 makes 4 and -4."""
    stack = [layers.Conv2D(2, 1), *between, layers.Conv2D(1, 1), layers.Flatten(), layers.Dense(2)]
    model = keras.Sequential([keras.Input((2, 2, 1)), *stack])
    model.layers[0].set_weights([np.full((1, 1, 1, 2), 4.0), np.array([-1.4, -2.6])])
    model.layers[-3].set_weights([np.array([1 + 2**-9, -1]).reshape(1, 1, 2, 1), np.zeros(1)])
    model.layers[-1].set_weights([np.tile([[1.0, 0.0]], (model.layers[-1].kernel.shape[0], 1)), np.zeros(2)])
    return model


BETWEEN = {
    "ReLU": [layers.ReLU()],
    "pooling and ReLU": [layers.MaxPooling2D(1), layers.Activation("relu")],
    "ReLU and pooling": [layers.ReLU(), layers.AveragePooling2D(1)],
}


@pytest.mark.parametrize("between", BETWEEN)
def test_what_is_left_of_gradients_that_cancel_survives_rounding(between):
    model = cancelling(*BETWEEN[between])
    x = tf.fill([1, 2, 2, 1], 0.9)

    def first_logit(logits, y):
        return logits[:, 0]

    def gradient(*options, **named):
        return input_gradient(AttackTwin(model, *options, **named).logits_fn(), first_logit, x, tf.constant([0]))

    expected = gradient("float32")
    np.testing.assert_allclose(expected, np.full([1, 2, 2, 1], 4 * 2**-9), rtol=1e-6)
    np.testing.assert_allclose(gradient("bfloat16"), expected, rtol=0.01)
    np.testing.assert_array_equal(gradient("bfloat16", parallel_filters=False), tf.zeros_like(x))


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_the_challenge_network_with_thresholds_is_the_same_but_for_rounding(activation):
    model = challenge_cnn(seed=1, initializer="thresholds")
    model.get_layer("conv2").activation = keras.activations.get(activation)
    test = datasets.load("digits", "test", num_examples=16)
    x, y = tf.constant(test.images), tf.constant(test.labels)
    twin = AttackTwin(model, "bfloat16")
    assert twin.precision == "bfloat16" and turns(twin)

    def compare():
        logits, expected = twin.logits_fn()(x), model(x)
        assert not np.array_equal(logits, expected)
        np.testing.assert_allclose(logits, expected, atol=0.02 * np.max(np.abs(expected)))
        exact = input_gradient(AttackTwin(model, "float32").logits_fn(), losses.cross_entropy, x, y).numpy()
        return [
            np.mean(np.sign(input_gradient(other.logits_fn(), losses.cross_entropy, x, y)) == np.sign(exact))
            for other in (twin, AttackTwin(model, "bfloat16", parallel_filters=False))
        ]

    agreement, without = compare()
    assert agreement > 0.94 and agreement > without + 0.05, (agreement, without)
    # Weights that change later are turned by what they are then.
    rng = np.random.default_rng(0)
    model.set_weights([1.1 * values + 0.01 * rng.normal(size=values.shape) for values in model.get_weights()])
    assert compare()[0] > 0.9


def turns(twin):
    return any(isinstance(layer, TurnedConv2D) for layer in twin._clone.layers)


def thresholds(*stack, **first):
    """A network whose first two filters are one."""
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(4, 3, **first), *stack])
    kernel = np.random.default_rng(0).normal(size=(3, 3, 1, 4))
    kernel[..., 1] = kernel[..., 0]
    model.layers[0].set_weights([kernel, np.zeros(4)])
    return model


def head():
    return [layers.Flatten(), layers.Dense(3)]


def branching():
    inputs = keras.Input((8, 8, 1))
    first = layers.ReLU()(layers.Conv2D(4, 3, padding="same")(inputs))
    branches = [layers.Conv2D(4, 3, padding="same")(first), layers.Conv2D(4, 3, padding="same")(first)]
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layers.Add()(branches))))
    model.layers[1].set_weights(thresholds(*head()).layers[0].get_weights())
    return model


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: thresholds(layers.ReLU(), layers.Conv2D(4, 3), *head()), True),
        (lambda: thresholds(layers.Conv2D(4, 3, strides=2), *head(), activation="relu"), True),
        (lambda: thresholds(layers.Conv2D(4, 3, use_bias=False, dilation_rate=2), *head(), activation="relu"), True),
        (lambda: thresholds(layers.MaxPooling2D(2), layers.ReLU(), layers.Conv2D(4, 3), *head()), True),
        # What follows is no convolution, is the last layer with weights, or mixes channels otherwise.
        (lambda: thresholds(layers.ReLU(), *head()), False),
        (lambda: thresholds(layers.ReLU(), layers.Conv2D(3, 3), layers.GlobalAveragePooling2D()), False),
        (lambda: thresholds(layers.ReLU(), layers.Conv2D(4, 3, groups=2), *head()), False),
        (lambda: thresholds(layers.ReLU(), layers.BatchNormalization(), layers.Conv2D(4, 3), *head()), False),
        (lambda: thresholds(layers.Conv2D(4, 3), *head(), activation="tanh"), False),
        (lambda: thresholds(layers.ReLU(), layers.Conv2D(4, 3, dtype="mixed_bfloat16"), *head()), False),
        (branching, False),
        (lambda: challenge_cnn(seed=0, initializer="he_normal"), False),
    ],
)
def test_which_networks_are_turned(build, expected):
    model = build()
    twin = AttackTwin(model, "bfloat16")
    assert turns(twin) == expected
    assert not turns(AttackTwin(model, "float32"))
    x = np.random.default_rng(1).random((3, *model.input_shape[1:]), dtype=np.float32)
    values = model(x).numpy()
    np.testing.assert_allclose(twin.logits_fn()(tf.constant(x)), values, atol=0.05 * np.abs(values).max())


def test_training_does_without():
    trainer = AdversarialTrainer(
        challenge_cnn(seed=0, initializer="thresholds"),
        PGD(ThreatModel("linf", 0.3), 2, 0.1),
        precision="bfloat16",
        seed=0,
    )
    assert trainer.twin.precision == "bfloat16" and not turns(trainer.twin)
