"""Steps onto a hyperplane within a box: by hand, and against linear programmes on small random problems."""

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from tfrobust.attacks.fab_projections import steps_to_hyperplane

NORMS = ["linf", "l2", "l1"]
ORDER = {"linf": np.inf, "l2": 2, "l1": 1}
LOW, HIGH = -0.5, 2.0
COORDINATES = 6


def steps(x, w, b, norm, bounds=(LOW, HIGH)):
    """The steps of float32 points, and the points where they end in float64."""
    x, w, b = (np.asarray(part, np.float64) for part in (x, w, b))
    gap = np.sum(w * x, axis=1) - b
    result = steps_to_hyperplane(*(tf.constant(part, tf.float32) for part in (x, w, gap)), norm, bounds)
    assert result.dtype == tf.float32 and result.shape == x.shape
    return result.numpy().astype(np.float64)


def problems(kind):
    """40 points, normals and offsets; float32 numbers, so that nothing is rounded on the way."""
    random = np.random.default_rng(3)
    shape = (40, COORDINATES)
    x, w = random.uniform(LOW, HIGH, shape), random.normal(size=shape)
    if kind == "zero weights":
        w *= random.uniform(size=shape) < 0.5
    if kind == "on the walls":
        x = np.where(random.uniform(size=shape) < 0.7, random.choice([LOW, HIGH], shape), x)
    if kind == "equal weights":
        w = random.choice([-2.0, -1.0, 1.0, 2.0], shape)
    if kind == "tiny and huge weights":
        w *= 10.0 ** random.integers(-3, 4, shape)
    x, w = x.astype(np.float32).astype(np.float64), w.astype(np.float32).astype(np.float64)
    # Hyperplanes through some other point of the box.
    return x, w, np.sum(w * random.uniform(LOW, HIGH, shape), axis=1)


KINDS = ["any", "zero weights", "on the walls", "equal weights", "tiny and huge weights"]


def least_distance(x, w, b, norm):
    """The distance in linf or l1 as a linear programme; of z and, for each pixel or for all, a bound on |z - x|."""
    count = len(x)
    bound = np.ones((count, 1)) if norm == "linf" else np.eye(count)
    above, below = np.hstack([np.eye(count), -bound]), np.hstack([-np.eye(count), -bound])
    free = bound.shape[1]
    solved = scipy.optimize.linprog(
        np.r_[np.zeros(count), np.ones(free)],
        A_ub=np.vstack([above, below]),
        b_ub=np.r_[x, -x],
        A_eq=np.r_[w, np.zeros(free)][np.newaxis],
        b_eq=[b],
        bounds=[(LOW, HIGH)] * count + [(0, None)] * free,
    )
    assert solved.status == 0
    return solved.fun


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", NORMS)
def test_ends_on_the_hyperplane_within_the_box(kind, norm):
    x, w, b = problems(kind)
    end = x + steps(x, w, b, norm)
    np.testing.assert_array_less(np.abs(np.sum(w * end, axis=1) - b), 1e-5 * (1 + np.abs(w * (HIGH - LOW)).sum(axis=1)))
    assert end.min() >= LOW - 1e-6 and end.max() <= HIGH + 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_no_point_is_nearer_in_linf_and_l1(kind, norm):
    x, w, b = problems(kind)
    length = np.linalg.norm(steps(x, w, b, norm), ORDER[norm], axis=1)
    expected = [least_distance(*problem, norm) for problem in zip(x, w, b, strict=True)]
    np.testing.assert_allclose(length, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_no_point_is_nearer_in_l2(kind):
    # A point p of a convex set is the nearest to x exactly if <x - p, z - p> <= 0 for all z of the set: the largest
    # value is a linear programme.
    x, w, b = problems(kind)
    for point, normal, offset, step in zip(x, w, b, steps(x, w, b, "l2"), strict=True):
        solved = scipy.optimize.linprog(
            step, A_eq=normal[np.newaxis], b_eq=[offset], bounds=[(LOW, HIGH)] * COORDINATES
        )
        assert solved.status == 0
        assert -solved.fun - np.dot(-step, point + step) <= 1e-4


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("side", [-1, 1])
def test_a_box_that_does_not_meet_the_hyperplane_is_left_at_its_nearest_point(norm, side):
    x, w, _ = problems("zero weights")
    x[0], w[0] = HIGH, 1.0
    # The largest value of <w, z> in the box, or the smallest, is 0.1 short of b.
    corner = np.where(side * w > 0, HIGH, LOW)
    b = np.sum(w * corner, axis=1) + side * 0.1
    expected = np.where(w == 0, x, corner)
    np.testing.assert_allclose(x + steps(x, w, b, norm), expected, atol=1e-6)


def test_steps_by_hand():
    # <w, x> = 0.9 + 2 * 0.5 - 0.1 = 1.8. To come down to 1: the first two pixels fall and the third rises, by at most
    # 0.9, 0.5 and 0.9 in [0, 1].
    x, w = [[0.9, 0.5, 0.1]], [[1.0, 2.0, -1.0]]
    unit = (0.0, 1.0)
    # linf: 4 s = 0.8. l2: s (1 + 4 + 1) = 0.8. l1: the weight of 2 bridges it all, 0.8 / 2.
    np.testing.assert_allclose(steps(x, w, [1.0], "linf", unit), [[-0.2, -0.2, 0.2]], atol=1e-6)
    np.testing.assert_allclose(steps(x, w, [1.0], "l2", unit), np.array([[-1, -2, 1]]) * 0.8 / 6, atol=1e-6)
    np.testing.assert_allclose(steps(x, w, [1.0], "l1", unit), [[0, -0.4, 0]], atol=1e-6)
    # Down to -0.6, which is 2.4: in all norms the second pixel ends at its wall, 0.5, which bridges 1. The other two
    # share 1.4: in l1 by their room, which is equal.
    for norm in NORMS:
        np.testing.assert_allclose(steps(x, w, [-0.6], norm, unit), [[-0.7, -0.5, 0.7]], atol=1e-6)
    # Up to 3: the second pixel rises by 0.5 and bridges 1; the others have rooms of 0.1 each and bridge 0.2.
    np.testing.assert_allclose(steps(x, w, [3.0], "l2", unit), [[0.1, 0.5, -0.1]], atol=1e-6)


def test_many_coordinates():
    # Thousands of different walls, one after the other, in points of which many pixels are on a wall already.
    random = np.random.default_rng(5)
    x = np.clip(random.uniform(-0.5, 1.5, (8, 3000)), 0, 1).astype(np.float32)
    w = (random.normal(size=x.shape) ** 5).astype(np.float32)
    for share in (0.01, 0.5, 0.99):
        reach = np.sum(np.where(w > 0, w * x, w * (x - 1.0)), axis=1)
        b = np.sum(w.astype(np.float64) * x, axis=1) - share * reach
        lengths = {}
        for norm in NORMS:
            step = steps(x, w, b, norm, (0.0, 1.0))
            np.testing.assert_allclose(np.sum(w * (x + step), axis=1), b, atol=1e-5 * np.abs(w).sum(axis=1).max())
            lengths[norm] = {other: np.linalg.norm(step, ORDER[other], axis=1) for other in NORMS}
        # Each is the shortest in its own norm.
        for norm in NORMS:
            for other in NORMS:
                assert np.all(lengths[norm][norm] <= lengths[other][norm] * (1 + 1e-5))


@pytest.mark.parametrize("norm", NORMS)
def test_survives_what_has_no_direction(norm):
    # No weights, no gap, neither; weights whose squares are 0 in float32; a gap that overflows when divided by them.
    x = np.full((5, 3), 0.5, np.float32)
    w = tf.constant([[0.0] * 3, [1.0, 2.0, 3.0], [0.0] * 3, [1e-30] * 3, [1e-37, 0.0, -1e-37]])
    gap = tf.constant([1.0, 0.0, 0.0, 3e-31, 1e30])
    expected = [[0.0] * 3] * 3 + [[-0.1] * 3, [-0.5, 0.0, 0.5]]
    np.testing.assert_allclose(steps_to_hyperplane(tf.constant(x), w, gap, norm, (0.0, 1.0)), expected, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_weights_that_are_not_finite_end_the_search(norm):
    x, w = tf.fill([3, 4], 0.5), tf.constant([[1.0] * 4, [np.nan] * 4, [np.inf, 1.0, 1.0, 1.0]])
    step = steps_to_hyperplane(x, w, tf.constant([0.4, 1.0, 1.0]), norm, (0.0, 1.0)).numpy()
    np.testing.assert_allclose(step[0], [-0.1] * 4, atol=1e-6)
    assert np.isnan(step[1]).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_point_does_not_depend_on_the_others(norm):
    x, w, b = problems("any")
    together = steps(x, w, b, norm)
    alone = [steps(x[i : i + 1], w[i : i + 1], b[i : i + 1], norm)[0] for i in range(len(x))]
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_any_number_of_points_in_one_graph(norm):
    points = tf.TensorSpec([None, None])

    @tf.function(input_signature=[points, points, tf.TensorSpec([None])], autograph=False)
    def compiled(x, w, gap):
        return steps_to_hyperplane(x, w, gap, norm, (LOW, HIGH))

    for count in (0, 1, 7):
        x, w, b = (tf.constant(part[:count], tf.float32) for part in problems("any"))
        gap = tf.reduce_sum(w * x, axis=1) - b
        np.testing.assert_allclose(compiled(x, w, gap), steps_to_hyperplane(x, w, gap, norm, (LOW, HIGH)), atol=1e-6)


def test_unknown_norm():
    with pytest.raises(ValueError, match="norm must be 'linf', 'l2' or 'l1', got 'l0'"):
        steps_to_hyperplane(tf.zeros([1, 2]), tf.zeros([1, 2]), tf.zeros([1]), "l0", (0.0, 1.0))
