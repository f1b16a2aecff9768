"""MomentumPGD: two steps by hand in each norm, its state, batches, gradients too small or too large to be summed."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tfrobust import losses, seeds
from tfrobust.attacks.momentum import MomentumPGD
from tfrobust.attacks.pgd import PGD
from tfrobust.threat_models import ThreatModel


def image(*pixels):
    return tf.constant(pixels, shape=[1, 1, len(pixels), 1])


def bumpy(f):
    """Logits (0, f(a, b)) of images of two pixels a and b: the margin of label 0 is f, and ascends its gradient."""

    def logits_fn(x):
        a, b = tf.unstack(tf.reshape(x, [-1, 2]), axis=1)
        value = f(a, b)
        return tf.stack([tf.zeros_like(value), value], axis=1)

    return logits_fn


def two_steps(logits_fn, threat, step_size, decay):
    attack = MomentumPGD(threat, 2, step_size, decay, loss=losses.margin)
    return np.ravel(attack(logits_fn, image(0.0, 0.0), tf.constant([0]), seed=0))


def test_two_linf_steps_by_hand():
    # The gradient is (1 - 4 a, 3 + 8 b). At (0, 0) it is (1, 3), of l1 norm 4: (0.25, 0.75), and x moves to (0.5, 0.5).
    # There it is (-1, 7), of l1 norm 8: (-0.125, 0.875). Summed with decay 1: (0.125, 1.625), so x moves to (1, 1).
    # Forgotten with decay 0, the signs are (-, +), to (0, 1). With decay 0.5 the first entry is 0, to (0.5, 1).
    # Without normalisation the first entry would be 0 with decay 1.
    logits_fn = bumpy(lambda a, b: a - 2 * a**2 + 3 * b + 4 * b**2)
    threat = ThreatModel("linf", 1.0, (-1.0, 1.0))
    for decay, expected in ((1.0, [1, 1]), (0.0, [0, 1]), (0.5, [0.5, 1])):
        np.testing.assert_array_equal(two_steps(logits_fn, threat, 0.5, decay), expected)


def test_two_l2_steps_by_hand():
    # The gradient is (3 - 2 a, 4). At (0, 0) it is (3, 4): x moves by 5 (0.6, 0.8) to (3, 4). There it is (-3, 4).
    # Both have the l1 norm 7; with decay 1 they sum to (0, 8 / 7), and x moves by 5 (0, 1) to (3, 9).
    # With decay 0 it moves by (-3, 4) to (0, 8).
    logits_fn = bumpy(lambda a, b: 3 * a - a**2 + 4 * b)
    threat = ThreatModel("l2", 10.0, (-20.0, 20.0))
    np.testing.assert_allclose(two_steps(logits_fn, threat, 5.0, 1.0), [3, 9], atol=1e-5)
    np.testing.assert_allclose(two_steps(logits_fn, threat, 5.0, 0.0), [0, 8], atol=1e-5)


def test_two_l1_steps_by_hand():
    # With two pixels an l1 step moves the one of largest gradient. The gradient is (3 - 6 a, 2): at (0, 0) the first,
    # to (1, 0). There it is (-3, 2): with decay 1 the sum is (0, 4 / 5), and the second pixel moves, to (1, 1); with
    # decay 0 the first moves back.
    logits_fn = bumpy(lambda a, b: 3 * a - 3 * a**2 + 2 * b)
    threat = ThreatModel("l1", 3.0, (-5.0, 5.0))
    np.testing.assert_allclose(two_steps(logits_fn, threat, 1.0, 1.0), [1, 1], atol=1e-5)
    np.testing.assert_allclose(two_steps(logits_fn, threat, 1.0, 0.0), [0, 0], atol=1e-5)


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(0)
    return [tf.constant(rng.normal(size=size).astype(np.float32)) for size in ((12, 7), (7, 4))]


@pytest.fixture
def logits_fn(weights):
    return lambda x: tf.sin(3 * tf.reshape(x, [-1, 12]) @ weights[0]) @ weights[1]


X = tf.constant(np.random.default_rng(1).uniform(size=(8, 3, 4, 1)).astype(np.float32))
Y = tf.constant([0, 1, 2, 3] * 2)
THREATS = [ThreatModel("linf", 0.1), ThreatModel("l2", 0.5), ThreatModel("l1", 1.5)]


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat.norm)
def test_without_memory_it_is_pgd(logits_fn, threat):
    for random_start in (False, True):
        expected = PGD(threat, 4, threat.epsilon / 3, random_start=random_start)(logits_fn, X, Y, seed=3)
        attack = MomentumPGD(threat, 4, threat.epsilon / 3, decay=0.0, random_start=random_start)
        np.testing.assert_allclose(attack(logits_fn, X, Y, seed=3), expected, atol=1e-6)
        remembering = MomentumPGD(threat, 4, threat.epsilon / 3, random_start=random_start)
        assert np.max(np.abs(remembering(logits_fn, X, Y, seed=3) - expected)) > 0.01


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat.norm)
def test_an_example_does_not_depend_on_its_batch_mates(logits_fn, threat):
    attack = MomentumPGD(threat, 4, threat.epsilon / 3, random_start=True)
    batch = attack(logits_fn, X, Y, seed=seeds.per_example(1, tf.range(8)))
    for i in range(8):
        one = slice(i, i + 1)
        alone = attack(logits_fn, X[one], Y[one], seed=seeds.per_example(1, tf.constant([i])))
        np.testing.assert_allclose(alone[0], batch[i], atol=1e-6)


def test_gradients_of_any_size():
    # f = scale (a + 0.5 b): both steps go along (+, +), whatever the scale; with scale 0 the image stays.
    for scale in (1e-36, 1.0, 1e36):
        actual = two_steps(bumpy(lambda a, b, s=scale: s * (a + 0.5 * b)), ThreatModel("linf", 0.3), 0.1, 1.0)
        np.testing.assert_allclose(actual, [0.2, 0.2], atol=1e-6)
    actual = two_steps(bumpy(lambda a, b: 0 * a), ThreatModel("linf", 0.3), 0.1, 1.0)
    np.testing.assert_array_equal(actual, [0, 0])


def test_compiled_for_batches_of_any_size(logits_fn):
    attack = MomentumPGD(THREATS[0], 3, 0.05, random_start=True)
    signature = [tf.TensorSpec([None, 3, 4, 1]), tf.TensorSpec([None], tf.int32)]
    compiled = tf.function(functools.partial(attack, logits_fn, seed=0), input_signature=signature)
    for count in (8, 3):
        expected = attack(logits_fn, X[:count], Y[:count], seed=0)
        np.testing.assert_allclose(compiled(X[:count], Y[:count]), expected, atol=1e-6)


def test_scaled():
    assert MomentumPGD(ThreatModel("l2", 1.0), 2, 0.1).scaled(0.5) == MomentumPGD(ThreatModel("l2", 0.5), 2, 0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be an integer of 1 or more, got 0"),
        ({"step_size": -0.1}, "step_size must be 0 or more, got -0.1"),
        ({"decay": -1.0}, "decay must be 0 or more, got -1.0"),
        ({"decay": float("nan")}, "decay must be 0 or more, got nan"),
    ],
)
def test_errors_name_argument_expectation_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        MomentumPGD(**{"threat": THREATS[0], "steps": 2, "step_size": 0.1, **arguments})
