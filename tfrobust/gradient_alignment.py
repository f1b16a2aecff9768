"""How alike the loss gradients of several classifiers are: why adversarial images transfer, or do not.

cosines = gradient_cosines([model_a, model_b], x, y)
cosines[0, 1].mean()                        # near 0: what fools the one tells little about the other
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfrobust import losses, precision
from tfrobust.attacks.base import LogitsFn, NotDifferentiableError, input_gradient


def gradient_cosines(
    classifiers: Sequence[keras.Model | LogitsFn],
    images: np.ndarray,
    labels: np.ndarray,
    *,
    loss: losses.LossFn = losses.cross_entropy,
    batch_size: int = 100,
) -> np.ndarray:
    """Cosine of the angle between the gradients of each pair of classifiers at each image, [M, M, N].

    Madry et al. 2018, section 4, call it the correlation between the gradients of source and transfer network, which
    falls as capacity grows.

    Args:
      classifiers: M, pixels [B, H, W, C] -> logits [B, K]; asked in inference mode, in float32.
      images: float32 [N, H, W, C].
      labels: int [N].
      loss: its gradient with respect to the pixels is taken.
      batch_size: images at a time; the result does not depend on it beyond rounding.

    Returns:
      NaN where a gradient is 0, and for a classifier that has none.
    """
    gradients = [_gradient_fn(precision.inference(classifier), loss) for classifier in classifiers]
    parts = []
    for start in range(0, len(images), batch_size):
        x, y = images[start : start + batch_size], labels[start : start + batch_size]
        units = np.stack([_unit(gradient(x, y)) for gradient in gradients], axis=1)
        parts.append(units @ units.transpose(0, 2, 1))
    return np.concatenate(parts).transpose(1, 2, 0)


def _gradient_fn(logits_fn, loss):
    traced = tf.function(lambda x, y: input_gradient(logits_fn, loss, x, y), autograph=False, reduce_retracing=True)

    def gradient(x, y):
        arguments = tf.constant(x, tf.float32), tf.constant(y, tf.int64)
        try:
            # Through its graph: TensorFlow warns of functions like this one, which is made anew for each classifier.
            return traced.get_concrete_function(*arguments)(*arguments).numpy()
        except NotDifferentiableError:
            return np.zeros_like(x)

    return gradient


def _unit(gradient):
    """The gradients as unit vectors [N, H W C], NaN where they are 0."""
    flat = gradient.reshape(len(gradient), -1).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)
