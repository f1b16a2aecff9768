"""FMN: its first steps by hand, and the boundaries of affine models."""

import numpy as np
import pytest
import tensorflow as tf

from tests.attacks.linear_models import WIDE, affine, image
from tfrobust.attacks.fmn import FMN

NORMS = ("linf", "l2", "l1")
DUAL_ORDER = {"linf": 1, "l2": 2, "l1": np.inf}


def parabola(x):
    """Logits (0, x^2 - 1/4) of one pixel."""
    return tf.pad(tf.reshape(x, [-1, 1]) ** 2 - 0.25, [[0, 0], [1, 0]])


# By hand. With one pixel all norms are one. The gammas of a step are 0.001 + 0.899 (1 + cos(pi step / steps)) / 2.


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("steps", "distance"),
    [
        # At 1/8 the margin is -15/64 and its gradient 1/4: the linear estimate of the distance is 15/16. The first ball
        # is by gamma, 0.9, larger; the point is pushed out onto it, beyond the boundary at 1/2.
        (1, 15 / 16 * 1.9),
        # The second step's gamma is 0.4505.
        (2, 15 / 16 * 1.9 * (1 - 0.4505)),
        # The later gammas are 0.76834, 0.4505 and 0.13266. The ball of 15/16 * 1.9 * 0.23166 = 0.4126 reaches beyond
        # the boundary; the next, 0.2267, and 0.2267 * 1.13266 do not.
        (4, 15 / 16 * 1.9 * (1 - 0.76834)),
    ],
)
def test_balls_by_hand(norm, steps, distance):
    found = FMN(norm, WIDE, steps=steps, gamma=0.9).minimize(parabola, image(0.125), tf.constant([0]), seed=0)
    np.testing.assert_allclose(found.distance, [distance], rtol=1e-4)
    np.testing.assert_allclose(np.ravel(found.x_adv), [0.125 + distance], rtol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_the_ball_settles_at_the_boundary(norm):
    found = FMN(norm, WIDE, steps=40, gamma=0.3).minimize(parabola, image(0.125), tf.constant([0]), seed=0)
    np.testing.assert_allclose(found.distance, [0.375], rtol=0.01)


@pytest.mark.parametrize("norm", NORMS)
def test_nearest_point_of_a_boundary_of_affine_models(norm):
    rng = np.random.default_rng(3)
    weights, biases = rng.normal(size=(12, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    x = rng.normal(size=(16, 1, 12, 1)).astype(np.float32)
    logits = x.reshape(16, 12) @ weights + biases
    y = np.argmax(logits, axis=1)
    found = FMN(norm, WIDE).minimize(affine(weights, biases), x, y, seed=0)
    assert found.success.numpy().all()
    # The margin leads to the class of the highest logit, which need not be the nearest one; of that class's boundary
    # it is the nearest point.
    reached = np.argmax(affine(weights, biases)(found.x_adv), axis=1)
    rows = np.arange(16)
    w = (weights[:, reached] - weights[:, y]).T
    distances = (logits[rows, y] - logits[rows, reached]) / np.linalg.norm(w, axis=1, ord=DUAL_ORDER[norm])
    ratio = np.divide(found.distance, distances)
    assert ratio.min() > 1 - 1e-5 and ratio.max() < 1.2 and np.median(ratio) < 1.02


# Configuration.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bounds": (1.0, 0.0)}, r"bounds must be \(low, high\) with low < high"),
        ({"steps": 0}, "steps must be an integer of 1 or more, got 0"),
        ({"norm": "l0"}, "norm must be 'linf', 'l2' or 'l1', got 'l0'"),
        ({"gamma": 1.0}, "gamma must be above 0 and below 1, got 1.0"),
        ({"gamma": float("nan")}, "gamma must be above 0 and below 1, got nan"),
        ({"step_size": -1.0}, "step_size must be above 0 and finite, got -1.0"),
    ],
)
def test_errors_name_argument_expectation_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        FMN(**{"norm": "l2", **arguments})
