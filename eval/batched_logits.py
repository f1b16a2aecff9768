"""A classifier's logits of many images."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from eval import common
from tfrobust import precision


def of(classifier) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images [N, H, W, C] to logits, float32 [N, K], --eval_batch_size of them at a time."""
    inference = precision.inference(classifier)
    judge = tf.function(lambda x: tf.cast(inference(x), tf.float32), autograph=False, reduce_retracing=True)

    def logits(images):
        size = common.EVAL_BATCH_SIZE.value
        with common.device():
            return np.concatenate([judge(images[i : i + size]).numpy() for i in range(0, len(images), size)])

    return logits


def most_likely(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes with the largest logits [N, K] and their confidence, both [N]."""
    probabilities = tf.nn.softmax(logits).numpy()
    return probabilities.argmax(axis=1), probabilities.max(axis=1)
