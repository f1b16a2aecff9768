"""Square Attack: random search with the model's logits alone (Andriushchenko et al. 2020, the last of AutoAttack's).

x_adv = Square(ThreatModel("linf", 0.3))(model, x, y, seed=0)      # up to 5000 queries for each image
"""

import dataclasses
import itertools

import numpy as np
import tensorflow as tf

from tfrobust import losses, seeds
from tfrobust.attacks.base import LogitsFn, checked_examples, require, require_untargeted
from tfrobust.attacks.compaction import first_success, run_rounds
from tfrobust.attacks.square_patterns import BumpSquares, WallSquares, square_side
from tfrobust.losses import LossFn
from tfrobust.shapes import choose
from tfrobust.threat_models import ThreatModel

# The fraction of pixels in a square is halved after each of these queries of 10000.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclasses.dataclass(frozen=True)
class Square:
    """Changes random squares of the image, and keeps a change where it raises the loss.

    Squares become smaller as the search goes on; their patterns are those of `square_patterns`. No gradient is taken,
    so that it attacks what has none, and shows where gradients are masked: a classifier that falls to it and not to
    `PGD` or `APGD` is less robust than those say.

    As in AutoAttack, except that each example has its own square and not all of a batch one, that squares reach the
    last row and column, and that they are no larger than the image.

    Attributes:
      threat: linf, l2 or l1.
      queries: squares tried for each image, 1 or more; AutoAttack takes 5000. The model is asked twice more, for x and
        for the start.
      p_init: fraction of the pixels in the first squares, above 0 and up to 1; AutoAttack takes 0.8.
      restarts: random starts with all their queries, 1 or more.
      rescale_schedule: shrink the squares over the given number of queries as published for 10000. AutoAttack does
        not.
      loss: raised by every change that is kept; [B, K] logits and [B] labels -> [B].

    An example is done when `judge_fn` misclassifies it, and one that both functions misclassify as it is comes back as
    it is. The result of one that is not fooled is the point of highest loss of its first run.

    Raises:
      ValueError: for values out of these ranges.
    """

    threat: ThreatModel
    queries: int = 5000
    p_init: float = 0.8
    restarts: int = 1
    rescale_schedule: bool = False
    loss: LossFn = losses.margin

    def __post_init__(self):
        require(self, queries=1, restarts=1)
        require_untargeted("Square", self.loss)
        if not 0 < self.p_init <= 1:
            raise ValueError(f"p_init must be above 0 and at most 1, got {self.p_init!r}")

    def __call__(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> tf.Tensor:
        """x_adv of the shape and dtype of x [B, H, W, C]; see `pgd.PGD.__call__`. `logits_fn` is not differentiated,
        and `judge_fn` decides who is fooled.

        Raises:
          ValueError: for images of another rank, or of a height, width or number of channels unknown at trace time.
        """
        x, y = checked_examples(x, y, self.threat.bounds)
        if x.shape.rank != 4 or None in x.shape[1:]:
            raise ValueError(f"x must have shape [B, H, W, C], all known but B, got {x.shape}")
        judge_fn = judge_fn or logits_fn
        shape = tuple(x.shape[1:])
        sides = tuple(square_side(self.threat.norm, p, *shape[:2]) for p in self.fractions())
        moves = (WallSquares if self.threat.norm == "linf" else BumpSquares)(self.threat, shape, sides)

        def run(x, y, seed, index):
            return self._run(moves, logits_fn, judge_fn, x, y, seed)

        return first_success(run, x, y, runs=self.restarts, seed=seed, judge_fn=judge_fn)

    def fractions(self) -> list[float]:
        """The fraction of pixels in the square of each query."""
        queries = range(self.queries)
        if self.rescale_schedule:
            queries = [int(query / self.queries * 10000) for query in queries]
        halvings = np.searchsorted(HALVINGS, queries)
        return [self.p_init / 2**count for count in halvings.tolist()]

    def _run(self, moves, logits_fn, judge_fn, x, y, seed):
        def look(x_adv, y):
            logits = logits_fn(x_adv)
            return self.loss(logits, y), losses.margin(logits, y) > 0

        x_start = moves.start(x, seeds.fold_in(seed, 0))
        loss_x, claimed_x = look(x, y)
        loss, claimed = look(x_start, y)
        state = {
            **moves.constants(x),
            "y": y,
            "seed": seed,
            "x_adv": choose(claimed_x, x, x_start),
            "loss": tf.where(claimed_x, loss_x, loss),
            "claimed": claimed_x | claimed,
        }
        lengths = _round_lengths(self.queries)
        # [rounds, 2]: the number of queries, and of those before.
        rounds = tf.constant(list(zip(lengths, itertools.accumulate(lengths, initial=0), strict=False)))

        def advance(index, state):
            length, first_query = tf.unstack(rounds[index])
            y = state["y"]
            # A round's numbers at once: those of one query would take longer than the query.
            like = tf.zeros([tf.size(y), length, moves.numbers])
            numbers = seeds.uniform(seeds.fold_in(state["seed"], index + 1), like, 0.0, 1.0)

            def body(step, x_adv, loss, claimed):
                tried = moves.move(state, x_adv, numbers[:, step], first_query + step)
                tried_loss, fools = look(tried, y)
                better = (fools & ~claimed) | ((fools == claimed) & (tried_loss > loss))
                x_adv = choose(better, tried, x_adv)
                return step + 1, x_adv, tf.where(better, tried_loss, loss), claimed | fools

            start = (tf.constant(0), *(state[name] for name in ("x_adv", "loss", "claimed")))
            loop = tf.while_loop(lambda step, *_: step < length, body, start, parallel_iterations=1)
            return {**state, "x_adv": loop[1], "loss": loop[2], "claimed": loop[3]}

        return run_rounds(advance, state, rounds=len(lengths), judge_fn=judge_fn)[0]


def _round_lengths(queries):
    """Queries from one look at who is fooled to the next: none at first, for those that the start fools, then a
    quarter of those before, from 10 to 100."""
    lengths, done = [0], 0
    while done < queries:
        lengths.append(min(max(done // 4, 10), 100, queries - done))
        done += lengths[-1]
    return lengths
