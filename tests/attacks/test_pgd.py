"""PGD and its special cases: exact steps on linear models, the challenge's loop, restarts judged example by example,
one compiled graph."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfrobust import losses, seeds
from tfrobust.attacks import PGD, fgsm
from tfrobust.attacks.base import input_gradient
from tfrobust.attacks.pgd import RFGSM, bim
from tfrobust.threat_models import ThreatModel

LINF, L2 = ThreatModel("linf", 0.3), ThreatModel("l2", 1.0)
# Its activation is smooth, so that rounding does not decide the sign of a gradient.


def linear(*weights):
    """Logits (0, w . x) of images of len(weights) pixels."""
    return lambda x: tf.pad(
        tf.reshape(x, [-1, len(weights)]) @ tf.constant(weights, shape=[len(weights), 1]), [[0, 0], [1, 0]]
    )


def image(*pixels):
    return tf.constant(pixels, shape=[1, 1, len(pixels), 1])


# Exact steps.


def test_fgsm_by_hand():
    # With label 0 the cross-entropy of (0, w . x) is log(1 + exp(w . x)): its gradient is w times a positive number,
    # so x moves by 0.1 sign(w) = (0.1, -0.1, 0, 0.1) and the box cuts the second pixel at 0, the fourth at 1.
    # With label 1 it moves the other way.
    logits_fn, x = linear(2.0, -1.0, 0.0, 3.0), image(0.5, 0.05, 0.5, 0.95)
    attack = fgsm(ThreatModel("linf", 0.1))
    np.testing.assert_allclose(
        np.ravel(attack(logits_fn, x, tf.constant([0]), seed=0)), [0.6, 0.0, 0.5, 1.0], atol=1e-7
    )
    np.testing.assert_allclose(
        np.ravel(attack(logits_fn, x, tf.constant([1]), seed=0)), [0.4, 0.15, 0.5, 0.85], atol=1e-7
    )


def test_l2_step_by_hand():
    # The unit gradient is (0.6, 0.8). A step of 0.25 stays in the ball of radius 0.5; a second and a third one leave
    # it, and come back to its surface.
    logits_fn, x, y = linear(3.0, 4.0), image(0.1, 0.2), tf.constant([0])
    for steps, expected in ((1, [0.25, 0.4]), (2, [0.4, 0.6]), (3, [0.4, 0.6])):
        attack = PGD(ThreatModel("l2", 0.5), steps, step_size=0.25, random_start=False)
        np.testing.assert_allclose(np.ravel(attack(logits_fn, x, y, seed=0)), expected, atol=1e-6)
    np.testing.assert_allclose(np.ravel(fgsm(ThreatModel("l2", 0.5))(logits_fn, x, y, seed=0)), [0.4, 0.6], atol=1e-6)


def test_l1_step_by_hand():
    # Of two pixels a step moves the one whose gradient is larger, up to the wall: there the projection cuts it.
    logits_fn, x, y = linear(3.0, -4.0), image(0.5, 0.5), tf.constant([0])
    for steps, expected in ((1, [0.5, 0.2]), (2, [0.5, 0.0])):
        attack = PGD(ThreatModel("l1", 0.8), steps, step_size=0.3, random_start=False)
        np.testing.assert_allclose(np.ravel(attack(logits_fn, x, y, seed=0)), expected, atol=1e-6)


def test_run_from_a_start_by_hand():
    # One step of 0.1 along (+, -) from (0.6, 0.45); the ball of radius 0.1 around (0.5, 0.5) cuts the first pixel.
    # The loss is its own business: here it gets a weight as its y.
    attack = PGD(ThreatModel("linf", 0.1), 1, 0.1, loss=lambda logits, weight: weight * logits[:, 1])
    x, x_start = image(0.5, 0.5), image(0.6, 0.45)
    x_adv = attack.run_from(linear(2.0, -1.0), x, tf.constant([3.0]), x_start)
    np.testing.assert_allclose(np.ravel(x_adv), [0.6, 0.4], atol=1e-6)
    np.testing.assert_array_equal(attack.start(x, 4), attack.threat.random_start(x, 4))
    np.testing.assert_array_equal(dataclasses.replace(attack, random_start=False).start(x, 4), x)


def test_bim_has_no_random_start():
    threat = ThreatModel("linf", 0.3)
    assert bim(threat, 4, 0.1, losses.margin) == PGD(threat, 4, 0.1, losses.margin, random_start=False)
    assert bim(threat) == PGD(threat, 10, 1.25 * 0.3 / 10, random_start=False)
    # Four steps of 0.09375 reach 0.3 and stay there.
    x_adv = bim(threat, 4)(linear(2.0, -1.0), image(0.5, 0.5), tf.constant([0]), seed=0)
    np.testing.assert_allclose(np.ravel(x_adv), [0.8, 0.2], atol=1e-6)
    with pytest.raises(ValueError, match="steps must be an integer of 1 or more, got 0"):
        bim(threat, 0)


def test_r_fgsm_by_hand():
    # With alpha = 0.1 of epsilon = 0.4 a pixel moves by 0.3 s + 0.1 r, s being the gradient's sign and r a random one:
    # by 0.4 s or 0.2 s, and by 0.1 r where the gradient is 0. Without a random step it is FGSM.
    weights = np.tile([1.0, -1.0, 0.0], 100).astype(np.float32)
    x, y, threat = tf.fill([1, 1, 300, 1], 0.5), tf.constant([0]), ThreatModel("linf", 0.4)
    delta = np.ravel(RFGSM(threat, random_fraction=0.25)(linear(*weights), x, y, seed=0) - x)
    moved, still = (delta * weights)[weights != 0], delta[weights == 0]
    assert np.all(np.isclose(moved, 0.4, atol=1e-6) | np.isclose(moved, 0.2, atol=1e-6))
    assert np.all(np.isclose(np.abs(still), 0.1, atol=1e-6))
    # Each sign in half of the cases, within five standard deviations.
    assert abs(np.mean(moved > 0.3) - 0.5) < 5 * 0.5 / np.sqrt(200) and abs(np.mean(still > 0) - 0.5) < 5 * 0.05
    fgsm_like = RFGSM(threat, random_fraction=0)(linear(*weights), x, y, seed=0)
    np.testing.assert_array_equal(fgsm_like, fgsm(threat)(linear(*weights), x, y, seed=0))
    assert RFGSM(threat).scaled(0.5) == RFGSM(ThreatModel("linf", 0.2))


def test_r_fgsm_takes_its_gradient_after_the_random_step(model, x, y):
    # The random step is what an attack of the same seed without a gradient leaves of it.
    threat = ThreatModel("linf", 0.2)
    sign = np.sign(RFGSM(threat)(lambda x: 0 * model(x), x, y, seed=3) - x)
    halfway = tf.clip_by_value(x + 0.1 * sign, 0, 1)
    gradient = input_gradient(model, losses.cross_entropy, halfway, y)
    expected = tf.clip_by_value(halfway + 0.1 * tf.sign(gradient), 0, 1)
    np.testing.assert_allclose(RFGSM(threat)(model, x, y, seed=3), expected, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_more_steps_never_lower_the_loss_of_a_linear_model(norm):
    # The step is along a constant gradient, and the projection moves no farther from the maximum than it came.
    weights = np.random.default_rng(1).normal(size=12).astype(np.float32)
    logits_fn, y = linear(*weights), tf.constant([0, 1] * 5)
    x = tf.constant(np.random.default_rng(2).uniform(size=(10, 1, 12, 1)).astype(np.float32))
    threat = ThreatModel(norm, 0.3, (-1.0, 2.0))

    def loss(steps):
        return losses.margin(logits_fn(PGD(threat, steps, 0.05)(logits_fn, x, y, seed=3)), y).numpy()

    assert np.all(np.diff([loss(steps) for steps in range(1, 9)], axis=0) >= -1e-6)
    highest = losses.margin(logits_fn(x), y) + 0.3 * np.linalg.norm(weights, ord=1 if norm == "linf" else 2)
    np.testing.assert_allclose(loss(60), highest, atol=1e-4)


# The challenge's loop.


def challenge_pgd(model, loss, x, y, start, *, epsilon, steps, step_size):
    """The attack of the MNIST challenge: a loop in NumPy, its images in float64 and fed to the model in float32."""
    x, x_adv = np.asarray(x), np.asarray(start, np.float64)
    for _ in range(steps):
        images = tf.constant(x_adv, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(images)
            total = tf.reduce_sum(loss(model(images), y))
        x_adv = x_adv + step_size * np.sign(tape.gradient(total, images))
        x_adv = np.clip(np.clip(x_adv, x - epsilon, x + epsilon), 0, 1)
    return x_adv


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.CWMargin(50)])
@pytest.mark.parametrize("random_start", [True, False])
def test_pgd_is_the_challenges(model, x, y, loss, random_start):
    attack = PGD(LINF, steps=12, step_size=0.04, loss=loss, random_start=random_start)
    start = LINF.random_start(x, seeds.fold_in(11, 0)) if random_start else x
    expected = challenge_pgd(model, loss, x, y, start, epsilon=0.3, steps=12, step_size=0.04)
    np.testing.assert_allclose(attack(model, x, y, seed=11), expected, atol=1e-6)
    assert np.mean(np.argmax(model(expected), axis=1) == y) <= 0.25


# Restarts.


def worst_of(candidates, fooled, loss):
    """For each example the fooling candidate of highest loss, or else the candidate of highest loss."""
    best = np.argmax(np.where(fooled, 1e6, 0) + loss, axis=0)
    return best, np.take_along_axis(np.asarray(candidates), best[np.newaxis, :, None, None, None], axis=0)[0]


def test_restarts_keep_each_examples_worst_run(model, x, y):
    options = {"epsilon": 0.12, "steps": 3, "step_size": 0.03}
    threat = ThreatModel("linf", 0.12)
    starts = [threat.random_start(x, seeds.fold_in(5, r)) for r in range(6)]
    runs = [challenge_pgd(model, losses.cross_entropy, x, y, start, **options) for start in starts]
    loss = np.stack([losses.cross_entropy(model(run), y) for run in runs])
    fooled = np.stack([np.argmax(model(run), axis=1) != y for run in runs])
    best, expected = worst_of(runs, fooled, loss)
    assert len(set(best)) > 2
    actual = PGD(threat, steps=3, step_size=0.03, restarts=6)(model, x, y, seed=5)
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    # At least as strong as any single run in every example, and stronger than the first in some.
    worst = losses.cross_entropy(model(actual), y).numpy()
    assert np.all(worst >= loss.max(axis=0) - 1e-5) and np.any(worst > loss[0] + 1e-3)


def test_restarts_prefer_a_misclassified_image_to_a_higher_loss(model, x, y):
    # With a step size of 0 a run is its random start. This loss is highest where the label leads most.
    threat = ThreatModel("linf", 0.5)
    starts = tf.stack([threat.random_start(x, seeds.fold_in(5, r)) for r in range(8)])
    margins = np.stack([losses.margin(model(start), y) for start in starts])
    assert np.any((margins > 0).any(axis=0) & (margins < 0).any(axis=0))
    attack = PGD(threat, 1, 0.0, loss=lambda logits, y: -losses.margin(logits, y), restarts=8)
    _, expected = worst_of(starts, margins > 0, -margins)
    np.testing.assert_array_equal(attack(model, x, y, seed=5), expected)


def test_restarts_are_judged_by_the_judge():
    # The gradients see a constant model; the judge prefers bright images.
    x, y = tf.fill([4, 1, 3, 1], 0.5), tf.zeros([4], tf.int32)
    starts = np.stack([LINF.random_start(x, seeds.fold_in(5, r)) for r in range(8)])
    best = starts.sum(axis=(2, 3, 4)).argmax(axis=0)
    actual = PGD(LINF, 1, 0.0, restarts=8)(
        lambda x: 0 * linear(1.0, 1.0, 1.0)(x), x, y, seed=5, judge_fn=linear(1.0, 1.0, 1.0)
    )
    np.testing.assert_array_equal(actual, starts[best, np.arange(4)])


# Seeds and batches.


@pytest.mark.parametrize("threat", [LINF, L2])
def test_the_seed_decides(model, x, y, threat):
    attack = PGD(threat, steps=3, step_size=0.05, restarts=2)
    first = attack(model, x, y, seed=1)
    np.testing.assert_array_equal(attack(model, x, y, seed=1), first)
    assert np.all(np.any(np.not_equal(attack(model, x, y, seed=2), first), axis=(1, 2, 3)))


@pytest.mark.parametrize("threat", [LINF, L2])
def test_an_example_does_not_depend_on_its_batch_mates(model, x, y, threat):
    for attack in (PGD(threat, steps=5, step_size=0.05, restarts=2), RFGSM(LINF)):
        batch = attack(model, x, y, seed=seeds.per_example(1, tf.range(8)))
        for i in range(8):
            one = slice(i, i + 1)
            alone = attack(model, x[one], y[one], seed=seeds.per_example(1, tf.constant([i])))
            np.testing.assert_allclose(alone[0], batch[i], atol=1e-6)


def test_numpy_arrays_are_images(model, x, y):
    for attack in (PGD(LINF, 2, 0.1, restarts=2), PGD(L2, 2, 0.1), fgsm(LINF)):
        actual = attack(model, x.numpy(), y.numpy(), seed=0)
        np.testing.assert_array_equal(actual, attack(model, x, y, seed=0))


@pytest.mark.parametrize("threat", [LINF, L2])
def test_dtype_of_the_images_is_kept(model, x, y, threat):
    for restarts in (1, 2):
        attack = PGD(threat, 2, 0.1, restarts=restarts)
        assert attack(model, tf.cast(x, tf.float64), y, seed=0).dtype == tf.float64
        assert attack(model, x, tf.cast(y, tf.int32), seed=0).dtype == tf.float32


def test_batch_normalisation_keeps_its_statistics(x, y):
    model = keras.Sequential([keras.Input((6, 5, 1)), layers.BatchNormalization(), layers.Flatten(), layers.Dense(3)])
    before = [value.copy() for value in model.get_weights()]
    attack = functools.partial(PGD(LINF, 3, 0.1, restarts=2), model, seed=0)
    np.testing.assert_allclose(tf.function(attack)(x, y), attack(x, y), atol=1e-6)
    for value, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


# The graph.


def test_one_trace_for_two_calls(model, x, y):
    attack = tf.function(functools.partial(PGD(LINF, 5, 0.1, restarts=2), model, seed=0))
    attack(x, y)
    attack(1 - x, y)
    assert attack.experimental_get_tracing_count() == 1


def graph_size(attack, model, x, y):
    graph = tf.function(functools.partial(attack, model, seed=0)).get_concrete_function(x, y).graph.as_graph_def()
    return len(graph.node) + sum(len(function.node_def) for function in graph.library.function)


def test_graph_does_not_grow_with_steps_nor_restarts(model, x, y):
    assert graph_size(PGD(LINF, 2, 0.1), model, x, y) == graph_size(PGD(LINF, 100, 0.1), model, x, y)
    few, many = PGD(LINF, 2, 0.1, restarts=2), PGD(LINF, 100, 0.1, restarts=50)
    assert graph_size(few, model, x, y) == graph_size(many, model, x, y)


# Configuration.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be an integer of 1 or more, got 0"),
        ({"steps": 2.5}, "steps must be an integer of 1 or more, got 2.5"),
        ({"step_size": -0.1}, "step_size must be 0 or more, got -0.1"),
        ({"step_size": float("nan")}, "step_size must be 0 or more, got nan"),
        ({"restarts": 0}, "restarts must be an integer of 1 or more, got 0"),
        ({"restarts": 2, "random_start": False}, "restarts must be 1 without random_start, got 2"),
    ],
)
def test_errors_name_argument_expectation_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        PGD(**{"threat": LINF, "steps": 2, "step_size": 0.1, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threat": L2}, "threat must have the norm 'linf', got 'l2'"),
        ({"random_fraction": 1.5}, "random_fraction must be from 0 to 1, got 1.5"),
    ],
)
def test_errors_of_r_fgsm(arguments, message):
    with pytest.raises(ValueError, match=message):
        RFGSM(**{"threat": LINF, **arguments})


def test_scaled():
    assert PGD(LINF, 2, 0.1).scaled(0.5) == PGD(ThreatModel("linf", 0.15), 2, 0.05)


def test_steps_become_shorter_by_hand():
    # Steps of 0.1, 0.05 and 0.025 up a slope that never changes.
    def logits(x):
        return tf.pad(tf.reshape(x, [-1, 1]), [[0, 0], [1, 0]])

    attack = PGD(ThreatModel("linf", 0.4), 3, 0.1, random_start=False, step_decay=0.5)
    x_adv = attack(logits, tf.fill([2, 1, 1, 1], 0.5), tf.zeros([2], tf.int64), seed=0)
    np.testing.assert_allclose(np.ravel(x_adv), [0.675] * 2, atol=1e-6)


@pytest.mark.parametrize("step_decay", [0.0, -0.5, 1.1])
def test_step_decay_out_of_range(step_decay):
    with pytest.raises(ValueError, match=f"step_decay must be above 0 and at most 1, got {step_decay}"):
        PGD(ThreatModel("linf", 0.4), 3, 0.1, step_decay=step_decay)
