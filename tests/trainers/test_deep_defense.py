"""Deep Defense: the regulariser by hand, its gradient, and what a training step does with it."""

import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.attacks import linear_models
from tfrobust import datasets
from tfrobust.attacks import fgsm
from tfrobust.attacks.deepfool_perturbation import deepfool_perturbation
from tfrobust.metrics import RhoMeter
from tfrobust.perturbation_size import norm_of, relative_size
from tfrobust.threat_models import ThreatModel
from tfrobust.trainers import DeepDefense, DeepDefenseTrainer

# Class 1 against class 0 is x0 - 2: from (1, 0) the boundary is 1 away, from (4, 0) it is 2.
LOGITS = linear_models.affine([[0, 1], [0, 0]], [0, -2])
X = np.random.default_rng(0).uniform(size=(12, 6, 6, 1)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 12)


def images(*rows):
    return tf.constant(rows, shape=[len(rows), 1, 2, 1])


def test_sizes_by_hand():
    delta, x = images((3.0, 4.0), (0.0, 0.0), (1.0, 0.0)), images((0.0, 10.0), (1.0, 0.0), (0.0, 0.0))
    np.testing.assert_allclose(relative_size(delta, x, "l2"), [0.5, 0, math.inf])
    np.testing.assert_allclose(relative_size(delta, x, "linf"), [0.4, 0, math.inf])
    center = np.reshape([0.0, 5.0], [1, 2, 1])
    np.testing.assert_allclose(relative_size(delta, x, "l2", center)[0], 1.0)


def test_the_regulariser_by_hand():
    regularizer = DeepDefense(strength=2, c=3, d=5, iterations=3)
    terms = regularizer(LOGITS, images((1.0, 0.0), (4.0, 3.0)), tf.constant([0, 0]))
    # The first is right and 1.02 away, of norm 1; the second wrong and 2.04 from its class, of norm 5.
    np.testing.assert_allclose(terms, [2 * math.exp(-3 * 1.02), 2 * math.exp(5 * 2.04 / 5)], rtol=1e-5)


@pytest.mark.parametrize("labels", [(0, 1), (1, 0)])
def test_batches_with_no_wrong_and_no_right_example(labels):
    terms = DeepDefense(strength=1, c=1, d=1)(LOGITS, images((1.0, 0.0), (4.0, 0.0)), tf.constant(labels))
    sign = -1 if labels == (0, 1) else 1
    np.testing.assert_allclose(terms, np.exp(sign * np.array([1.02, 0.51])), rtol=1e-5)


def test_an_image_of_norm_0_adds_nothing():
    weight = tf.Variable(1.0)
    with tf.GradientTape() as tape:
        terms = DeepDefense()(lambda x: weight * LOGITS(x), images((0.0, 0.0), (1.0, 0.0)), tf.constant([1, 0]))
    assert terms[0] == 0 and terms[1] > 0
    assert np.isfinite(tape.gradient(terms, weight))


def test_sizes_beyond_squares_of_floats():
    delta = tf.constant([[3e-30, 4e-30], [3e30, 4e30]])
    with tf.GradientTape() as tape:
        tape.watch(delta)
        sizes = norm_of(delta, "l2")
    np.testing.assert_allclose(sizes, [5e-30, 5e30], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(sizes, delta), [[0.6, 0.8]] * 2, rtol=1e-6)


def test_huge_exponents_stay_finite():
    bias = tf.Variable(0.0)
    with tf.GradientTape() as tape:
        # Wrong, and 100 norms away from its class.
        terms = DeepDefense(d=5)(lambda x: LOGITS(x) + bias * [0.0, 1.0], images((102.0, 0.0)) / 100, tf.constant([1]))
        far = DeepDefense(d=50)(lambda x: LOGITS(x - 99.0) + bias * [0.0, 1.0], images((1.0, 0.0)), tf.constant([1]))
    assert np.isfinite(terms) and np.isfinite(far) and far > 1e13
    # far = 15 e^30 (1 + log(1 + z - 30)), z = 50 * 1.02 * (100 - bias): a hundred norms from its class, which the bias
    # brings nearer.
    slope = -15 * math.exp(30) * 50 * 1.02 / (50 * 1.02 * 100 - 29)
    assert tape.gradient(far, bias).numpy() == pytest.approx(slope, rel=1e-4)


def test_a_misclassified_image_far_from_any_boundary():
    # Of class 0 by 0.5, and with so flat a network the label is half of 1e17 pixels away.
    weight = tf.Variable(1e-17)
    with tf.GradientTape() as tape:
        logits_fn = lambda x: weight * (LOGITS(x) + [0.0, 2.0]) - [0.0, 0.5]  # noqa: E731
        terms = DeepDefense()(logits_fn, images((0.5, 0.5)), tf.constant([1]))
    assert terms[0] > 15 * math.exp(30) and np.isfinite(terms) and np.isfinite(tape.gradient(terms, weight))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_tiny_gradients_of_the_network_are_no_nan(norm):
    # f = w (x0 - 1): half a pixel away for any w, whose square is below the smallest number here.
    weight = tf.Variable(1e-25)
    with tf.GradientTape() as tape:
        logits_fn = lambda x: weight * (LOGITS(x) + [0.0, 1.0])  # noqa: E731
        terms = DeepDefense(norm=norm)(logits_fn, images((0.5, 0.5)), tf.constant([0]))
    size = 1.02 * (0.5**0.5 if norm == "l2" else 1)
    np.testing.assert_allclose(terms, [15 * math.exp(-25 * size)], rtol=1e-4)
    assert np.isfinite(tape.gradient(terms, weight))


def test_what_is_not_finite_shows():
    terms = DeepDefense()(lambda x: LOGITS(x) * [1.0, np.nan], images((0.5, 0.5)), tf.constant([0]))
    assert not np.isfinite(terms)
    assert not np.isfinite(DeepDefense()(LOGITS, images((math.nan, 0.5)), tf.constant([0])))


@pytest.mark.parametrize(
    ("argument", "value"),
    [("strength", -1.0), ("c", -0.1), ("d", -0.1), ("d", math.nan), ("iterations", 0), ("norm", "l1"), ("c", math.inf)],
)
def test_arguments_out_of_range(argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be .* got"):
        DeepDefense(**{argument: value})


# Training.


def classifier():
    keras.utils.set_random_seed(1)
    stack = [layers.Conv2D(4, 3, activation="relu", name="conv"), layers.BatchNormalization(name="bn")]
    return keras.Sequential([keras.Input((6, 6, 1)), *stack, layers.Flatten(), layers.Dense(3, name="logits")])


def trainer_of(model, regularizer, attack=None, learning_rate=0.1, **options):
    options = {"seed": 0, "precision": "float32", "natural_accuracy_every": 0, **options}
    trainer = DeepDefenseTrainer(model, regularizer, attack, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainer.compile(keras.optimizers.SGD(learning_rate), loss)
    return trainer


def fit(trainer, x=X, y=Y, **options):
    return trainer.fit(x, y, **{"batch_size": len(x), "shuffle": False, "verbose": 0, **options}).history


def hand_made_gradients(model, regularizer, x_trained, x=X, y=Y):
    """The gradients of the mean cross-entropy on `x_trained` and of the mean regulariser on `x`, by equation (6)."""
    infer = functools.partial(model, training=False)
    with tf.GradientTape(persistent=True) as tape:
        cross_entropy = keras.losses.sparse_categorical_crossentropy(y, infer(x_trained), from_logits=True)
        cross_entropy = tf.reduce_mean(cross_entropy)
        delta = deepfool_perturbation(infer, tf.constant(x), y, iterations=regularizer.iterations).delta
        size = tf.norm(tf.reshape(delta, [len(x), -1]), axis=1) / tf.norm(tf.reshape(x, [len(x), -1]), axis=1)
        right = tf.argmax(infer(x), axis=1) == y
        terms = tf.where(right, tf.exp(-regularizer.c * size), tf.exp(regularizer.d * size))
        value = regularizer.strength * tf.reduce_mean(terms)
    assert 0 < np.sum(right) < len(x)
    gradients = [
        tape.gradient(total, model.trainable_variables, unconnected_gradients="zero")
        for total in (cross_entropy, value)
    ]
    return gradients, float(cross_entropy), float(value)


@pytest.mark.parametrize("attack", [None, fgsm(ThreatModel("linf", 0.1))])
def test_a_step_is_the_update_of_equation_6(attack):
    regularizer = DeepDefense(strength=0.5, c=4, d=2, iterations=3)
    model, expected = classifier(), classifier()
    trainer = trainer_of(model, regularizer, attack)
    x_trained = trainer.perturb(tf.constant(X), tf.constant(Y))
    (first, second), cross_entropy, value = hand_made_gradients(expected, regularizer, x_trained)
    assert max(np.max(np.abs(gradient)) for gradient in second) > 1e-3
    moving = [variable.numpy() for variable in model.get_layer("bn").non_trainable_variables]
    history = fit(trainer)
    assert history["loss"][0] == pytest.approx(cross_entropy + value, rel=1e-5)
    assert history["regularizer"][0] == pytest.approx(value, rel=1e-5)
    for variable, before, a, b in zip(
        model.trainable_variables, expected.trainable_variables, first, second, strict=True
    ):
        np.testing.assert_allclose(variable, before - 0.1 * (a + b), atol=1e-6)
    for variable, before in zip(model.get_layer("bn").non_trainable_variables, moving, strict=True):
        np.testing.assert_array_equal(variable, before)


def test_the_regulariser_moves_the_named_layers_only():
    regularizer = DeepDefense(strength=0.5, c=4, d=2, iterations=3)
    model, expected = classifier(), classifier()
    (first, second), *_ = hand_made_gradients(expected, regularizer, X)
    fit(trainer_of(model, regularizer, layers=["logits"]))
    for variable, before, a, b in zip(
        model.trainable_variables, expected.trainable_variables, first, second, strict=True
    ):
        step = a + b if "logits" in variable.path else a
        np.testing.assert_allclose(variable, before - 0.1 * step, atol=1e-6)


@pytest.mark.parametrize("names", [["flatten"], ["nowhere"], [], ()])
def test_layers_that_have_no_weights(names):
    with pytest.raises(ValueError, match=r"layers must be some of those with weights \(conv, bn, logits\), got"):
        trainer_of(classifier(), DeepDefense(), layers=names)


@pytest.mark.parametrize("names", [None, ["conv"]])
def test_layers_that_are_unfrozen_later_are_moved_too(names):
    regularizer = DeepDefense(strength=0.5, c=4, d=2, iterations=3)
    model, expected = classifier(), classifier()
    fit(trainer_of(expected, regularizer, layers=names))
    conv = model.get_layer("conv")
    # A trainer of all layers is made while this one is frozen; one of named layers wants it trainable.
    conv.trainable = names is not None
    trainer = trainer_of(model, regularizer, layers=names)
    conv.trainable = False
    fit(trainer)
    conv.trainable = True
    model.set_weights(classifier().get_weights())
    trainer.compile(keras.optimizers.SGD(0.1), trainer.loss)
    fit(trainer)
    for weight, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(weight, other, atol=1e-6)


def test_another_regulariser_between_two_fits_counts():
    trainer = trainer_of(classifier(), DeepDefense(strength=0.5, c=4, d=2, iterations=3), learning_rate=0.0)
    before = fit(trainer)["regularizer"]
    trainer.regularizer = DeepDefense(strength=0.0)
    assert before[0] > 0 and fit(trainer)["regularizer"] == [0.0]


def test_training_pushes_boundaries_away():
    data = datasets.load("digits", "train")
    keras.utils.set_random_seed(0)
    stack = [layers.AveragePooling2D(2), layers.Flatten(), layers.Dense(40, "relu"), layers.Dense(10)]
    model = keras.Sequential([keras.Input((28, 28, 1)), *stack])
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(data.images, data.labels, epochs=10, batch_size=100, verbose=0)
    weights = model.get_weights()

    rho = RhoMeter(model, iterations=20, precision="float32")

    def accuracy():
        return np.mean(np.argmax(model(data.images), axis=1) == data.labels)

    found = {}
    for strength in (0.0, 15.0):
        model.set_weights(weights)
        fit(
            trainer_of(model, DeepDefense(strength=strength, c=10, d=5, iterations=2), learning_rate=0.1),
            data.images,
            data.labels,
            batch_size=100,
            epochs=6,
        )
        found[strength] = rho(data.images[:300]).value, accuracy()
    assert found[15.0][0] > 1.2 * found[0.0][0]
    assert found[15.0][1] > found[0.0][1] - 0.04
