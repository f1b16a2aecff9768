"""Deep Defense: training that pushes the decision boundaries away from what is classified correctly."""

import dataclasses
import math
import numbers
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfrobust.attacks.base import LogitsFn, require, require_norm
from tfrobust.attacks.deepfool_perturbation import deepfool_perturbation
from tfrobust.full_precision import in_float32
from tfrobust.perturbation_size import image_norm, relative_size
from tfrobust.precision import inference
from tfrobust.trainers.adversarial import AdversarialTrainer

# exp(z) goes on like a logarithm from here: far above any ordinary d * |delta| / |x|, and far below an overflow.
_LARGEST_EXPONENT = 30.0


@dataclasses.dataclass(frozen=True, eq=False)
class DeepDefense:
    """The regulariser of Yan, Guo and Zhang 2018, equation (6), with exp for R:

        strength / B * (sum over correct k of exp(-c |delta_k|_p / |x_k|_p)
                        + sum over misclassified k of exp(d |delta_k|_p / |x_k|_p))

    with delta of `deepfool_perturbation`, which moves misclassified images toward their label. As in the authors' code
    both sums are divided by the whole batch. Images of norm 0 add nothing.

    Attributes:
      strength: lambda, 0 or more.
      c: scale of the correctly classified images, 0 or more: the larger, the more those count that are near a boundary.
      d: scale of the misclassified ones, 0 or more.
      iterations: of DeepFool, 1 or more.
      norm: "l2" (p = 2) or "linf" (p = infinity, with DeepFool's linf steps).
      center: what counts as 0 in |x|, an image [H, W, C] or a number: the mean image for networks that subtract it, as
        the authors' do.
      overshoot, candidates: see `deepfool_perturbation`.

    Raises:
      ValueError: for values out of these ranges.
    """

    strength: float = 15.0
    c: float = 25.0
    d: float = 5.0
    iterations: int = 5
    norm: str = "l2"
    center: np.ndarray | float = 0.0
    overshoot: float = 0.02
    candidates: int | None = 10

    def __post_init__(self):
        require_norm(self.norm)
        require(self, iterations=1)
        for name in ("strength", "c", "d"):
            value = getattr(self, name)
            if not (isinstance(value, numbers.Real) and 0 <= value < math.inf):
                raise ValueError(f"{name} must be a number of 0 or more, got {value!r}")

    def __call__(self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, choose_fn: LogitsFn | None = None) -> tf.Tensor:
        """What each image adds to the mean: strength * exp(...), [B]; see `deepfool_perturbation` for the arguments."""
        y = tf.cast(y, tf.int64)
        found = deepfool_perturbation(
            logits_fn,
            x,
            y,
            iterations=self.iterations,
            norm=self.norm,
            overshoot=self.overshoot,
            candidates=self.candidates,
            choose_fn=choose_fn,
        )
        size = relative_size(found.delta, x, self.norm, self.center)
        is_correct = tf.argmax(logits_fn(tf.stop_gradient(x)), axis=-1) == y
        # Nothing but an image of norm 0 is left out: what is not finite must show.
        is_measured = image_norm(x, self.norm, self.center) != 0
        scale = tf.cast(tf.where(is_correct, -float(self.c), float(self.d)), size.dtype)
        exponent = scale * tf.where(is_measured, size, tf.zeros_like(size))
        return tf.where(is_measured, self.strength * _guarded_exp(exponent), tf.zeros_like(size))


class DeepDefenseTrainer(AdversarialTrainer):
    """Trains a classifier, best one that is trained already, with the regulariser of Deep Defense.

    As in the authors' code batch normalisation uses its moving statistics, which stay as they are, but for an attack
    with attack_batch_norm="batch"; unlike there dropout is off too, so that regulariser and cross-entropy are of one
    network. With an attack the cross-entropy is that of
    adversarial images, as in `AdversarialTrainer`, and the regulariser still that of the natural ones.

        trainer = DeepDefenseTrainer(classifier, DeepDefense(strength=15, c=25, d=5), seed=0)
        trainer.compile(keras.optimizers.SGD(5e-4, momentum=0.9), loss=cross_entropy_from_logits)
        trainer.fit(batches)

    Args:
      classifier: a built keras.Model, [B, H, W, C] pixels -> [B, K] logits.
      regularizer: what is added to the loss.
      attack, seed, options: as in `AdversarialTrainer`.
      layers: names of the classifier's layers whose weights the regulariser moves, one or more; None for all. (The
        paper's layer-wise study.) Cross-entropy and weight decay move all of them.

    Raises:
      ValueError: for no names, or if one is not that of a layer with trainable weights.
    """

    decides_steps = AdversarialTrainer.decides_steps | {"regularizer"}
    training_metrics = ("natural_accuracy", "regularizer")

    def __init__(
        self,
        classifier: keras.Model,
        regularizer: DeepDefense,
        attack=None,
        *,
        seed: int,
        layers: Sequence[str] | None = None,
        **options,
    ):
        super().__init__(classifier, attack, seed=seed, **options)
        self.regularizer = regularizer
        self.regularizer_value = keras.metrics.Mean(name="regularizer")
        known = {layer.name: layer for layer in classifier.layers if layer.trainable_variables}
        for name in () if layers is None else layers or [None]:
            if name not in known:
                raise ValueError(f"layers must be some of those with weights ({', '.join(known)}), got {name!r}")
        self._moved_layers = None if layers is None else tuple(layers)

    def call(self, x, training=False):
        """Logits [B, K] of pixels [B, H, W, C], in inference mode."""
        return inference(self.classifier)(self.attacked(x))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Cross-entropy and weight decay, and in training the regulariser, of which every replica has its share."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return loss
        # In float32, whatever the pixels and the classifier's logits are.
        natural = tf.cast(x[1], tf.float32)
        each = self.regularizer(self._logits_fn(), natural, y, self.twin.logits_fn())
        if sample_weight is not None:
            # As Keras weighs the cross-entropy: the sum of the weights is not divided by.
            each *= tf.reshape(tf.cast(sample_weight, each.dtype), [-1])
        value = tf.reduce_mean(each)
        self.regularizer_value.update_state(value)
        return loss + tf.cast(value, loss.dtype) / tf.distribute.get_strategy().num_replicas_in_sync

    def _logits_fn(self):
        """The classifier in float32, with gradients for the weights that the regulariser moves."""
        # Asked now: layers may have been frozen or unfrozen since.
        moved = self.classifier.trainable_variables
        if self._moved_layers is not None:
            layers = [layer for layer in self.classifier.layers if layer.name in self._moved_layers]
            moved = [variable for layer in layers for variable in layer.trainable_variables]
        moved = {id(variable) for variable in moved}
        trainable = [
            variable.value if id(variable) in moved else tf.stop_gradient(variable.value)
            for variable in self.classifier.trainable_variables
        ]
        fixed = [variable.value for variable in self.classifier.non_trainable_variables]

        def logits(x):
            with in_float32(self.classifier):
                return tf.cast(self.classifier.stateless_call(trainable, fixed, x, training=False)[0], tf.float32)

        return logits


def _guarded_exp(z):
    """exp(z), and from `_LARGEST_EXPONENT` on a logarithm, whose gradient shrinks as that of z grows."""
    most = tf.constant(_LARGEST_EXPONENT, z.dtype)
    return tf.exp(tf.minimum(z, most)) * (1 + tf.math.log1p(tf.nn.relu(z - most)))
