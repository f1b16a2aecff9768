"""Red flags of classifiers: one with each pathology, and classifiers without any that raise none."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfrobust import datasets, seeds
from tfrobust.attacks import PGD
from tfrobust.red_flags import inspect_classifier, outputs
from tfrobust.red_flags.probe import Probe
from tfrobust.threat_models import ThreatModel

LINF = ThreatModel("linf", 0.05)
WEIGHTS = np.random.default_rng(1).normal(size=[36, 3]).astype(np.float32)
IMAGES = np.random.default_rng(0).uniform(size=[50, 6, 6, 1]).astype(np.float32)


def linear(x):
    """Three classes, none of them at any distance from plain grey."""
    return tf.reshape(x - 0.5, [-1, 36]) @ WEIGHTS


LABELS = np.argmax(linear(IMAGES), axis=1)


def names(classifier, images=IMAGES, labels=LABELS, threat=LINF, **arguments):
    return {flag.name for flag in inspect_classifier(classifier, images, labels, threat, seed=0, **arguments)}


# No flags.


@pytest.mark.parametrize("threat", [LINF, ThreatModel("linf", 0), ThreatModel("l2", 0.2), ThreatModel("l1", 1.0)])
def test_a_linear_classifier_has_none(threat):
    assert names(linear, threat=threat) == set()


def test_other_bounds():
    scaled = lambda x: linear(x / 255)  # noqa: E731
    assert names(scaled, 255 * IMAGES, threat=ThreatModel("linf", 8, (0, 255))) == set()


@pytest.mark.parametrize("threat", [ThreatModel("linf", 0.05), ThreatModel("l2", 0.5)])
def test_a_trained_model_has_none(digits_model, threat):
    images, labels = datasets.load("digits", "test", num_examples=50)
    assert names(digits_model, images, labels, threat) == set()


@pytest.fixture(scope="module")
def digits_model():
    keras.utils.set_random_seed(0)
    stack = [layers.AveragePooling2D(4), layers.Flatten(), layers.Dense(32, activation="relu"), layers.Dense(10)]
    model = keras.Sequential([keras.Input((28, 28, 1)), *stack])
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*datasets.load("digits", "train"), epochs=8, batch_size=128, verbose=0)
    return model


def test_log_softmax_outputs_are_logits():
    assert names(lambda x: tf.nn.log_softmax(linear(x))) == set()


@pytest.mark.parametrize("count", [1, 3])
def test_few_examples_raise_none(count):
    assert names(linear, IMAGES[:count], LABELS[:count]) == set()


# Outputs.


def test_labels_in_another_order():
    # Nothing is left to attack.
    (flag,) = inspect_classifier(linear, IMAGES, (LABELS + 1) % 3, LINF, seed=0)
    assert flag.name == "natural accuracy no better than chance"
    assert "0 of 50 natural images" in flag.observation and "3 classes would get 16.7" in flag.observation


@pytest.mark.parametrize(("correct", "flagged"), [(16, True), (23, True), (24, False), (50, False)])
def test_an_accuracy_of_guesses(correct, flagged):
    # Of 50 guesses among 3 classes 16.7 are right, with a standard deviation of 3.3.
    logits, labels = np.eye(3)[LABELS], np.where(np.arange(50) < correct, LABELS, (LABELS + 1) % 3)
    assert bool(outputs.guessing(logits, labels)) == flagged
    # Nobody can tell of a few.
    assert not outputs.guessing(logits[-19:], (LABELS[-19:] + 1) % 3)


def test_probabilities():
    flags = inspect_classifier(lambda x: tf.nn.softmax(100 * linear(x)), IMAGES, LABELS, LINF, seed=0)
    assert flags[0].name == "probabilities instead of logits"
    assert "softmax" in flags[0].likely_cause and "50 images" in flags[0].observation
    # And what they do to the gradients.
    assert "zero gradients" in {flag.name for flag in flags}


def test_probabilities_of_each_class():
    flags = inspect_classifier(lambda x: tf.sigmoid(10 * linear(x)), IMAGES, LABELS, LINF, seed=0)
    assert flags[0].name == "probabilities instead of logits" and "sigmoid" in flags[0].likely_cause
    assert flags[0].observation.startswith("All outputs of 50 images lie in [")


@pytest.mark.parametrize(
    ("low", "high", "count", "expected"),
    [(0, 1, 50, 1), (0.05, 0.95, 20, 1), (-0.1, 0.9, 50, 0), (0, 1.1, 50, 0), (0.4, 0.6, 50, 0), (0, 1, 5, 0)],
)
def test_outputs_that_are_near_both_ends(low, high, count, expected):
    assert len(outputs.probabilities(np.float32([[low, high, high]] * count))) == expected


class Noisy(layers.Layer):
    """Adds noise whether it trains or not."""

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), stddev=0.05, seed=self.seed)

    def build(self, shape):
        self.seed = keras.random.SeedGenerator(0)


def noisy_model():
    model = keras.Sequential([keras.Input((6, 6, 1)), Noisy(), layers.Flatten(), layers.Dense(3)])
    model.layers[-1].set_weights([WEIGHTS, -0.5 * WEIGHTS.sum(axis=0)])
    return model


@pytest.mark.parametrize(
    "classifier",
    [
        noisy_model,
        lambda: lambda x: linear(x + tf.random.normal(tf.shape(x), stddev=0.01)),
        # Drawn by Python: in a graph it would be a constant.
        lambda: lambda x: linear(x) + np.random.default_rng().normal(size=3).astype(np.float32),
    ],
)
def test_randomness(classifier):
    assert "randomised classifier" in names(classifier(), max_examples=20)


def test_rounding_is_no_randomness():
    noise = lambda x: 1 + 1e-6 * tf.random.uniform([tf.shape(x)[0], 3], -1, 1)  # noqa: E731
    assert names(lambda x: linear(x) * noise(x)) == set()


# Gradients.


@pytest.mark.parametrize(
    "cut", [tf.round, tf.stop_gradient, lambda x: tf.cast(tf.cast(255 * x, tf.uint8), tf.float32) / 255]
)
def test_no_gradient_is_said_once(cut):
    progress = []
    flags = inspect_classifier(
        lambda x: linear(cut(x)),
        IMAGES,
        np.argmax(linear(cut(IMAGES)), axis=1),
        LINF,
        seed=0,
        on_progress=lambda *arguments: progress.append(arguments),
    )
    assert [flag.name for flag in flags] == ["no gradient"]
    assert "BPDA" in flags[0].likely_cause
    assert progress == [("forward passes", 1, 5), ("gradients", 2, 5)]


def test_a_flat_layer_has_zero_gradients():
    # The gradient of sign is 0 everywhere: PGD is its own random start, and 20 of those fool more than one.
    flat = lambda x: linear(0.5 + 0.25 * tf.sign(x - 0.5))  # noqa: E731
    found = names(flat, labels=np.argmax(flat(IMAGES), axis=1))
    assert {"zero gradients", "noise beats gradients"} <= found
    assert not {"no gradient", "saturated cross-entropy"} & found


def test_logits_too_large_for_the_precision():
    # No scale is too large for float32.
    assert not {"saturated cross-entropy", "zero gradients"} & names(lambda x: 1e4 * linear(x))
    flags = inspect_classifier(
        lambda x: tf.cast(tf.cast(100 * linear(x), tf.float16), tf.float32), IMAGES, LABELS, LINF, seed=0
    )
    flag = {flag.name: flag for flag in flags}["saturated cross-entropy"]
    assert "margin" in flag.observation and "float16" in flag.likely_cause
    assert "zero gradients" not in {flag.name for flag in flags}


def test_gradients_that_are_not_finite():
    # The gradient of sqrt(relu(x - 2)) is infinity times 0.
    broken = lambda x: linear(x) + tf.reduce_sum(tf.sqrt(tf.nn.relu(x - 2)))  # noqa: E731
    # PGD returns NaN, which fools nothing.
    assert {"gradients that are not finite", "unbounded attack fails"} <= names(broken)


# Strength. These classifiers of grey images answer 1 where a function of the pixels is above 0.

GREY, ZEROS = np.full([20, 28, 28, 1], 0.5, np.float32), np.zeros(20, np.int64)


def answers(value):
    return lambda x: tf.pad(value(x)[:, tf.newaxis], [[0, 0], [1, 0]])


def brighter(x):
    """By how much the mean is above grey."""
    return tf.reduce_mean(x - 0.5, axis=[1, 2, 3])


def test_a_ditch_that_only_long_steps_cross():
    # In units of epsilon, the loss rises up to 0.1, falls down to 0.2, and rises from there: above 0 from 0.63 on.
    # A random start of 784 pixels is at 0 +- 0.02. Steps of 1 (FGSM) and 1/4 pass the ditch, steps of 1/40 do not.
    def ditch(x):
        u = brighter(x) / 0.1
        return tf.where(u < 0.1, u - 1, tf.where(u < 0.2, -0.9 - 4 * (u - 0.1), -1.3 + 3 * (u - 0.2)))

    flags = inspect_classifier(answers(ditch), GREY, ZEROS, ThreatModel("linf", 0.1), seed=0)
    assert {flag.name for flag in flags} == {"more steps are weaker", "one step beats many"}
    for flag in flags:
        assert "fools 20 of 20 examples" in flag.observation


def test_a_gradient_that_leads_away():
    # The value is (1, -1) times an image's distance from a plane, its gradient the opposite one's.
    value = lambda x: 2 * tf.stop_gradient(linear(x)) - linear(x)  # noqa: E731
    assert names(value) == {"noise beats gradients", "unbounded attack fails"}


def test_a_flat_loss_in_a_large_ball():
    # Fooled where the mean is 0.1 above grey, as long as the mean square of the changes is at most 0.03. At epsilon
    # 0.125 it is at most 0.0156. At 0.25 it passes 0.03 on the way to its largest value, 0.0625; at 0.5 it starts at
    # 0.083, that of a uniform number.
    def near(x):
        return tf.where(tf.reduce_mean((x - 0.5) ** 2, axis=[1, 2, 3]) > 0.03, -1.0, 10 * (brighter(x) - 0.1))

    assert names(answers(near), GREY, ZEROS, ThreatModel("linf", 0.11)) == {"a larger epsilon is weaker"}


def test_a_constant_classifier():
    # Its robustness is real and its accuracy that of one class.
    constant = lambda x: 0 * linear(x) + [1.0, 2.0, 3.0]  # noqa: E731
    flags = inspect_classifier(constant, IMAGES, LABELS, LINF, seed=0)
    assert [flag.name for flag in flags] == [
        "natural accuracy no better than chance",
        "zero gradients",
        "unbounded attack fails",
    ]
    right = int(np.sum(LABELS == 2))
    assert f"exactly 0 for {right} of {right} images" in flags[1].observation
    assert f"{right / 50:.1%} at 0.5; {right} of 50 examples" in flags[2].observation


# The interface.


@pytest.mark.parametrize("threat", [LINF, ThreatModel("l2", 0.2), ThreatModel("l1", 1.0)])
def test_the_probes_pgd_is_pgd(threat):
    probe = Probe(linear, lambda: linear, IMAGES, LABELS, np.arange(50, dtype=np.int32), threat, 3)
    attack = PGD(threat, 5, 2.5 * threat.epsilon / 5)
    x_adv = attack(linear, tf.constant(IMAGES), LABELS, seed=seeds.per_example(3, tf.range(50)))
    expected = np.argmax(linear(x_adv), axis=1) != LABELS
    assert 5 < np.sum(expected) < 45
    np.testing.assert_array_equal(probe.pgd(threat.epsilon, 5), expected)
    some = np.arange(30, 40, dtype=np.int32)
    probe = Probe(linear, lambda: linear, IMAGES[some], LABELS[some], some, threat, 3)
    np.testing.assert_array_equal(probe.pgd(threat.epsilon, 5), expected[some])


def test_progress_and_max_examples():
    progress, seen = [], []

    def counting(x):
        if tf.executing_eagerly():
            seen.append(x.shape[0])
        return linear(x)

    images, labels = np.tile(IMAGES, [2, 1, 1, 1]), np.tile(LABELS, 2)
    report = lambda *arguments: progress.append(arguments)  # noqa: E731
    assert inspect_classifier(counting, images, labels, LINF, seed=0, max_examples=70, on_progress=report) == []
    checks = ["forward passes", "gradients", "numbers of steps", "random noise", "growing epsilon"]
    assert progress == [(check, i + 1, 5) for i, check in enumerate(checks)]
    assert max(seen) == 50 and sum(seen) == 50 + 2 * 70


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_examples": 0}, "max_examples must be an integer of at least 1, got 0"),
        ({"images": 255 * IMAGES}, r"images must be within \[0.0, 1.0\]"),
        ({"labels": LABELS[:3]}, "labels must be one for each image"),
        ({"labels": LABELS + 1}, r"class for every label, got 3 classes and labels in \[1, 3\]"),
        ({"classifier": lambda x: tf.nn.softmax(linear(x)), "labels": LABELS + 1}, "class for every label"),
        ({"classifier": lambda x: linear(x)[:, 0]}, r"classifier must return logits \[B, K\]"),
        ({"classifier": lambda x: linear(x) * np.nan}, "classifier must return finite logits"),
    ],
)
def test_bad_input(arguments, message):
    given = {"classifier": linear, "images": IMAGES, "labels": LABELS, "threat": LINF, **arguments}
    with pytest.raises(ValueError, match=message):
        inspect_classifier(**given, seed=0)
