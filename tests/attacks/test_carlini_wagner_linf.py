"""CW-Linf: distances to hyperplanes, the fall of tau by hand, confidence, targets, failures, batch mates."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests.attacks.graphs import for_any_batch
from tests.attacks.test_carlini_wagner import affine, minimize
from tfrobust import losses
from tfrobust.attacks.carlini_wagner_linf import CarliniWagnerLinf

SETTINGS = {"steps": 60, "learning_rate": 0.01, "initial_const": 0.1}
QUICK = CarliniWagnerLinf(**SETTINGS)
COUNT = 8


@pytest.fixture(scope="module")
def problem():
    """Logits of three classes, eight images of 2 x 2 x 3 pixels well inside of the box, and their classes."""
    generator = np.random.default_rng(5)
    weights, x = generator.normal(size=(3, 12)), generator.uniform(0.4, 0.6, size=(COUNT, 12))
    x = x.reshape(COUNT, 2, 2, 3).astype(np.float32)
    logits_fn = affine(weights, -0.5 * weights.sum(axis=1))
    return weights, logits_fn, tf.constant(x), tf.argmax(logits_fn(x), axis=1)


def distances(weights, logits, y, lead=0.0):
    """Of an image to where each other class leads by `lead`: [B, K], the way along sign(w_k - w_y), infinite for y."""
    logits, rows = np.asarray(logits), np.arange(len(y))
    gap = logits[rows, y][:, np.newaxis] - logits + lead
    slope = np.abs(weights - weights[np.asarray(y)][:, np.newaxis]).sum(axis=2)
    return np.where(np.arange(3) == np.asarray(y)[:, np.newaxis], np.inf, gap / np.maximum(slope, 1e-9))


def test_distance_to_the_nearest_boundary(problem):
    # Classes k and y are equally likely at the linf distance (logits_y - logits_k) / |w_k - w_y|_1.
    weights, logits_fn, x, y = problem
    exact = distances(weights, logits_fn(x), y).min(axis=1)
    found = minimize(QUICK, logits_fn, x, y, judge_fn=logits_fn)
    assert found.success.all() and np.all(np.argmax(logits_fn(found.x_adv), axis=1) != y)
    assert np.all(found.distance >= exact - 1e-5) and np.median(found.distance / exact) <= 1.1
    assert np.all(found.distance <= 1.3 * exact + 1e-3)
    np.testing.assert_allclose(np.abs(found.x_adv - x).max(axis=(1, 2, 3)), found.distance, atol=1e-6)
    assert found.x_adv.min() >= 0 and found.x_adv.max() <= 1


def test_targets_and_confidence(problem):
    weights, logits_fn, x, y = problem
    target = (y + 1) % 3
    attack = CarliniWagnerLinf(**SETTINGS, targeted=True, kappa=0.1)
    found = minimize(attack, logits_fn, x, target)
    # Nearer than where the target leads the label by kappa it cannot be.
    least = distances(weights, logits_fn(x), y, lead=0.1)[np.arange(COUNT), target]
    assert found.success.all() and np.all(-losses.margin(logits_fn(found.x_adv), target) > 0.1)
    assert np.all(found.distance >= least - 1e-5)
    np.testing.assert_array_equal(minimize(CarliniWagnerLinf(targeted=True), logits_fn, x, y).distance, 0)


def test_who_is_wrong_already_and_who_cannot_be(problem):
    _, logits_fn, x, y = problem
    wrong = tf.where(tf.range(COUNT) == 2, (y + 1) % 3, y)
    found = minimize(QUICK, logits_fn, x, wrong)
    np.testing.assert_array_equal(found.x_adv[2], x[2])
    assert found.success.all() and found.distance[2] == 0 and np.all(np.delete(found.distance, 2) > 0)
    # No image of the box gives the other classes a lead of 100.
    hopeless = minimize(
        CarliniWagnerLinf(steps=5, initial_const=5.0), lambda x: logits_fn(x) + 100 * tf.one_hot(y, 3), x, y
    )
    assert not hopeless.success.any() and np.all(np.isinf(hopeless.distance))
    np.testing.assert_array_equal(hopeless.x_adv, x)


def test_an_example_does_not_depend_on_its_batch_mates(problem):
    _, logits_fn, x, y = problem
    attack = CarliniWagnerLinf(steps=20, learning_rate=0.01, initial_const=1.0)
    run = for_any_batch(functools.partial(attack.minimize, logits_fn, seed=0), x, y)
    batch = run(x, y)
    np.testing.assert_array_equal(run(x, y).x_adv, batch.x_adv)
    for i in range(COUNT):
        alone = run(x[i : i + 1], y[i : i + 1])
        np.testing.assert_allclose(alone.distance[0], batch.distance[i], rtol=1e-3)
        assert alone.success[0] == batch.success[i]


def test_tau_and_const_by_hand():
    # Pixels of a range of 2, so that a distance is twice what tau is compared with. The first image is within tau, at
    # 0.25 of the range, and goes on within 0.9 * 0.25; the second has used up its steps, and its constant doubles; the
    # third has just begun; the fourth's constant would be larger than the largest.
    attack = CarliniWagnerLinf(bounds=(-1.0, 1.0), largest_const=3.0)
    state = {"distance": [0.5, 0.5, 0.5, 0.5], "tau": [0.3, 0.2, 0.2, 0.2], "const": [1.0, 1.0, 1.0, 2.0]}
    state = {name: tf.constant(value) for name, value in state.items()}
    state["done"] = tf.zeros([4], tf.bool)
    changed, anew = attack._next_tau(state, tf.constant([False, True, False, True]))
    np.testing.assert_allclose(changed["tau"], [0.225, 0.2, 0.2, 0.2])
    np.testing.assert_allclose(changed["const"], [1, 2, 1, 4])
    np.testing.assert_array_equal(changed["done"], [False, False, False, True])
    np.testing.assert_array_equal(anew, [True, True, False, True])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be an integer of 1 or more, got 0"),
        ({"decrease": 1}, "decrease must be above 0 and below 1, got 1"),
        ({"decrease": "0.9"}, "decrease must be above 0 and below 1, got '0.9'"),
        ({"largest_const": float("inf")}, "largest_const must be a finite number above 0, got inf"),
        ({"initial_const": 30.0}, "largest_const must be initial_const 30.0 or more, got 20.0"),
        ({"kappa": -1}, "kappa must be a finite number from 0 up, got -1"),
    ],
)
def test_errors_name_argument_expectation_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        CarliniWagnerLinf(**arguments)
