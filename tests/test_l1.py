"""The l1 ball: projections derived by hand, by sorting and by a quadratic programme."""

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from tfrobust import l1

BOX = (0.0, 1.0)


def by_sorting(delta, epsilon):
    """Projection of a vector onto the l1 ball without a box (Duchi et al. 2008, figure 1)."""
    if np.abs(delta).sum() <= epsilon:
        return delta
    sizes = np.sort(np.abs(delta))[::-1]
    excess = np.cumsum(sizes) - epsilon
    kept = np.flatnonzero(sizes > excess / np.arange(1, len(sizes) + 1))[-1]
    return np.sign(delta) * np.maximum(np.abs(delta) - excess[kept] / (kept + 1), 0)


def test_by_hand():
    # (0.5, -0.3, 0.1) shrinks by 0.1 to a norm of 0.6.
    projected = l1.project(tf.constant([[1.0, 0.2, 0.6]]), tf.constant([[0.5, 0.5, 0.5]]), 0.6, BOX)
    np.testing.assert_allclose(projected, [[0.9, 0.3, 0.5]], atol=1e-6)
    # The wall allows the first pixel 0.1; what it may not have is not taken from the others: 0.1 + 0.3 + 0.1.
    projected = l1.project(tf.constant([[1.4, 0.2, 0.6]]), tf.constant([[0.9, 0.5, 0.5]]), 0.6, BOX)
    np.testing.assert_allclose(projected, [[1.0, 0.2, 0.6]], atol=1e-6)
    # The first pixel stays at the wall, since it could shrink by 0.4 first; the others shrink by 0.1.
    projected = l1.project(tf.constant([[1.4, 0.2, 0.7]]), tf.constant([[0.9, 0.5, 0.5]]), 0.4, BOX)
    np.testing.assert_allclose(projected, [[1.0, 0.3, 0.6]], atol=1e-6)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 10.0, 100.0])
def test_agrees_with_sorting_where_there_is_no_wall(epsilon):
    x = np.full([8, 10, 10, 3], 0.5, np.float32)
    delta = np.random.default_rng(0).laplace(size=x.shape).astype(np.float32)
    wide = l1.project(tf.constant(x + delta), tf.constant(x), epsilon, (-1e3, 1e3))
    expected = np.stack([by_sorting((x + delta - x)[i].ravel(), epsilon) for i in range(len(x))]).reshape(x.shape)
    np.testing.assert_allclose(wide - x, expected, atol=2e-5)


def test_is_the_nearest_point_of_ball_and_box():
    rng = np.random.default_rng(1)
    for _ in range(20):
        x, x_adv = rng.uniform(0, 1, 5), rng.uniform(-1, 2, 5)
        epsilon = rng.uniform(0.05, 2)
        # z = x + up - down, with up and down from 0 to the walls: the programme is smooth.
        walls = [(0, 1 - value) for value in x] + [(0, value) for value in x]
        found = scipy.optimize.minimize(
            lambda parts, x=x, x_adv=x_adv: np.sum((x + parts[:5] - parts[5:] - x_adv) ** 2),
            np.zeros(10),
            bounds=walls,
            constraints={"type": "ineq", "fun": lambda parts, epsilon=epsilon: epsilon - parts.sum()},
            method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 500},
        )
        nearest = x + found.x[:5] - found.x[5:]
        projected = l1.project(tf.constant([x_adv], tf.float32), tf.constant([x], tf.float32), epsilon, BOX)[0]
        np.testing.assert_allclose(projected, nearest, atol=1e-4)


def test_sparse_sign_counts_each_examples_own_entries():
    gradient = tf.constant([[[[3.0], [-2.0], [1.0], [0.0]]], [[[0.5], [0.0], [0.0], [0.0]]]])
    signs = l1.sparse_sign(gradient, tf.constant([3, 1]))
    np.testing.assert_allclose(tf.reshape(signs, [2, 4]), [[1 / 3, -1 / 3, 1 / 3, 0], [1, 0, 0, 0]], rtol=1e-6)
