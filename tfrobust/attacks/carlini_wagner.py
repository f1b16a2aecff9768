"""The l2 attack of Carlini and Wagner: Adam on distance and shortfall, with a binary search for their balance.

attack = CarliniWagnerL2(steps=200, binary_search_steps=5, initial_const=0.01)
found = attack.minimize(model, x, y, seed=0)                            # MinimumNorm(x_adv, distance, success)
x_adv = WithinBall(attack, ThreatModel("l2", 2.0))(model, x, y, seed=0)
"""

import dataclasses
import math
from typing import ClassVar

import tensorflow as tf

from tfrobust.attacks import carlini_wagner_descent as descent
from tfrobust.attacks.base import LogitsFn, checked_examples, require
from tfrobust.attacks.minimum_norm import MinimumNorm
from tfrobust.shapes import choose

# What the constant is multiplied by until it leads to an adversarial image.
GROWTH = 10.0


@dataclasses.dataclass(frozen=True)
class CarliniWagnerL2:
    """The nearest of the adversarial images that are met on the way down, for several constants of each example.

        minimise over w    |x_adv - x|_2^2 + const * max(0, kappa - lead),    x_adv = pixels(tanh(w))

    Carlini and Wagner 2017, "Towards Evaluating the Robustness of Neural Networks", section VI-A, with function f6. The
    lead is max_{k != y} logits_k - logits_y, or its negative where y is the target. Every descent begins at x. A
    constant that has led to an adversarial image is the next upper bound of the search and any other the next lower
    one; then comes their middle, or ten times the constant as long as there is no upper bound.

    As in the authors' code, except that each example stops for itself when its loss no longer falls, that valid pixels
    take 0.9 of tanh's range, so that black pixels move (`carlini_wagner_descent.SHARE`), that the distance is measured
    in parts of the pixel range, and that no last search with the upper bound follows after ten.

    The result does not depend on the seed.

    Attributes:
      bounds: lowest and highest valid pixel.
      steps: the most gradients for one constant, 1 or more. The authors' code takes 10000.
      binary_search_steps: constants to try, 1 or more.
      initial_const: the first constant, above 0; 1e-3 as in the authors' code. What it grows to must be able to
        outweigh the distance: `initial_const` * 10^(`binary_search_steps` - 1) at most.
      learning_rate: Adam's, above 0; the length of its first step in tanh space.
      kappa: by how much the logits must lead, 0 or more. `judge_fn` is asked only for the class.
      abort_early: end a descent whose loss has not fallen by a ten thousandth in a tenth of the steps.
      targeted: `y` is the class to reach, instead of the one to leave.

    Raises:
      ValueError: for values out of these ranges.
    """

    norm: ClassVar[str] = "l2"

    bounds: tuple[float, float] = (0.0, 1.0)
    steps: int = 1000
    binary_search_steps: int = 9
    initial_const: float = 1e-3
    learning_rate: float = 0.01
    kappa: float = 0.0
    abort_early: bool = True
    targeted: bool = False

    def __post_init__(self):
        descent.check(self)
        require(self, binary_search_steps=1)

    def minimize(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> MinimumNorm:
        """The nearest adversarial images that were met; see `minimum_norm.MinimumNormAttack.minimize`."""
        x, y = checked_examples(x, y, self.bounds)
        zeros = tf.zeros([tf.shape(x)[0]])
        more = {"low": zeros, "high": zeros + math.inf, "searches": tf.cast(zeros, tf.int32)}
        return descent.descend(self, _squared_distance, self._next_const, more, logits_fn, x, y, judge_fn)

    def _next_const(self, state, over):
        """A step of the binary search for the examples whose attempt is over."""
        const = state["const"]
        high = tf.where(over & state["found"], const, state["high"])
        low = tf.where(over & ~state["found"], const, state["low"])
        middle = tf.where(tf.math.is_inf(high), GROWTH * const, (low + high) / 2)
        searches = state["searches"] + tf.cast(over, tf.int32)
        changed = {
            "w": choose(over, descent.to_tanh_space(state["x"], self.bounds), state["w"]),
            "const": tf.where(over, middle, const),
            "high": high,
            "low": low,
            "searches": searches,
            "done": state["done"] | (searches >= self.binary_search_steps),
        }
        return {**state, **changed}, over


def _squared_distance(delta, state):
    size = tf.reduce_sum(tf.square(tf.reshape(delta, [tf.shape(delta)[0], -1])), axis=1)
    return tf.cast(size, tf.float32), 2 * delta
