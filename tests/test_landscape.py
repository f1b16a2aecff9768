"""The landscape of the loss around an image, on functions whose maxima are known."""

import numpy as np
import pytest
import tensorflow as tf

from tfrobust.attacks import PGD
from tfrobust.landscape import Landscape, cosines, geometry
from tfrobust.threat_models import ThreatModel

EPSILON = 0.1
ATTACK = PGD(ThreatModel("linf", EPSILON), steps=8, step_size=0.05)
X = np.full([4, 4, 1], 0.5, np.float32)
WEIGHTS = np.linspace(-1, 1, 16).astype(np.float32)


def linear(x):
    """Logits (-z, z) with z = w x: the loss of class 0 rises along w."""
    z = tf.reshape(x, [-1, 16]) @ WEIGHTS[:, np.newaxis]
    return tf.concat([-z, z], axis=1)


def bowl(x):
    """The loss of class 0 rises with the distance from the image: every corner is a maximum."""
    z = tf.reduce_sum(tf.square(tf.reshape(x, [-1, 16]) - 0.5), axis=1, keepdims=True)
    return tf.concat([-z, z], axis=1)


def test_a_linear_function_has_one_maximum():
    found = Landscape(linear, ATTACK).maxima(X, 0, range(5), seed=3)
    assert found.losses.shape == (5, 9) and found.delta.shape == found.start.shape == (5, 4, 4, 1)
    np.testing.assert_allclose(
        found.delta, np.broadcast_to(EPSILON * np.sign(WEIGHTS).reshape(4, 4, 1), [5, 4, 4, 1]), atol=1e-6
    )
    assert (np.diff(found.losses) >= -1e-6).all() and np.ptp(found.losses[:, 0]) > 0.01
    # log(1 + exp(2 z)) with z = epsilon |w|_1.
    np.testing.assert_allclose(found.losses[:, -1], np.log1p(np.exp(2 * EPSILON * np.abs(WEIGHTS).sum())), rtol=1e-5)
    assert geometry(found.delta).mean_distance == pytest.approx(0, abs=1e-5)
    assert (np.abs(found.start) <= EPSILON + 1e-6).all() and geometry(found.start).mean_distance > 0.1


def test_starts_do_not_depend_on_each_other():
    several = Landscape(bowl, ATTACK, batch_size=3).maxima(X, 0, range(7), seed=3)
    alone = Landscape(bowl, ATTACK).maxima(X, 0, [5], seed=3)
    np.testing.assert_array_equal(several.start[5], alone.start[0])
    np.testing.assert_allclose(several.losses[5], alone.losses[0], rtol=1e-6)
    assert len(np.unique(several.delta.reshape(7, 16), axis=0)) == 7
    other = Landscape(bowl, ATTACK).maxima(X, 0, [5], seed=4)
    assert np.abs(other.start - alone.start).max() > 0.01


def test_the_maxima_of_a_bowl_are_as_far_apart_as_random_corners():
    found = Landscape(bowl, ATTACK).maxima(X, 0, range(200), seed=0)
    np.testing.assert_allclose(np.abs(found.delta), EPSILON, atol=1e-6)
    shape = geometry(found.delta)
    # Corners that differ in m of 16 pixels are 2 epsilon sqrt(m) apart, m being 8 on average.
    assert shape.mean_distance == pytest.approx(2 * EPSILON * np.sqrt(8), rel=0.03)
    assert shape.mean_angle == pytest.approx(90, abs=2) and shape.deviation_of_angle > 5


def test_geometry_by_hand():
    shape = geometry(np.array([[3.0, 0.0], [0.0, 4.0], [-3.0, 0.0]]))
    assert shape.mean_distance == pytest.approx((5 + 5 + 6) / 3) and shape.mean_angle == pytest.approx(
        (90 + 90 + 180) / 3
    )
    np.testing.assert_allclose(cosines(np.array([[1.0, 1.0], [0.0, -2.0]]), np.array([0.0, 5.0])), [np.sqrt(0.5), -1])
    with pytest.raises(ValueError, match="points must be two or more, got 1"):
        geometry(np.zeros([1, 3]))


def test_surface_of_a_linear_function():
    landscape = Landscape(linear, ATTACK, batch_size=2)
    values = landscape.surface(X, 0, 5, seed=1)
    assert values.shape == (5, 5) and values[2, 2] == pytest.approx(np.log(2))
    # Along the gradient's signs z changes by epsilon |w|_1 on either side.
    z = np.linspace(-1, 1, 5) * EPSILON * np.abs(WEIGHTS).sum()
    np.testing.assert_allclose(values[:, 2], np.log1p(np.exp(2 * z)), rtol=1e-5)
    np.testing.assert_array_equal(values, landscape.surface(X, 0, 5, seed=1))


def test_images_that_would_be_clipped_are_refused():
    around = Landscape(lambda x: tf.reshape(x, [-1, 4]), PGD(ThreatModel("linf", 0.1), 2, 0.1))
    for image in (np.full([2, 2, 1], 255.0), np.full([2, 2, 1], 255, np.uint8)):
        with pytest.raises(ValueError, match="images must be"):
            around.maxima(image, 0, range(2), seed=0)
