"""DeepFool's perturbation as a function of the weights."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.attacks import linear_models
from tfrobust.attacks.deepfool_perturbation import deepfool_perturbation

OVERSHOOT = 0.02


def test_a_linear_model_in_closed_form():
    # The classes' logits are 0, x0 - 2 and 2 x1 - 1, so that from (0, 0) the boundaries are 2 and 1/2 away in l2.
    logits_fn = linear_models.affine([[0, 1, 0], [0, 0, 2]], [0, -2, -1])
    x = linear_models.image(0.0, 0.0)
    for iterations in (1, 3):
        found = deepfool_perturbation(logits_fn, x, tf.constant([0]), iterations=iterations)
        np.testing.assert_allclose(tf.reshape(found.delta, [-1]), [0, 0.5 * (1 + OVERSHOOT)], rtol=1e-6)
        assert found.crossed.numpy().tolist() == [True]


def test_linf_steps_along_the_sign():
    # f = 1 - (x0 + 3 x1) is crossed at |f| / |w|_1 = 1/4 in both pixels.
    logits_fn = linear_models.affine([[0, 1], [0, 3]], [1, 0])
    x = linear_models.image(0.0, 0.0)
    found = deepfool_perturbation(logits_fn, x, tf.constant([0]), iterations=2, norm="linf")
    np.testing.assert_allclose(tf.reshape(found.delta, [-1]), [0.255, 0.255], rtol=1e-6)


def test_what_is_wrong_moves_toward_its_label():
    # It is taken for 1, by (1, 1) . x + 1 against 0, and is told to be 0: it goes down by 1 / sqrt(2).
    logits_fn = linear_models.affine([[0, 1], [0, 1]], [0, 1])
    x = linear_models.image(0.0, 0.0)
    found = deepfool_perturbation(logits_fn, x, tf.constant([0]), iterations=3)
    np.testing.assert_allclose(tf.reshape(found.delta, [-1]), [-0.51, -0.51], rtol=1e-6)
    assert found.crossed.numpy().tolist() == [True]


def smooth_network():
    """A network without corners, and images of which the last two are misclassified, all in float64."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    convolution = layers.Conv2D(3, 3, activation="tanh", dtype="float64")
    hidden, logits = layers.Dense(6, activation="softplus", dtype="float64"), layers.Dense(4, dtype="float64")
    stack = [convolution, layers.Flatten(dtype="float64"), hidden, logits]
    model = keras.Sequential([keras.Input((4, 4, 1), dtype="float64"), *stack])
    x = tf.constant(np.random.default_rng(0).normal(size=(6, 4, 4, 1)))
    y = tf.argmax(model(x), axis=-1)
    return model, x, tf.concat([y[:4], (y[4:] + 1) % 4], axis=0)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("iterations", [1, 2, 4])
def test_gradient_against_finite_differences(norm, iterations):
    model, x, y = smooth_network()

    @tf.function(autograph=False)
    def value():
        found = deepfool_perturbation(functools.partial(model, training=False), x, y, iterations=iterations, norm=norm)
        # Each image counts differently.
        return tf.reduce_sum(tf.norm(tf.reshape(found.delta, [6, -1]), axis=1) * tf.range(1, 7, dtype=tf.float64))

    @tf.function(autograph=False)
    def gradients():
        with tf.GradientTape() as tape:
            total = value()
        return tape.gradient(total, model.trainable_variables)

    random = np.random.default_rng(1)
    for variable, gradient in zip(model.trainable_variables, gradients(), strict=True):
        start, direction, small = variable.numpy(), random.normal(size=variable.shape), 1e-6
        variable.assign(start + small * direction)
        above = value()
        variable.assign(start - small * direction)
        below = value()
        variable.assign(start)
        assert np.sum(gradient * direction) == pytest.approx(float(above - below) / (2 * small), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_loop_makes_the_same_steps_and_has_no_gradient(norm):
    model, x, y = smooth_network()
    find = functools.partial(deepfool_perturbation, functools.partial(model, training=False), x, y, norm=norm)
    with tf.GradientTape() as tape:
        looped = find(iterations=3, differentiable=False)
    assert tape.gradient(looped.delta, model.trainable_variables[0]) is None
    unrolled = find(iterations=3)
    np.testing.assert_array_equal(looped.delta, unrolled.delta)
    np.testing.assert_array_equal(looped.crossed, unrolled.crossed)
    assert find(iterations=20).crossed.numpy().all()


def test_no_image_depends_on_its_batch_mates():
    model, x, y = smooth_network()
    together = deepfool_perturbation(model, x, y, iterations=5).delta
    alone = [deepfool_perturbation(model, x[i : i + 1], y[i : i + 1], iterations=5).delta for i in range(6)]
    np.testing.assert_allclose(together, tf.concat(alone, axis=0), rtol=1e-10)


def test_fewer_candidates_and_another_network_that_chooses():
    # Boundaries of class 0: with 1, the likelier one, it is 2 away, with 2 only 1/2.
    logits_fn = linear_models.affine([[0, 1, 0], [0, 0, 8]], [0, -2, -4])
    x = linear_models.image(0.0, 0.0)
    nearest = deepfool_perturbation(logits_fn, x, tf.constant([0]), iterations=1).delta
    np.testing.assert_allclose(tf.reshape(nearest, [-1]), [0, 0.51], rtol=1e-6)
    likeliest = deepfool_perturbation(logits_fn, x, tf.constant([0]), iterations=1, candidates=2).delta
    np.testing.assert_allclose(tf.reshape(likeliest, [-1]), [2.04, 0], rtol=1e-6)
    chooser = linear_models.affine([[0, 8, 0], [0, 0, 1]], [0, -2, -4])
    chosen = deepfool_perturbation(logits_fn, x, tf.constant([0]), iterations=1, choose_fn=chooser).delta
    np.testing.assert_allclose(chosen, likeliest, rtol=1e-6)


def test_a_network_that_ignores_its_input():
    logits_fn = linear_models.affine([[0, 0], [0, 0]], [1, 0])
    x, weight = linear_models.image(0.0, 0.0), tf.Variable(1.0)
    with tf.GradientTape() as tape:
        found = deepfool_perturbation(lambda x: weight * logits_fn(x), x, tf.constant([0]), iterations=2)
    assert not found.delta.numpy().any() and not found.crossed.numpy().any()
    assert tape.gradient(found.delta, weight).numpy() == 0


@pytest.mark.parametrize(
    ("argument", "value"), [("iterations", 0), ("overshoot", -0.1), ("candidates", 1), ("norm", "l1")]
)
def test_arguments_out_of_range(argument, value):
    logits_fn = linear_models.affine([[0, 1], [0, 3]], [1, 0])
    arguments = {"iterations": 1, argument: value}
    with pytest.raises(ValueError, match=f"{argument} must be .* got {value!r}"):
        deepfool_perturbation(logits_fn, linear_models.image(0.0, 0.0), tf.constant([0]), **arguments)
