"""Auto-PGD: schedules of the paper, the optimum on linear models, strength, and independence of batch mates."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.attacks.graphs import for_any_batch, perturb
from tfrobust import losses, seeds
from tfrobust.attacks import PGD, apgd_steps
from tfrobust.attacks.apgd import APGD, apgd_ce, apgd_dlr, apgd_t
from tfrobust.threat_models import ThreatModel

NORMS = {"linf": 0.1, "l2": 0.5, "l1": 2.0}


def network(classes=5, shape=(6, 6, 1)):
    keras.utils.set_random_seed(1)
    stack = [layers.Conv2D(8, 3, activation="relu"), layers.Flatten(), layers.Dense(classes)]
    return keras.Sequential([keras.Input(shape), *stack])


def examples(model, count=16, shape=(6, 6, 1)):
    x = np.random.default_rng(0).uniform(size=(count, *shape)).astype(np.float32)
    return tf.constant(x), tf.argmax(model(x), axis=1)


def accuracy(model, x_adv, y):
    return float(np.mean(np.argmax(model(x_adv), axis=1) == y))


def test_checkpoints_are_those_of_the_paper():
    # Section 3.2: p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06).
    assert np.cumsum(apgd_steps.round_lengths("linf", 100)).tolist() == [22, 41, 57, 70, 80, 87, 93, 99, 100]
    assert apgd_steps.round_lengths("l1", 40) == [1] * 40
    assert apgd_steps.phases("l2", 100) == [(1.0, 100)]
    assert apgd_steps.phases("l1", 100) == [(3.0, 30), (2.0, 30), (1.0, 40)]
    for steps in range(1, 60):
        for norm in NORMS:
            assert sum(apgd_steps.round_lengths(norm, steps)) == steps
            assert sum(part for _, part in apgd_steps.phases(norm, steps)) == steps


def test_l1_begins_with_two_thirds_of_the_pixels_that_the_start_has_changed():
    # As in the published code, in every phase: what an earlier one has found to be sparse stays so.
    x = tf.fill([3, 2, 3, 1], 0.5)
    changed = tf.reshape(tf.constant([[0.1] * 6, [0.1, -0.1, 0.1, 0, 0, 0], [0] * 6]), x.shape)
    zeros = tf.zeros([3])
    state = {"x": x, "best_x": x + changed, "loss": zeros, "best_loss": zeros, "rises": zeros, "claimed": zeros > 0}
    begun = apgd_steps.begin(ThreatModel("l1", 2.0), state)
    np.testing.assert_allclose(begun["coordinates"], [4.0, 2.0, 0.0])
    np.testing.assert_allclose(begun["support"], [6.0, 3.0, 0.0])


def test_first_steps_by_hand():
    # One pixel and logits (0, z): the cross-entropy of class 0 rises with z. From x = 0.5 and epsilon 0.2 the first
    # step of 2 epsilon ends at the wall of the ball, 0.7, from wherever it starts; there the margin is largest.
    def logits(x):
        return tf.pad(tf.reshape(x, [-1, 1]) - 2.0, [[0, 0], [1, 0]])

    x, y = tf.fill([1, 1, 1, 1], 0.5), tf.constant([0])
    for steps in (1, 10):
        x_adv = APGD(ThreatModel("linf", 0.2), steps)(logits, x, y, seed=0)
        np.testing.assert_allclose(np.ravel(x_adv), [0.7], atol=1e-6)


def test_halves_the_step_where_the_loss_stops_rising():
    # The loss is 1 - |pixel - 0.613|: full steps of 0.4, 0.2 ... jump over the peak, only halved ones come close.
    def logits(x):
        return tf.pad(1 - tf.abs(tf.reshape(x, [-1, 1]) - 0.613) - 5.0, [[0, 0], [1, 0]])

    x, y = tf.fill([4, 1, 1, 1], 0.5), tf.zeros([4], tf.int64)
    x_adv = perturb(APGD(ThreatModel("linf", 0.2), 100), logits, x, y, seed=1)
    np.testing.assert_allclose(np.ravel(x_adv), [0.613] * 4, atol=0.01)
    rigid = APGD(ThreatModel("linf", 0.2), 100, rho=0.0)
    # With rho 0 a step size falls only where nothing improved since the last checkpoint.
    assert np.abs(np.ravel(perturb(rigid, logits, x, y, seed=1)) - 0.613).max() < 0.05


@pytest.mark.parametrize("norm", NORMS)
def test_reaches_the_optimum_of_a_linear_model(norm):
    weights = np.random.default_rng(2).normal(size=12).astype(np.float32)
    threat = ThreatModel(norm, 0.05 if norm == "linf" else 0.15)

    def logits(x):
        return tf.pad(tf.linalg.matvec(tf.reshape(x, [-1, 12]), weights)[:, tf.newaxis], [[0, 0], [1, 0]]) - [0, 30.0]

    x, y = tf.fill([3, 2, 2, 3], 0.5), tf.zeros([3], tf.int64)
    gain = tf.linalg.matvec(tf.reshape(perturb(APGD(threat, 100), logits, x, y, seed=0) - x, [-1, 12]), weights)
    dual = {"linf": np.abs(weights).sum(), "l2": np.linalg.norm(weights), "l1": np.abs(weights).max()}[norm]
    np.testing.assert_allclose(gain, [threat.epsilon * dual] * 3, rtol=0.02)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("make", [apgd_ce, apgd_dlr, apgd_t])
def test_in_the_ball_decided_by_the_seed_and_at_least_as_strong_as_pgd(norm, make):
    model, threat = network(), ThreatModel(norm, NORMS[norm])
    x, y = examples(model, 32)
    attack = make(threat, steps=20)
    run = tf.function(lambda seed: attack(model, x, y, seed=seed), autograph=False)
    x_adv = run(tf.constant([0, 3]))
    assert x_adv.shape == x.shape and x_adv.dtype == x.dtype
    assert np.all(threat.distance(x_adv, x) <= threat.epsilon + threat.tolerance)
    assert np.min(x_adv) >= 0 and np.max(x_adv) <= 1
    np.testing.assert_array_equal(run(tf.constant([0, 3])), x_adv)
    assert not np.allclose(run(tf.constant([0, 4])), x_adv, atol=1e-3)
    few = perturb(PGD(threat, 20, threat.epsilon / 5), model, x, y, seed=3)
    assert accuracy(model, x_adv, y) <= accuracy(model, few, y) + 1 / 32 < 1


@pytest.mark.parametrize("norm", NORMS)
def test_an_example_does_not_depend_on_its_batch_mates(norm):
    model, threat = network(), ThreatModel(norm, NORMS[norm] / 2)
    x, y = examples(model, 8)
    attack = APGD(threat, 12, loss=losses.dlr_targeted, targets=2, restarts=2)

    def run(x, y, index):
        return attack(model, x, y, seed=seeds.per_example(5, index))

    compiled = for_any_batch(run, x, y, tf.range(8))
    together = compiled(x, y, tf.range(8))
    for i in (0, 5, 7):
        alone = compiled(x[i : i + 1], y[i : i + 1], tf.range(i, i + 1))
        np.testing.assert_allclose(alone[0], together[i], atol=1e-4)


def test_targets_are_tried_from_the_likeliest_on():
    # Class 1 is the runner-up, but only class 2 passes class 0 within the ball: from a mean of 0.7 on.
    def logits(x):
        z = tf.reduce_mean(x, [1, 2])
        return tf.concat([0 * z, 0 * z - 1, 10 * (z - 0.7), 0 * z - 5], axis=1)

    x, y = tf.fill([3, 4, 4, 1], 0.5), tf.zeros([3], tf.int64)
    one, two = (apgd_t(ThreatModel("linf", 0.25), steps=5, targets=n)(logits, x, y, seed=0) for n in (1, 2))
    assert np.all(tf.argmax(logits(one), axis=1) == 0)
    assert np.all(tf.argmax(logits(two), axis=1) == 2)


def test_more_restarts_never_help_the_defender():
    # Many narrow peaks: whether one step ends on one is up to the start.
    def logits(x):
        return tf.pad(tf.sin(40 * tf.reduce_sum(x, [1, 2])) - 0.9, [[0, 0], [1, 0]])

    x, y = tf.fill([200, 4, 4, 1], 0.5), tf.zeros([200], tf.int64)
    fooled = []
    for restarts in (1, 2, 8):
        attack = APGD(ThreatModel("linf", 0.1), steps=1, restarts=restarts)
        x_adv = perturb(attack, logits, x, y, seed=seeds.per_example(1, tf.range(200)))
        fooled.append(np.argmax(logits(x_adv), axis=1) == 1)
    assert 0 < fooled[0].sum() < fooled[1].sum() < fooled[2].sum()
    assert np.all(fooled[1] >= fooled[0]) and np.all(fooled[2] >= fooled[1])


def test_the_judge_decides():
    model, threat = network(), ThreatModel("linf", 0.3)
    x, y = examples(model)
    # Nothing fools this judge: the attack goes on to its end and returns its hardest images, not x.
    x_adv = apgd_ce(threat, steps=5)(model, x, y, seed=0, judge_fn=lambda x: tf.one_hot(y, 5)[: tf.shape(x)[0]])
    assert accuracy(model, x_adv, y) < 0.5


def test_fewer_classes_than_the_ratio_needs():
    model = network(2)
    x, y = examples(model)
    with pytest.warns(UserWarning, match="dlr_targeted needs 4 classes and the classifier has 2: margin_targeted"):
        x_adv = apgd_t(ThreatModel("linf", 0.3), steps=5)(model, x, y, seed=0)
    assert accuracy(model, x_adv, y) < 0.5


def test_expectation_over_noise_averages_gradients():
    # The gradient is 1 + noise of mean 0: with many samples the sign is right, and the pixel goes up.
    generator = tf.random.Generator.from_seed(1)

    def noisy(x):
        slope = 1 + 4 * generator.normal(tf.shape(x)[:1])
        return tf.pad(slope[:, tf.newaxis] * tf.reshape(x, [-1, 1]), [[0, 0], [1, 0]]) - [0, 9.0]

    x, y = tf.fill([64, 1, 1, 1], 0.5), tf.zeros([64], tf.int64)
    ups = [
        np.mean(perturb(APGD(ThreatModel("linf", 0.2), 1, eot_samples=samples), noisy, x, y, seed=0) > 0.69)
        for samples in (1, 100)
    ]
    assert ups[1] > 0.9


@pytest.mark.parametrize(
    ("norm", "few", "many"),
    [
        ("linf", {"eot_samples": 2}, {"eot_samples": 20}),
        ("linf", {"restarts": 1, "steps": 3}, {"restarts": 5, "steps": 100}),
        ("linf", {"loss": losses.dlr_targeted, "targets": 1}, {"loss": losses.dlr_targeted, "targets": 3}),
        ("l1", {"steps": 2}, {"steps": 30}),
    ],
)
def test_the_graph_holds_the_network_as_often_whatever_the_budget(norm, few, many):
    model = network()
    x, y = examples(model, 4)
    calls = []

    def logits(x):
        calls.append(x)
        return model(x)

    for arguments in (few, many):
        attack = functools.partial(APGD(ThreatModel(norm, NORMS[norm]), **arguments), logits, seed=0)
        tf.function(attack, autograph=False).get_concrete_function(x, y)
        calls.append(None)
    # More may be asked of the judge alone: whether an example is done before its next run.
    first = calls.index(None)
    assert first > 0 and len(calls) - 2 - first <= first + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be an integer of 1 or more, got 0"),
        ({"restarts": 1.5}, "restarts must be an integer of 1 or more, got 1.5"),
        ({"targets": -1}, "targets must be an integer of 0 or more, got -1"),
        ({"eot_samples": 0}, "eot_samples must be an integer of 1 or more, got 0"),
        ({"rho": 1.5}, "rho must be from 0 to 1, got 1.5"),
        (
            {"loss": losses.dlr_targeted},
            "targets must be 1 or more with a loss of labels and targets, got 0 w",
        ),
        ({"loss": losses.dlr, "targets": 3}, "targets must be 0 with a loss of labels, got 3 with dlr"),
    ],
)
def test_errors_name_argument_expectation_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        APGD(ThreatModel("linf", 0.1), **arguments)
