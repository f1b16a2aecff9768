"""Targets are never the label, and a targeted attack moves towards its target."""

import numpy as np
import pytest
import tensorflow as tf

from tfrobust import losses, seeds
from tfrobust.attacks import PGD, TargetedPGD
from tfrobust.attacks.targets import least_likely, next_class, random_other, runner_up
from tfrobust.threat_models import ThreatModel

LOGITS = tf.constant([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [-5.0, -5.0, -5.0]])
Y = tf.constant([0, 1, 2, 0])


def test_runner_up():
    # Where the label is not the predicted class, the predicted class is the runner-up.
    np.testing.assert_array_equal(runner_up(LOGITS, Y, 0), [2, 0, 0, 1])


def test_least_likely():
    np.testing.assert_array_equal(least_likely(LOGITS, Y, 0), [1, 2, 1, 1])


def test_next_class():
    np.testing.assert_array_equal(next_class(LOGITS, Y, 0), [1, 2, 0, 1])


def test_random_other_is_uniform_over_the_other_classes():
    y = tf.repeat(tf.range(5), 1000)
    target = random_other(tf.zeros([5000, 5]), y, 3)
    counts = np.zeros([5, 5])
    np.add.at(counts, (y.numpy(), target.numpy()), 1)
    assert np.all(np.diag(counts) == 0)
    # Each of the four others: 250 of 1000, within five standard deviations.
    assert np.all(np.abs(counts[~np.eye(5, dtype=bool)] - 250) < 5 * np.sqrt(1000 * 0.25 * 0.75))
    np.testing.assert_array_equal(random_other(tf.zeros([5000, 5]), y, 3), target)
    assert np.mean(random_other(tf.zeros([5000, 5]), y, 4) == target) < 0.5


def test_random_other_of_an_example_does_not_depend_on_its_batch_mates():
    y = tf.constant([0, 1, 2, 0, 1, 2, 0, 1])
    together = random_other(tf.zeros([8, 50]), y, seeds.per_example(1, tf.range(8)))
    for i in range(8):
        alone = random_other(tf.zeros([1, 50]), y[i : i + 1], seeds.per_example(1, tf.constant([i])))
        assert alone[0] == together[i]


@pytest.mark.parametrize("choose", [runner_up, least_likely, random_other, next_class])
@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
def test_never_the_label(choose, dtype):
    logits = tf.constant(np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32))
    y = tf.cast(np.random.default_rng(1).integers(0, 4, 200), dtype)
    target = choose(logits, y, 0)
    assert target.dtype.is_integer and target.shape == (200,)
    assert np.all((target.numpy() != y.numpy()) & (target.numpy() >= 0) & (target.numpy() < 4))


# Three classes and three pixels; each logit is a weighted sum.
WEIGHTS = tf.constant([[1.0, 0.0, -1.0], [0.0, 2.0, -1.0], [-1.0, 1.0, 1.0]])


def linear(x):
    return tf.reshape(x, [-1, 3]) @ WEIGHTS


def test_moves_towards_the_target_by_hand():
    # x = (0.5, 0.5, 0.5) has logits (0, 1.5, -0.5): with label 1 the runner-up is 0, and the least likely class is 2.
    # The gradient of the targeted margin z_target - max_other z, the other being 1, is the difference of two columns:
    # (1, 0, -1) - (0, 2, 1) = (1, -2, -2) for target 0; (-1, -1, 1) - (0, 2, 1) = (-1, -3, 0) for target 2.
    x, y = tf.fill([1, 1, 3, 1], 0.5), tf.constant([1])
    pgd = PGD(ThreatModel("linf", 0.1), steps=1, step_size=0.1, loss=losses.margin, random_start=False)
    np.testing.assert_allclose(np.ravel(TargetedPGD(pgd)(linear, x, y, seed=0)), [0.6, 0.4, 0.4], atol=1e-6)
    toward_least_likely = TargetedPGD(pgd, target=least_likely)(linear, x, y, seed=0)
    np.testing.assert_allclose(np.ravel(toward_least_likely), [0.4, 0.4, 0.5], atol=1e-6)


def test_targets_of_ones_own_take_the_place_of_the_labels():
    # As above, with targets 0 and 2 for two copies of x.
    x, targets = tf.fill([2, 1, 3, 1], 0.5), tf.constant([0, 2])
    loss = losses.Targeted(losses.margin)
    pgd = PGD(ThreatModel("linf", 0.1), steps=1, step_size=0.1, loss=loss, random_start=False)
    expected = [[0.6, 0.4, 0.4], [0.4, 0.4, 0.5]]
    np.testing.assert_allclose(pgd(linear, x, targets, seed=0)[:, 0, :, 0], expected, atol=1e-6)


def test_restarts_count_reaching_the_target_as_success():
    # With a step size of 0 a run is its random start; the kept one leads to the target by the largest margin.
    x, y = tf.fill([5, 1, 3, 1], 0.5), tf.fill([5], 1)
    threat = ThreatModel("linf", 0.5)
    starts = np.stack([threat.random_start(x, seeds.fold_in(2, r)) for r in range(10)])
    margins = np.stack([losses.margin(linear(start), tf.fill([5], 0)) for start in starts])
    assert np.any(margins < 0) and np.any(margins > 0)
    attack = TargetedPGD(PGD(threat, 1, 0.0, loss=losses.margin, restarts=10))
    expected = starts[margins.argmin(axis=0), np.arange(5)]
    np.testing.assert_array_equal(attack(linear, x, y, seed=2), expected)


def test_restarts_prefer_another_wrong_class_to_the_right_one_with_the_target_close():
    # Dark pixels are class 1, the label, and nearly class 0, the target; bright ones are class 2.
    def logits_fn(x):
        return tf.where(tf.reshape(x, [-1, 1]) > 0.5, [[-5.0, 0.0, 1.0]], [[0.9, 1.0, 0.0]]) + 0 * x[:, 0, 0]

    x, y = tf.fill([5, 1, 1, 1], 0.5), tf.fill([5], 1)
    attack = TargetedPGD(PGD(ThreatModel("linf", 0.5), 1, 0.0, loss=losses.margin, restarts=10))
    assert np.all(attack(logits_fn, x, y, seed=0) > 0.5)


def test_target_comes_from_the_judge():
    # To the judge, class 2 is the runner-up of class 1.
    x, y = tf.fill([1, 1, 3, 1], 0.5), tf.constant([1])
    pgd = PGD(ThreatModel("linf", 0.1), steps=1, step_size=0.1, loss=losses.margin, random_start=False)
    x_adv = TargetedPGD(pgd)(linear, x, y, seed=0, judge_fn=lambda x: linear(x) + [0.0, 0.0, 1.0])
    np.testing.assert_allclose(np.ravel(x_adv), [0.4, 0.4, 0.5], atol=1e-6)
    assert TargetedPGD(pgd).threat == pgd.threat


@pytest.mark.parametrize("dtype", [tf.uint8, tf.int32])
def test_labels_may_be_of_any_integer_type(dtype):
    x, y = tf.fill([3, 1, 3, 1], 0.5), tf.constant([0, 1, 2], tf.int64)
    pgd = PGD(ThreatModel("linf", 0.1), steps=2, step_size=0.1, restarts=2)
    for attack in (pgd, TargetedPGD(pgd)):
        np.testing.assert_array_equal(attack(linear, x, tf.cast(y, dtype), seed=0), attack(linear, x, y, seed=0))
