"""Threat models: points are in the ball and within bounds, steps and projections have the values derived by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfrobust import seeds
from tfrobust.threat_models import ThreatModel

NORMS = ("linf", "l2", "l1")


def images(shape, seed=0, low=0.0, high=1.0):
    return tf.constant(np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32))


def row(*values):
    """One example of the given pixels, [1, 1, n, 1]."""
    return tf.reshape(tf.constant(values, tf.float32), [1, 1, -1, 1])


def assert_valid(threat, x_adv, x):
    assert x_adv.shape == x.shape and x_adv.dtype == x.dtype
    assert np.all(threat.distance(x_adv, x) <= threat.epsilon + threat.tolerance)
    assert threat.bounds[0] <= np.min(x_adv) and np.max(x_adv) <= threat.bounds[1]


# Projection.


def test_project_linf_by_hand():
    # Ball: [0.2, 0.8], [-0.2, 0.4] and [0.65, 1.25], of which the box leaves [0.2, 0.8], [0, 0.4] and [0.65, 1].
    projected = ThreatModel("linf", 0.3).project(row(0.9, -0.5, 1.2), row(0.5, 0.1, 0.95))
    np.testing.assert_allclose(np.ravel(projected), [0.8, 0.0, 1.0], atol=1e-7)


def test_project_l2_by_hand():
    # delta (0.3, 0.4) has norm 0.5; a ball of radius 0.25 halves it.
    projected = ThreatModel("l2", 0.25).project(row(0.8, 0.1), row(0.5, 0.5) + row(0.0, -0.8))
    np.testing.assert_allclose(np.ravel(projected), [0.65, 0.0], atol=1e-6)  # -0.3 + 0.2 is cut to 0
    projected = ThreatModel("l2", 0.25).project(row(0.8, 0.9), row(0.5, 0.5))
    np.testing.assert_allclose(np.ravel(projected), [0.65, 0.7], atol=1e-6)


def test_project_linf_is_the_nearest_point():
    x, x_adv = images([6, 5, 4, 3]), images([6, 5, 4, 3], seed=1, low=-2, high=3)
    nearest = np.clip(x_adv, np.maximum(x - 0.2, 0), np.minimum(x + 0.2, 1))
    np.testing.assert_allclose(ThreatModel("linf", 0.2).project(x_adv, x), nearest, atol=1e-7)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("epsilon", [0.0, 1e-3, 0.3, 1.0])
def test_project_random_points(norm, epsilon):
    threat = ThreatModel(norm, epsilon)
    x, x_adv = images([16, 5, 4, 3]), images([16, 5, 4, 3], seed=1, low=-2, high=3)
    projected = threat.project(x_adv, x)
    assert_valid(threat, projected, x)
    np.testing.assert_allclose(threat.project(projected, x), projected, atol=2e-7)
    if epsilon == 0:
        np.testing.assert_array_equal(projected, x)
    # Points of the ball, the centre among them, stay where they are.
    np.testing.assert_array_equal(threat.project(x, x), x)
    inside = 0.5 + 0.01 * epsilon * x
    np.testing.assert_allclose(threat.project(inside, 0.5 + 0 * x), inside, atol=1e-7)


@pytest.mark.parametrize(
    ("norm", "epsilon", "bounds"), [("l2", 20.0, (0.0, 1.0)), ("linf", 8.0, (0.0, 255.0)), ("l2", 3.0, (0.0, 1.0))]
)
def test_project_stays_within_the_tolerance_of_evaluation(norm, epsilon, bounds):
    threat, width = ThreatModel(norm, epsilon, bounds), bounds[1] - bounds[0]
    for seed in range(4):
        x = images([2, 224, 224, 3], seed, low=0.3 * width, high=0.7 * width)
        x_adv = x + width * np.random.default_rng(seed).standard_normal(x.shape, np.float32)
        assert_valid(threat, threat.project(x_adv, x), x)


# Steepest ascent.


def test_steepest_ascent_by_hand():
    gradient = tf.concat([row(3.0, -4.0, 0.0), row(0.0, 0.0, 0.0), row(0.0, 0.1, 0.0)], axis=0)
    linf = ThreatModel("linf", 0.3).steepest_ascent(gradient, 0.5)
    np.testing.assert_array_equal(linf[:, 0, :, 0], [[0.5, -0.5, 0], [0, 0, 0], [0, 0.5, 0]])
    l2 = ThreatModel("l2", 0.3).steepest_ascent(gradient, 0.5)
    np.testing.assert_allclose(l2[:, 0, :, 0], [[0.3, -0.4, 0], [0, 0, 0], [0, 0.5, 0]], atol=1e-7)
    # One pixel of three is the least, two of them share the step.
    l1 = ThreatModel("l1", 0.3).steepest_ascent(gradient, 0.5)
    np.testing.assert_allclose(l1[:, 0, :, 0], [[0, -0.5, 0], [0, 0, 0], [0, 0.5, 0]], atol=1e-7)
    l1 = ThreatModel("l1", 0.3).steepest_ascent(gradient, 0.5, coordinates=tf.constant([2, 2, 2]))
    np.testing.assert_allclose(l1[:, 0, :, 0], [[0.25, -0.25, 0], [0, 0, 0], [0, 0.5, 0]], atol=1e-7)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_steepest_ascent_does_not_depend_on_the_gradients_scale(scale):
    # The squares of these gradients are 0 or infinite in float32.
    for norm, expected in (("linf", [0.5, -0.5]), ("l2", [0.3, -0.4])):
        step = ThreatModel(norm, 0.3).steepest_ascent(row(3.0, -4.0) * scale, 0.5)
        np.testing.assert_allclose(np.ravel(step), expected, atol=1e-6)


# Random starts.


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_random_start_is_in_the_ball_and_decided_by_the_seed(norm, epsilon):
    threat, x = ThreatModel(norm, epsilon), images([8, 5, 4, 3])
    start = threat.random_start(x, 7)
    assert_valid(threat, start, x)
    np.testing.assert_array_equal(threat.random_start(x, 7), start)
    moved = np.any(np.not_equal(threat.random_start(x, 8), start), axis=(1, 2, 3))
    assert np.all(moved == (epsilon > 0))


@pytest.mark.parametrize("norm", NORMS)
def test_random_start_of_an_example_does_not_depend_on_its_batch_mates(norm):
    threat, x = ThreatModel(norm, 0.3), images([6, 5, 4, 1])
    batch = threat.random_start(x, seeds.per_example(3, tf.range(6)))
    for i in (0, 4):
        alone = threat.random_start(x[i : i + 1], seeds.per_example(3, tf.constant([i])))
        np.testing.assert_array_equal(alone[0], batch[i])
    deltas = np.reshape(batch - x, [6, -1])
    assert len(np.unique(deltas, axis=0)) == 6


def kolmogorov_smirnov(sample):
    """Largest distance of the sample's distribution from the uniform one on [0, 1]."""
    ranks = np.arange(len(sample) + 1) / len(sample)
    sample = np.sort(sample)
    return max(np.max(ranks[1:] - sample), np.max(sample - ranks[:-1]))


@pytest.mark.parametrize("per_example", [False, True])
def test_random_start_is_uniform_in_the_ball(per_example):
    # 1.95 / sqrt(n) is exceeded by one uniform sample in a thousand.
    count, limit = 1000, 1.95 / np.sqrt(1000)
    seed = seeds.per_example(5, tf.range(count)) if per_example else 5
    x = tf.fill([count, 1, 3, 1], 0.5)

    def change(norm):
        start = tf.function(ThreatModel(norm, 0.3).random_start, autograph=False)
        return np.reshape(start(x, seed) - x, [count, 3])

    linf = change("linf") / 0.3
    for i in range(3):
        assert kolmogorov_smirnov((linf[:, i] + 1) / 2) < limit
    # In l1 |delta|_1 is epsilon U^(1/3), and |delta_i| / |delta|_1 is Beta(1, 2): its square complement is uniform.
    delta = change("l1")
    radius = np.abs(delta).sum(axis=1)
    assert kolmogorov_smirnov((radius / 0.3) ** 3) < limit
    for i in range(3):
        assert kolmogorov_smirnov((1 - np.abs(delta[:, i]) / radius) ** 2) < limit
        assert abs(np.mean(np.sign(delta[:, i]))) < 4 / np.sqrt(count)
    delta = change("l2")
    radius = np.linalg.norm(delta, axis=1)
    assert kolmogorov_smirnov((radius / 0.3) ** 3) < limit
    # On a sphere in three dimensions every coordinate is uniform (Archimedes), and here independent of the radius.
    direction = delta / radius[:, np.newaxis]
    for i in range(3):
        assert kolmogorov_smirnov((direction[:, i] + 1) / 2) < limit
        assert abs(np.corrcoef(direction[:, i], radius)[0, 1]) < 4 / np.sqrt(count)


# Distance, scaling, errors.


def test_distance_by_hand():
    x, x_adv = tf.zeros([2, 1, 2, 1]), tf.concat([row(0.3, -0.4), row(0.0, 0.0)], axis=0)
    np.testing.assert_allclose(ThreatModel("linf", 1.0).distance(x_adv, x), [0.4, 0.0], rtol=1e-7)
    np.testing.assert_allclose(ThreatModel("l2", 1.0).distance(x_adv, x), [0.5, 0.0], rtol=1e-6)
    np.testing.assert_allclose(ThreatModel("l1", 1.0).distance(x_adv, x), [0.7, 0.0], rtol=1e-6)
    assert ThreatModel("l2", 1.0).distance(tf.cast(x_adv, tf.float64), x).dtype == tf.float32


@pytest.mark.parametrize("norm", NORMS)
def test_scaled_by_a_tensor_in_a_graph(norm):
    x, x_adv = images([4, 5, 4, 1]), images([4, 5, 4, 1], seed=1)

    @tf.function
    def both(factor):
        threat = ThreatModel(norm, 0.4).scaled(factor)
        return threat.project(x_adv, x), threat.random_start(x, 3)

    for factor in (0.0, 0.5, 1.0):
        projected, start = both(tf.constant(factor))
        threat = ThreatModel(norm, 0.4).scaled(factor)
        assert threat == ThreatModel(norm, 0.4 * factor)
        np.testing.assert_allclose(projected, threat.project(x_adv, x), atol=1e-7)
        np.testing.assert_allclose(start, threat.random_start(x, 3), atol=1e-7)
    assert both.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("l0", 0.3), r"norm must be 'linf', 'l2' or 'l1', got 'l0'"),
        (("linf", -0.1), r"epsilon must be a finite number from 0 up, got -0.1"),
        (("l2", float("nan")), r"epsilon must be a finite number from 0 up, got nan"),
        (("l2", float("inf")), r"epsilon must be a finite number from 0 up, got inf"),
        (("linf", 8), r"epsilon must be at most 1 for pixels in \[0.0, 1.0\], got 8"),
        (("linf", 0.3, (1.0, 0.0)), r"bounds must be \(low, high\) with low < high, got \(1.0, 0.0\)"),
        (("linf", 0.3, (0.0, 0.5, 1.0)), r"bounds must be \(low, high\) with low < high, got \(0.0, 0.5, 1.0\)"),
    ],
)
def test_errors_name_argument_expectation_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        ThreatModel(*arguments)


def test_radii_that_only_look_too_large_are_accepted():
    assert ThreatModel("l2", 8).epsilon == 8
    assert ThreatModel("linf", 8, (0.0, 255.0)).epsilon == 8


@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (0.0, np.inf)])
def test_infinite_bounds_are_refused(bounds):
    # Distances could be checked no more closely than to infinity.
    with pytest.raises(ValueError, match="bounds must be finite, got"):
        ThreatModel("linf", 0.1, bounds)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_numpy_s_numbers_are_numbers(norm):
    low, high = (np.array([0.0, 1.0]) - 0.1307) / 0.3081
    threat = ThreatModel(norm, np.float32(0.5), (low, high))
    assert threat == ThreatModel(norm, 0.5, (float(low), float(high)))
    assert [type(number) for number in (threat.epsilon, *threat.bounds)] == [float] * 3
    x = tf.zeros([2, 2, 2, 1])
    assert np.isfinite(tf.function(threat.project, autograph=False)(x + 1, x)).all()
