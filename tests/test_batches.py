"""The stream of training batches."""

import numpy as np
import pytest
import tensorflow as tf

from tfrobust import batches
from tfrobust.augmentation import Augmentation


def test_every_epoch_visits_every_example_once():
    stream = np.concatenate(list(batches.batch_indices(10, 4, seed=3, num_steps=5)))
    assert stream.dtype == np.int64
    np.testing.assert_array_equal(np.sort(stream[:10]), np.arange(10))
    np.testing.assert_array_equal(np.sort(stream[10:]), np.arange(10))
    assert not np.array_equal(stream[:10], stream[10:])
    # The definition of the stream, which checkpoints of interrupted runs rely on.
    expected = [np.random.default_rng([3, epoch]).permutation(10) for epoch in range(2)]
    np.testing.assert_array_equal(stream, np.concatenate(expected))


@pytest.mark.parametrize(("num_examples", "batch_size"), [(10, 4), (10, 5), (10, 10), (3, 8), (1, 1), (7, 1)])
@pytest.mark.parametrize("start_step", [0, 1, 2, 5, 13])
def test_resumed_stream_is_the_uninterrupted_one(num_examples, batch_size, start_step):
    whole = list(batches.batch_indices(num_examples, batch_size, seed=0, num_steps=20))
    rest = list(
        batches.batch_indices(num_examples, batch_size, seed=0, start_step=start_step, num_steps=20 - start_step)
    )
    assert all(batch.shape == (batch_size,) for batch in whole)
    np.testing.assert_array_equal(rest, whole[start_step:])


def test_resuming_late_is_immediate():
    batch = next(batches.batch_indices(100, 50, seed=0, start_step=10**12, num_steps=1))
    assert len(np.unique(batch)) == 50


def test_seeds_give_different_streams():
    first, second = (next(batches.batch_indices(1000, 100, seed=seed, num_steps=1)) for seed in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("argument", "value", "expectation"),
    [
        ("num_examples", 0, "at least 1"),
        ("batch_size", 0, "at least 1"),
        ("batch_size", 2.0, "at least 1"),
        ("seed", -1, "at least 0"),
        ("start_step", -1, "at least 0"),
        ("num_steps", -1, "at least 0"),
    ],
)
def test_batch_indices_checks_its_arguments(argument, value, expectation):
    arguments = {"num_examples": 10, "batch_size": 2, "seed": 0, "start_step": 0, "num_steps": 1, argument: value}
    with pytest.raises(ValueError, match=f"{argument} must be an integer of {expectation}, got {value}"):
        batches.batch_indices(**arguments)


@pytest.fixture
def examples():
    """Ten images, the pixels of each equal to its index, and the label of each its index plus 100."""
    images = np.broadcast_to(np.arange(10, dtype=np.float32)[:, None, None, None], [10, 4, 4, 1])
    return images, np.arange(100, 110, dtype=np.int32)


def test_training_batches_follow_batch_indices(examples):
    dataset = batches.training_batches(*examples, batch_size=4, seed=5, start_step=2, num_steps=6)
    assert dataset.element_spec == (tf.TensorSpec([4, 4, 4, 1], tf.float32), tf.TensorSpec([4], tf.int64))
    assert len(dataset) == 6
    expected = list(batches.batch_indices(10, 4, seed=5, start_step=2, num_steps=6))
    for _ in range(2):  # a second iteration repeats the first
        read = list(dataset.as_numpy_iterator())
        np.testing.assert_array_equal([x[:, 0, 0, 0] for x, _ in read], expected)
        np.testing.assert_array_equal([y - 100 for _, y in read], expected)


def test_training_batches_of_a_finished_run(examples):
    assert not list(batches.training_batches(*examples, batch_size=4, seed=5, start_step=6, num_steps=0))


def test_training_batches_under_a_strategy(examples):
    dataset = batches.training_batches(*examples, batch_size=4, seed=5, num_steps=3)
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    distributed = strategy.experimental_distribute_dataset(dataset)
    read = [strategy.experimental_local_results(y)[0].numpy() - 100 for _, y in distributed]
    np.testing.assert_array_equal(read, list(batches.batch_indices(10, 4, seed=5, num_steps=3)))


def test_training_batches_check_their_arguments(examples):
    images, labels = examples
    with pytest.raises(ValueError, match="labels must be as many as the 10 images, got 9"):
        batches.training_batches(images, labels[:9], batch_size=4, seed=0, num_steps=1)
    with pytest.raises(ValueError, match="batch_size must be an integer of at least 1, got 0"):
        batches.training_batches(images, labels, batch_size=0, seed=0, num_steps=1)


def test_augmentation_is_the_same_after_a_resume():
    images, labels = np.random.default_rng(0).random((10, 5, 5, 1), np.float32), np.arange(10)
    options = {"batch_size": 4, "seed": 1, "augmentation": Augmentation(rotation=30, zoom=0.2, shift=1, flip=True)}
    whole = list(batches.training_batches(images, labels, num_steps=8, **options).as_numpy_iterator())
    assert all(np.abs(x - images[y]).max() > 0.1 for x, y in whole)
    resumed = batches.training_batches(images, labels, start_step=5, num_steps=3, **options)
    for (x, _), (again, _) in zip(whole[5:], resumed.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(x, again)


# The CIFAR10 challenge's stream.


def test_an_epoch_without_its_tail():
    stream = np.concatenate(list(batches.batch_indices(10, 4, seed=3, num_steps=4, drop_tail=True)))
    expected = [np.random.default_rng([3, epoch]).permutation(10)[:8] for epoch in range(2)]
    np.testing.assert_array_equal(stream, np.concatenate(expected))
    later = list(batches.batch_indices(10, 4, seed=3, start_step=3, num_steps=1, drop_tail=True))
    np.testing.assert_array_equal(later[0], stream[12:])


def test_a_batch_larger_than_the_data_has_no_tail_to_drop():
    with pytest.raises(ValueError, match="batch_size must be at most the 10 examples with drop_tail, got 11"):
        batches.batch_indices(10, 11, seed=0, num_steps=1, drop_tail=True)
