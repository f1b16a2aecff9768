"""Parseval training: weights are kept close to tight frames, so that no layer stretches a change of its input."""

import keras
import tensorflow as tf

from tfrobust import seeds
from tfrobust.trainers.adversarial import AdversarialTrainer, decaying_kernels


class ParsevalTrainer(AdversarialTrainer):
    """Training followed, after every update, by a step of each kernel toward a tight frame (Cisse et al. 2017, eq. 8).

    A kernel is a matrix K with a column for each output, a convolution's unfolded and multiplied by the root of its
    number of positions, in which the pixels of overlapping patches come again; a depthwise convolution's has a column
    for each output, too, of the one channel that it reads. Of a sample S of its columns, another one in every step,

        K_S <- (1 + beta) K_S - beta K_S K_S^T K_S

    which is one step down the gradient of beta / 4 |K_S^T K_S - I|^2.

        trainer = ParsevalTrainer(classifier, beta=3e-4, fraction=0.3, seed=0)

    Args:
      classifier: a built keras.Model, [B, H, W, C] pixels -> [B, K] logits.
      attack, seed, options: as in `AdversarialTrainer`; no attack by default.
      beta: length of the step, 0 or more; Deep Defense (Yan et al. 2018) took 1e-4 and 3e-4.
      fraction: of the columns in a sample, above 0 and up to 1; Deep Defense took 0.3.

    Raises:
      ValueError: for values out of these ranges.
    """

    decides_steps = AdversarialTrainer.decides_steps | {"beta", "fraction"}

    def __init__(
        self, classifier: keras.Model, attack=None, *, seed: int, beta: float = 3e-4, fraction: float = 0.3, **options
    ):
        super().__init__(classifier, attack, seed=seed, **options)
        if not beta >= 0:
            raise ValueError(f"beta must be 0 or more, got {beta!r}")
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must be above 0 and at most 1, got {fraction!r}")
        self.beta = beta
        self.fraction = fraction

    def train_step(self, data):
        """One update, and the kernels' step toward tight frames."""
        logs = super().train_step(data)
        # The sample is the same on every replica: the count of updates, not the replica, decides it.
        step = tf.cast(self.optimizer.iterations.value, tf.int32)
        tf.distribute.get_replica_context().merge_call(self._move_kernels, args=(step,))
        return logs

    def _move_kernels(self, strategy, step):
        depthwise = _depthwise_kernels(self.classifier)
        for index, kernel in enumerate(decaying_kernels(self.classifier)):
            shape = [*kernel.shape[:2], 1, -1] if id(kernel) in depthwise else kernel.shape

            def move(variable, step, index=index, shape=shape):
                seed = seeds.fold_in(seeds.fold_in(self.seed, step), index)
                moved = toward_tight_frame(tf.reshape(variable, shape), self.beta, self.fraction, seed)
                return variable.assign(tf.reshape(moved, variable.shape))

            strategy.extended.update(kernel.value, move, args=(step,))


def _depthwise_kernels(classifier):
    """The ids of kernels [height, width, channels, outputs of each channel]."""
    depthwise, separable = keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D
    layers = classifier._flatten_layers()
    kernels = {id(layer.kernel) for layer in layers if isinstance(layer, depthwise)}
    return kernels | {id(layer.depthwise_kernel) for layer in layers if isinstance(layer, separable)}


def toward_tight_frame(kernel: tf.Tensor, beta: float, fraction: float, seed) -> tf.Tensor:
    """`ParsevalTrainer`'s step of one kernel, [in, out] or [height, width, in, out], of the same shape.

    Args:
      seed: of the sample of columns; see `seeds`.
    """
    kernel = tf.convert_to_tensor(kernel)
    outputs = kernel.shape[-1]
    positions = kernel.shape[0] * kernel.shape[1] if kernel.shape.rank == 4 else 1
    columns = tf.reshape(kernel, [-1, outputs]) * positions**0.5
    size = max(1, round(fraction * outputs))
    sample = tf.argsort(seeds.uniform(seed, columns[0], 0.0, 1.0))[:size]
    chosen = tf.gather(columns, sample, axis=1)
    moved = (1 + beta) * chosen - beta * chosen @ tf.matmul(chosen, chosen, transpose_a=True)
    rows = tf.tensor_scatter_nd_update(tf.transpose(columns), sample[:, tf.newaxis], tf.transpose(moved))
    return tf.reshape(tf.transpose(rows), kernel.shape) / positions**0.5
