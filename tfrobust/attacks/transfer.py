"""Transfer attacks: images made with a surrogate, tried on the model.

attack = Transfer(PGD(threat, steps=40, step_size=0.01), surrogate)
evaluate(model, images, labels, {"transfer from A": attack}, seed=0)
"""

import copy
import dataclasses

import keras
import tensorflow as tf

from tfrobust.attacks.base import Attack, LogitsFn, scaled
from tfrobust.precision import AttackTwin, Precision, inference
from tfrobust.threat_models import ThreatModel


@dataclasses.dataclass(frozen=True)
class Transfer:
    """An attack on a surrogate in the place of the model: the adversary of black-box tables.

    The model's gradients, logits and decisions are not used. Attacks that stop when they have fooled the surrogate
    (APGD, MultiTargeted, the minimum-norm ones) end just beyond its boundary, and transfer less well than those that go
    on (PGD, MomentumPGD).

    Attributes:
      attack: makes the images.
      surrogate: a keras.Model, or a function, pixels [B, H, W, C] -> logits [B, K]. A model is kept as a function that
        bears its Keras name. Reports call the surrogate by its name; to give it another one see `named`.
      precision: of the surrogate's gradients where it is a keras.Model, see `precision.AttackTwin`.

    Raises:
      ValueError: for a surrogate that cannot be called or has no name.
    """

    attack: Attack
    surrogate: keras.Model | LogitsFn
    precision: Precision = "float32"

    def __post_init__(self):
        if isinstance(self.surrogate, keras.Model):
            object.__setattr__(self, "surrogate", named(self.surrogate, self.surrogate.name))
        if not (callable(self.surrogate) and hasattr(self.surrogate, "__name__")):
            raise ValueError(f"surrogate must be a keras.Model or a function with a name, got {self.surrogate!r}")
        # Made here, because variables are better not made while a graph is traced.
        model = getattr(self.surrogate, "model", None)
        twin = AttackTwin(model, self.precision) if isinstance(model, keras.Model) else None
        object.__setattr__(self, "_gradients", twin.logits_fn if twin else lambda: self.surrogate)

    @property
    def threat(self) -> ThreatModel:
        """The threat model of the attack."""
        return self.attack.threat

    def scaled(self, factor) -> "Transfer":
        """The same attack with epsilon and step sizes times `factor`, a float or a scalar tensor."""
        # With the same twin: in a graph, where epsilon is warmed up, none can be made.
        found = copy.copy(self)
        object.__setattr__(found, "attack", scaled(self.attack, factor))
        return found

    def __call__(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> tf.Tensor:
        """x_adv of the shape and dtype of x [B, H, W, C]; see `pgd.PGD.__call__`.

        `logits_fn` and `judge_fn` are not used: the surrogate also chooses between restarts and says who is fooled.
        """
        return self.attack(self._gradients(), x, y, seed=seed, judge_fn=self.surrogate)


def named(model: keras.Model | LogitsFn, name: str) -> LogitsFn:
    """The logits of `model`, in inference mode, under a name: for two surrogates that Keras calls the same.

    Returns:
      A function, pixels [B, H, W, C] -> float32 logits [B, K], whose `__name__` is `name`.
    """

    def logits_fn(x):
        return tf.cast(inference(model)(x), tf.float32)

    logits_fn.__name__ = name
    logits_fn.model = model
    return logits_fn
