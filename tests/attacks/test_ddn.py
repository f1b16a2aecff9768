"""DDN: its first steps by hand, and the nearest boundary of affine models."""

import numpy as np
import pytest
import tensorflow as tf

from tests.attacks.linear_models import WIDE, affine, image
from tfrobust.attacks.ddn import DDN

# By hand. The unit gradient of the margin, and of the cross-entropy of two classes, is (0.6, 0.8); the boundary is at
# the distance 0.5 from (0, 0) along it.
HAND = affine([[0, 0.6], [0, 0.8]], [0, -0.5])


@pytest.mark.parametrize(
    ("steps", "distance"),
    [
        # The first sphere, 0.4 * 1.5 = 0.6, is beyond the boundary.
        (1, 0.6),
        # The second one, 0.6 * 0.5 = 0.3, is not.
        (2, 0.6),
        # 0.45, 0.675, 0.3375 and then 0.50625, which is nearer.
        (3, 0.6),
        (4, 0.6),
        (5, 0.6),
        (6, 0.50625),
    ],
)
def test_spheres_by_hand(steps, distance):
    attack = DDN(WIDE, steps=steps, initial_norm=0.4, gamma=0.5)
    found = attack.minimize(HAND, image(0.0, 0.0), tf.constant([0]), seed=0)
    np.testing.assert_allclose(found.distance, [distance], rtol=1e-5)
    np.testing.assert_allclose(np.ravel(found.x_adv), [0.6 * distance, 0.8 * distance], rtol=1e-5)


def test_nothing_found():
    # The spheres of two steps, 0.15 and 0.225, are within the boundary.
    attack = DDN(WIDE, steps=2, initial_norm=0.1, gamma=0.5)
    found = attack.minimize(HAND, image(0.0, 0.0), tf.constant([0]), seed=0)
    np.testing.assert_array_equal(found.success, [False])
    np.testing.assert_array_equal(found.distance, [np.inf])
    np.testing.assert_array_equal(found.x_adv, image(0.0, 0.0))


def test_the_sphere_is_no_larger_than_the_box():
    # The farthest corner of [0, 1] is at 0.75 (1, 1) from x; what leaves the box is then clipped.
    attack = DDN(steps=1, initial_norm=100.0)
    found = attack.minimize(HAND, image(0.25, 0.25), tf.constant([0]), seed=0)
    farthest = np.sqrt(2) * 0.75
    np.testing.assert_allclose(np.ravel(found.x_adv), [0.25 + 0.6 * farthest, 1.0], rtol=1e-5)


def test_nearest_boundary_of_affine_models():
    rng = np.random.default_rng(3)
    weights, biases = rng.normal(size=(12, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    x = rng.normal(size=(16, 1, 12, 1)).astype(np.float32)
    logits = x.reshape(16, 12) @ weights + biases
    y = np.argmax(logits, axis=1)
    w = weights.T[np.newaxis] - weights.T[y][:, np.newaxis]
    with np.errstate(invalid="ignore"):
        distances = (np.max(logits, axis=1, keepdims=True) - logits) / np.linalg.norm(w, axis=2)
    found = DDN(WIDE).minimize(affine(weights, biases), x, y, seed=0)
    ratio = np.divide(found.distance, np.nanmin(distances, axis=1))
    assert found.success.numpy().all()
    # The cross-entropy rises towards all classes, not only towards the nearest.
    assert ratio.min() > 1 - 1e-5 and ratio.max() < 1.2 and np.median(ratio) < 1.02


# Configuration.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bounds": (1.0, 0.0)}, r"bounds must be \(low, high\) with low < high"),
        ({"steps": 0}, "steps must be an integer of 1 or more, got 0"),
        ({"initial_norm": 0.0}, "initial_norm must be above 0 and finite, got 0.0"),
        ({"gamma": 1.0}, "gamma must be above 0 and below 1, got 1.0"),
        ({"gamma": float("nan")}, "gamma must be above 0 and below 1, got nan"),
        ({"step_size": -1.0}, "step_size must be above 0 and finite, got -1.0"),
    ],
)
def test_errors_name_argument_expectation_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        DDN(**arguments)
