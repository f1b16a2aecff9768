"""Seeds: what is drawn depends on the seed alone, neither on earlier draws nor on batch mates."""

import numpy as np
import pytest
import tensorflow as tf

from tfrobust import seeds


def test_as_tensor():
    np.testing.assert_array_equal(seeds.as_tensor(5), [0, 5])
    np.testing.assert_array_equal(seeds.as_tensor(-1), [0, -1])
    np.testing.assert_array_equal(seeds.as_tensor(tf.constant([3, 4], tf.int64)), [3, 4])
    np.testing.assert_array_equal(seeds.as_tensor(np.array([[1, 2], [3, 4], [5, 6]])), [[1, 2], [3, 4], [5, 6]])
    assert all(seeds.as_tensor(seed).dtype == tf.int32 for seed in (5, np.array([1, 2]), np.array([[1, 2]])))


def test_numpy_integers_are_ints():
    np.testing.assert_array_equal(seeds.as_tensor(np.int64(5)), seeds.as_tensor(5))
    np.testing.assert_array_equal(seeds.per_example(np.int64(5), tf.range(2)), seeds.per_example(5, tf.range(2)))


@pytest.mark.parametrize("seed", [2**31, -(2**31) - 1])
def test_too_large_a_seed(seed):
    with pytest.raises(ValueError, match=f"seed must fit in 32 bits, got {seed}"):
        seeds.as_tensor(seed)
    with pytest.raises(ValueError, match=f"seed must fit in 32 bits, got {seed}"):
        seeds.per_example(seed, tf.range(2))


@pytest.mark.parametrize("shape", [(3,), (4, 3), (1, 4, 2)])
def test_shape_of_a_seed(shape):
    with pytest.raises(ValueError, match=r"seed must be an int, or have shape \[2\] or \[B, 2\], got shape"):
        seeds.as_tensor(np.zeros(shape, np.int32))


def test_per_example_is_decided_by_index_and_seed():
    np.testing.assert_array_equal(seeds.per_example(9, tf.constant([4, 0, 2])), [[4, 9], [0, 9], [2, 9]])


def test_fold_in_keeps_the_shape_and_separates_the_data():
    one = [tuple(seeds.fold_in(5, data).numpy()) for data in range(-1, 50)]
    assert len(set(one)) == 51
    assert tuple(seeds.fold_in(5, tf.constant(3)).numpy()) == one[4]
    assert tuple(seeds.fold_in(6, 3).numpy()) != one[4]
    many = seeds.per_example(5, tf.range(4))
    folded = seeds.fold_in(many, 3)
    assert folded.shape == (4, 2) and len(np.unique(folded, axis=0)) == 4
    for i in range(4):
        np.testing.assert_array_equal(folded[i], seeds.fold_in(many[i], 3))


def test_folding_is_not_commutative():
    # Step 1 on replica 2 must not share the noise of step 2 on replica 1.
    def step_and_replica(step, replica):
        return tuple(seeds.fold_in(seeds.fold_in(0, step), replica).numpy())

    assert len({step_and_replica(i, j) for i in range(5) for j in range(5)}) == 25


@pytest.mark.parametrize("seed", [3, tf.constant([3, 4])])
def test_one_seed_draws_different_numbers_for_each_example(seed):
    like = tf.zeros([200, 5, 1])
    drawn = seeds.uniform(seed, like, -2.0, 4.0).numpy()
    assert drawn.shape == (200, 5, 1) and drawn.dtype == np.float32
    assert len(np.unique(drawn)) > 990
    assert -2 <= drawn.min() < -1.9 and 3.9 < drawn.max() < 4
    np.testing.assert_array_equal(seeds.uniform(seed, like, -2.0, 4.0), drawn)


def test_a_seed_for_each_example_fixes_its_numbers():
    def draw(indices):
        seed, like = seeds.per_example(7, tf.constant(indices)), tf.zeros([len(indices), 5, 4])
        return seeds.uniform(seed, like, 0.0, 1.0), seeds.normal(seed, like)

    together, reordered = draw([0, 1, 2, 3]), draw([3, 9, 1])
    for a, b in zip(together, reordered, strict=True):
        np.testing.assert_array_equal(b[0], a[3])
        np.testing.assert_array_equal(b[2], a[1])
        assert len(np.unique(a)) == 80


def test_normal():
    drawn = seeds.normal(2, tf.zeros([1000, 10], tf.float64)).numpy()
    assert drawn.dtype == np.float64
    # Five standard deviations of mean and variance of 10,000 numbers.
    assert abs(drawn.mean()) < 0.05 and abs(drawn.var() - 1) < 5 * np.sqrt(2 / 10_000)


def test_number_of_seeds_must_be_that_of_the_examples():
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        seeds.uniform(seeds.per_example(0, tf.range(3)), tf.zeros([4, 2]), 0.0, 1.0)


def test_seeds_for_each_example():
    given = seeds.per_example(5, tf.range(4))
    np.testing.assert_array_equal(seeds.for_each_example(given, 4), given)
    made = seeds.for_each_example(7, 4)
    assert made.shape == [4, 2] and len(np.unique(made, axis=0)) == 4
    # The same for the first ones of a larger batch, and others for another seed.
    np.testing.assert_array_equal(seeds.for_each_example(7, 9)[:4], made)
    assert not np.any(np.all(seeds.for_each_example(8, 4) == made, axis=1))


def test_fold_in_each_is_fold_in_of_each():
    given = seeds.per_example(5, tf.range(4))
    data = tf.constant([3, 0, 3, 9])
    expected = [seeds.fold_in(given[i], data[i]) for i in range(4)]
    np.testing.assert_array_equal(seeds.fold_in_each(given, data), expected)
