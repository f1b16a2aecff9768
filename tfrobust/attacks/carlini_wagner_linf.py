"""The linf attack of Carlini and Wagner: a penalty on pixels that change by more than tau, and a tau that falls.

attack = CarliniWagnerLinf(steps=200)
found = attack.minimize(model, x, y, seed=0)                            # MinimumNorm(x_adv, distance, success)
x_adv = WithinBall(attack, ThreatModel("linf", 0.3))(model, x, y, seed=0)
"""

import dataclasses
import numbers
from typing import ClassVar

import tensorflow as tf

from tfrobust.attacks import carlini_wagner_descent as descent
from tfrobust.attacks.base import LogitsFn, checked_examples
from tfrobust.attacks.minimum_norm import MinimumNorm
from tfrobust.shapes import column_of

# What the constant is multiplied by where it does not lead to an adversarial image.
GROWTH = 2.0
# Where tau ends, as a part of the pixel range.
LAST_TAU = 1e-4


@dataclasses.dataclass(frozen=True)
class CarliniWagnerLinf:
    """Descents within an ever smaller tau, until the largest constant finds no adversarial image any more.

        minimise over w    sum_i max(0, |x_adv - x|_i - tau) + const * max(0, kappa - lead),    x_adv = pixels(tanh(w))

    Carlini and Wagner 2017, "Towards Evaluating the Robustness of Neural Networks", section VI-C, with tau and const of
    each example its own. As soon as an image is adversarial and within tau, tau becomes `decrease` times its distance,
    and the descent goes on from there with a new Adam. Where the steps are used up, the constant doubles.

    As in the authors' code, except that `abort_early` ends a descent whose loss no longer falls, that valid pixels take
    0.9 of tanh's range (`carlini_wagner_descent.SHARE`), that changes are measured in parts of the pixel range, that
    the nearest adversarial image counts even where it is not within tau, and that tau may fall below 1 / 256.

    The result does not depend on the seed.

    Attributes:
      bounds: lowest and highest valid pixel.
      steps: the most gradients for one constant and tau, 1 or more.
      decrease: tau as a part of the distance that was reached, above 0 and below 1.
      initial_const: the first constant, above 0.
      largest_const: the example is done when its constant is larger; `initial_const` or more.
      learning_rate: Adam's, above 0; the length of its first step in tanh space.
      kappa: by how much the logits must lead, 0 or more. `judge_fn` is asked only for the class.
      abort_early: end a descent whose loss has not fallen by a ten thousandth in a tenth of the steps.
      targeted: `y` is the class to reach, instead of the one to leave.

    Raises:
      ValueError: for values out of these ranges.
    """

    norm: ClassVar[str] = "linf"

    bounds: tuple[float, float] = (0.0, 1.0)
    steps: int = 1000
    decrease: float = 0.9
    initial_const: float = 1e-5
    largest_const: float = 20.0
    learning_rate: float = 0.005
    kappa: float = 0.0
    abort_early: bool = True
    targeted: bool = False

    def __post_init__(self):
        descent.check(self)
        descent.require_finite(self, "largest_const")
        if self.largest_const < self.initial_const:
            raise ValueError(
                f"largest_const must be initial_const {self.initial_const!r} or more, got {self.largest_const!r}"
            )
        if not (isinstance(self.decrease, numbers.Real) and 0 < self.decrease < 1):
            raise ValueError(f"decrease must be above 0 and below 1, got {self.decrease!r}")

    def minimize(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> MinimumNorm:
        """The nearest adversarial images that were met; see `minimum_norm.MinimumNormAttack.minimize`."""
        x, y = checked_examples(x, y, self.bounds)
        more = {"tau": tf.ones([tf.shape(x)[0]])}
        return descent.descend(self, _excess, self._next_tau, more, logits_fn, x, y, judge_fn)

    def _next_tau(self, state, over):
        """A smaller tau where an adversarial image is within tau, a larger constant where the attempt has failed."""
        reached = state["distance"] / (self.bounds[1] - self.bounds[0])
        within = reached <= state["tau"]
        tau = tf.where(within, self.decrease * reached, state["tau"])
        const = tf.where(over & ~within, GROWTH * state["const"], state["const"])
        done = state["done"] | (tau < LAST_TAU) | (const > self.largest_const)
        return {**state, "tau": tau, "const": const, "done": done}, over | within


def _excess(delta, state):
    """What pixels change by beyond tau, summed, and its gradient."""
    excess = tf.abs(delta) - column_of(tf.cast(state["tau"], delta.dtype), delta)
    size = tf.reduce_sum(tf.reshape(tf.nn.relu(excess), [tf.shape(delta)[0], -1]), axis=1)
    return tf.cast(size, tf.float32), tf.where(excess > 0, tf.sign(delta), tf.zeros_like(delta))
