"""Attacks without a budget: the smallest change that alters the class, and how they fit a threat model."""

import dataclasses
import math
from typing import Literal, NamedTuple, Protocol

import tensorflow as tf

from tfrobust.attacks.base import LogitsFn
from tfrobust.shapes import choose
from tfrobust.threat_models import ThreatModel


class MinimumNorm(NamedTuple):
    """What a minimum-norm attack found.

    Attributes:
      x_adv: the nearest adversarial image of each example, of the shape and dtype of x; x itself where none was found.
        NaN where none was found because gradients are: x would pass for a robust example.
      distance: float32 [B], its distance from x in the attack's norm; infinity where none was found, or NaN.
      success: bool [B], whether one was found. An image that is misclassified as it is counts, at distance 0.
    """

    x_adv: tf.Tensor
    distance: tf.Tensor
    success: tf.Tensor


class MinimumNormAttack(Protocol):
    """Frozen configuration whose `minimize` looks for the nearest adversarial image of every example."""

    norm: Literal["linf", "l2", "l1"]
    bounds: tuple[float, float]

    def minimize(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> MinimumNorm:
        """The nearest adversarial images of `x` [B, H, W, C] with labels `y` [B].

        Args:
          logits_fn: [B, H, W, C] pixels -> [B, K] logits; differentiated.
          seed: as in `seeds`.
          judge_fn: the logits that decide what is adversarial, by default `logits_fn`. They have the last word on every
            image that is returned: give them where `logits_fn` is an approximation of the model.
        """
        ...


def confirmed(
    found: MinimumNorm, x: tf.Tensor, y: tf.Tensor, judge_fn: LogitsFn, targeted: bool = False
) -> MinimumNorm:
    """`found` less the images that are not adversarial in the batch as it is returned: where `judge_fn` saw them in a
    batch of another size, its rounding may have differed."""
    success = found.success & ((tf.argmax(judge_fn(found.x_adv), axis=-1) == y) == targeted)
    return MinimumNorm(choose(success, found.x_adv, x), tf.where(success, found.distance, math.inf), success)


def shown_broken(found: MinimumNorm, broken: tf.Tensor) -> MinimumNorm:
    """`found` with NaN for image and distance where none was found and gradients were NaN: `broken`, bool [B]."""
    sound = found.success | ~broken
    return MinimumNorm(choose(sound, found.x_adv, math.nan), tf.where(sound, found.distance, math.nan), found.success)


@dataclasses.dataclass(frozen=True)
class WithinBall:
    """A minimum-norm attack as a norm-bounded one: its image where that lies within epsilon or is NaN, and x elsewhere.

    Attributes:
      attack: looks for the nearest adversarial images.
      threat: of the attack's norm and bounds.

    Raises:
      ValueError: if norms or bounds differ.
    """

    attack: MinimumNormAttack
    threat: ThreatModel

    def __post_init__(self):
        for name in ("norm", "bounds"):
            ours, theirs = getattr(self.threat, name), getattr(self.attack, name)
            if ours != theirs:
                raise ValueError(f"threat must have the attack's {name} {theirs!r}, got {ours!r}")

    def __call__(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> tf.Tensor:
        """x_adv of the shape and dtype of x [B, H, W, C]; see `pgd.PGD.__call__`."""
        found = self.attack.minimize(logits_fn, x, y, seed=seed, judge_fn=judge_fn)
        return choose(found.distance > self.threat.epsilon, tf.convert_to_tensor(x), found.x_adv)
