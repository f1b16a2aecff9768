"""ODI: its starts by hand on a linear model, how far they move the logits, restarts, batches."""

import numpy as np
import pytest
import tensorflow as tf

from tfrobust import losses, seeds
from tfrobust.attacks.odi import ODI
from tfrobust.attacks.pgd import PGD
from tfrobust.threat_models import ThreatModel

# Three classes and four pixels; each logit is a weighted sum.
WEIGHTS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def linear(x):
    return tf.reshape(x, [-1, 4]) @ WEIGHTS


def still(threat, **arguments):
    """A PGD that stays where it starts."""
    return PGD(threat, 1, 0.0, **arguments)


def directions(seed, run, count, classes):
    """The direction w of each example's run."""
    seed = seeds.fold_in_each(seeds.for_each_example(seed, count), tf.fill([count], run))
    return seeds.uniform(seeds.fold_in(seed, 1), tf.zeros([count, classes]), -1.0, 1.0).numpy()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_one_step_by_hand(norm):
    # w . (x W) has the gradient W w: one step of epsilon along its sign, as a unit vector, or by its largest entry.
    w = directions(5, 0, 6, 3)
    gradient = w @ WEIGHTS.T
    step = {
        "linf": np.sign(gradient),
        "l2": gradient / np.linalg.norm(gradient, axis=1, keepdims=True),
        "l1": np.sign(gradient) * (np.abs(gradient) == np.abs(gradient).max(axis=1, keepdims=True)),
    }[norm]
    x, y = tf.fill([6, 1, 4, 1], 0.5), tf.zeros([6], tf.int32)
    attack = ODI(still(ThreatModel(norm, 0.2), random_start=False), steps=1)
    np.testing.assert_allclose(attack(linear, x, y, seed=5)[:, 0, :, 0], 0.5 + 0.2 * step, atol=1e-6)
    assert np.all(np.abs(w) <= 1) and len(np.unique(w)) == w.size


def test_pgd_goes_on_from_there_by_hand():
    # As above with a step of 0.1, and then 0.05 along the sign of PGD's own gradient, that of z_1 - z_0 for K = 2.
    weights = WEIGHTS[:, :2]
    x, y = tf.fill([6, 1, 4, 1], 0.5), tf.zeros([6], tf.int32)
    pgd = PGD(ThreatModel("linf", 0.2), 1, 0.05, random_start=False)
    actual = ODI(pgd, steps=1, step_size=0.1)(lambda x: tf.reshape(x, [-1, 4]) @ weights, x, y, seed=5)
    expected = 0.1 * np.sign(directions(5, 0, 6, 2) @ weights.T) + 0.05 * np.sign(weights[:, 1] - weights[:, 0])
    np.testing.assert_allclose(actual[:, 0, :, 0], 0.5 + expected, atol=1e-6)


def test_starts_move_the_logits_farther_than_random_ones():
    x, y, threat = tf.fill([50, 1, 4, 1], 0.5), tf.zeros([50], tf.int32), ThreatModel("linf", 0.2)

    def moved(attack):
        return np.linalg.norm(linear(attack(linear, x, y, seed=1)) - linear(x), axis=1).mean()

    assert moved(ODI(still(threat))) > 1.3 * moved(still(threat))


def test_each_restart_has_its_own_direction():
    # Without noise of its own, only w makes runs differ. The first of the runs that fools is returned.
    pixels = np.random.default_rng(1).uniform(0.3, 0.7, size=(20, 4)).astype(np.float32)
    x, y = tf.reshape(pixels, [20, 1, 4, 1]), np.argmax(pixels @ WEIGHTS, axis=1)
    threat = ThreatModel("linf", 0.09)
    runs = np.stack([pixels + 0.09 * np.sign(directions(3, run, 20, 3) @ WEIGHTS.T) for run in range(6)])
    fools = np.argmax(runs @ WEIGHTS, axis=2) != y
    assert len(set(fools.argmax(axis=0))) > 2
    # Of random starts nothing is left after steps of 2 epsilon along a constant gradient.
    attack = ODI(still(threat, restarts=6), steps=1, step_size=0.18)
    expected = runs[fools.argmax(axis=0), np.arange(20)]
    np.testing.assert_allclose(attack(linear, x, y, seed=3)[:, 0, :, 0], expected, atol=1e-6)


def test_scaled():
    pgd = PGD(ThreatModel("l2", 1.0), 2, 0.1)
    assert ODI(pgd).scaled(0.5) == ODI(pgd.scaled(0.5))
    assert ODI(pgd, step_size=1.0).scaled(0.5) == ODI(pgd.scaled(0.5), step_size=0.5)
    assert ODI(pgd).threat == pgd.threat


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be an integer of 1 or more, got 0"),
        ({"step_size": -0.1}, "step_size must be 0 or more, or None for epsilon, got -0.1"),
        ({"attack": still(ThreatModel("l2", 1.0), loss=losses.Targeted())}, "attack must have an untargeted loss"),
    ],
)
def test_errors_name_argument_expectation_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        ODI(**{"attack": still(ThreatModel("l2", 1.0)), **arguments})
