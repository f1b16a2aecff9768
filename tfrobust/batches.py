"""A stream of training batches that depends on seed and step alone, so that a resumed run sees the same ones.

train = datasets.load("mnist", "train")
stream = training_batches(train.images, train.labels, batch_size=128, seed=0, num_steps=5000)
"""

import functools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfrobust.augmentation import Augmentation
from tfrobust.checks import require_integer
from tfrobust.image_folders import ImageFiles


def batch_indices(
    num_examples: int,
    batch_size: int,
    *,
    seed: int,
    start_step: int = 0,
    num_steps: int,
    drop_tail: bool = False,
) -> Iterator[np.ndarray]:
    """Yields the example indices of the batches `start_step` to `start_step + num_steps - 1` of the training stream.

    The stream is one permutation after another, that of an epoch being `default_rng([seed, epoch])`'s, cut into
    batches. Every epoch visits every example once, and a batch may straddle epochs; with `drop_tail` what does not
    fill a batch is left out of the epoch instead, as in the original CIFAR10 challenge. A batch depends on its step
    alone, so a run resumed at `start_step` continues exactly as it would have without the break.

    Args:
        num_examples: number of examples, at least 1.
        batch_size: indices per batch, at least 1; it may exceed num_examples.
        seed: non-negative integer; another seed gives another stream.
        start_step: first batch to yield; those before it cost nothing.
        num_steps: number of batches to yield.
        drop_tail: drop the incomplete batch at the end of an epoch.

    Returns:
        An iterator over num_steps int64 arrays [batch_size] with values in [0, num_examples).

    Raises:
        ValueError: an argument is not an integer or is too small, or `drop_tail` would leave nothing; raised at the
            call, not at the first batch.
    """
    require_integer("num_examples", num_examples, 1)
    require_integer("batch_size", batch_size, 1)
    require_integer("seed", seed, 0)
    require_integer("start_step", start_step, 0)
    require_integer("num_steps", num_steps, 0)

    if drop_tail and batch_size > num_examples:
        raise ValueError(f"batch_size must be at most the {num_examples} examples with drop_tail, got {batch_size}")
    used = int(num_examples) - (int(num_examples) % int(batch_size) if drop_tail else 0)

    def permutation(epoch: int) -> np.ndarray:
        return np.random.default_rng([seed, epoch]).permutation(num_examples)[:used].astype(np.int64)

    def stream() -> Iterator[np.ndarray]:
        epoch, offset = divmod(int(start_step) * int(batch_size), used)
        ahead = permutation(epoch)[offset:]
        for _ in range(num_steps):
            while len(ahead) < batch_size:
                epoch += 1
                ahead = np.concatenate([ahead, permutation(epoch)])
            yield ahead[:batch_size]
            ahead = ahead[batch_size:]

    return stream()


def training_batches(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    num_steps: int,
    drop_tail: bool = False,
    augmentation: Augmentation | None = None,
) -> tf.data.Dataset:
    """Returns the batches that `batch_indices` names as a tf.data.Dataset of known length `num_steps`.

    Every batch has the same static shape, so a compiled training step is traced once; under tf.distribute it is the
    global batch. Iterating again starts again at `start_step`.

    Args:
        images: [N, H, W, C], any dtype that converts to float32, or `image_folders.ImageFiles`.
        labels: [N], integers.
        batch_size, seed, start_step, num_steps, drop_tail: see `batch_indices`.
        augmentation: of the images of each batch; none by default.

    Returns:
        Dataset of (x float32 [batch_size, H, W, C], y int64 [batch_size]).

    Raises:
        ValueError: images and labels differ in length, or as for `batch_indices`.
    """
    if not isinstance(images, ImageFiles):
        images = np.asarray(images, np.float32)
    labels = np.asarray(labels, np.int64)
    if len(images) != len(labels):
        raise ValueError(f"labels must be as many as the {len(images)} images, got {len(labels)}")
    indices = functools.partial(
        batch_indices,
        len(images),
        batch_size,
        seed=seed,
        start_step=start_step,
        num_steps=num_steps,
        drop_tail=drop_tail,
    )
    indices()  # checks the arguments here and not in a tf.data thread

    augment = augmentation or Augmentation()

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for step, batch in enumerate(indices(), start_step):
            yield augment(images[batch], seed=seed, step=step), labels[batch]

    signature = (
        tf.TensorSpec([batch_size, *images.shape[1:]], tf.float32),
        tf.TensorSpec([batch_size], tf.int64),
    )
    # A generator, because tensors inside the dataset would be copied with it wherever it is serialised.
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(num_steps))
    options = tf.data.Options()
    # There are no files to divide among workers, and tf.distribute warns if it has to find that out.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    # The thread that tunes datasets sleeps for up to a minute, and an iterator that is done waits for it now and then.
    options.autotune.enabled = False
    return dataset.with_options(options).prefetch(2)
