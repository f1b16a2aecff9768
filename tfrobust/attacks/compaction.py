"""Examples that are fooled leave the batch: the engine of attacks that stop at the first adversarial image.

Two loops, both inside of the attack's one graph:

- `run_rounds`: an iterative attack advances by rounds of steps, and after each only what still stands goes on;
- `first_success`: an attack of several runs (restarts, target classes) hands the runs of what still stands to full
  batches, so that different runs of different examples share one.

An example is fooled when `judge_fn`, the model itself, says so: the attack's own logits may be a fast approximation.
Batches shrink by eighths, so that only eight shapes ever occur, whatever the data.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from tfrobust import seeds
from tfrobust.attacks.base import LogitsFn
from tfrobust.shapes import choose, has_nan

State = dict[str, tf.Tensor]
SHAPES = 8


def fooled(judge_fn: LogitsFn, x_adv: tf.Tensor, y: tf.Tensor, claimed: tf.Tensor) -> tf.Tensor:
    """Which of the examples that an attack claims to have fooled are so by `judge_fn`: bool [B].

    Only those that are claimed, bool [B], are computed.
    """

    def ask():
        indices = tf.where(claimed)
        logits = judge_fn(tf.gather_nd(x_adv, indices))
        wrong = tf.argmax(logits, axis=-1) != tf.gather_nd(tf.cast(y, tf.int64), indices)
        return tf.scatter_nd(indices, wrong, tf.shape(claimed, out_type=tf.int64))

    return tf.cond(tf.reduce_any(claimed), ask, lambda: tf.zeros_like(claimed))


def run_rounds(
    advance: Callable[[tf.Tensor, State], State], state: State, *, rounds: int | tf.Tensor, judge_fn: LogitsFn
) -> tuple[tf.Tensor, tf.Tensor]:
    """Advances all examples by up to `rounds` rounds, and drops those that are fooled after each.

    Args:
      advance: (round, state) -> state. It treats each example by itself and sets "x_adv", the candidate, and
        "claimed", bool, whether the attack takes it for adversarial.
      state: tensors [B, ...] by name, among them "y", "x_adv" and "claimed".
      rounds: 1 or more, a number or a scalar tensor.
      judge_fn: see the module.

    Returns:
      x_adv [B, ...], of a fooled example the first candidate that was found to fool, of others the last; and which
      examples are fooled, bool [B].
    """
    count = tf.shape(state["y"])[0]
    state = {**state, "slot": tf.range(count), "done": tf.zeros([count], tf.bool)}

    def going_on(done_rounds, x_adv, is_fooled, state):
        return (done_rounds < rounds) & ~tf.reduce_all(state["done"])

    def body(done_rounds, x_adv, is_fooled, before):
        after = advance(done_rounds, before)
        slot = before["slot"][:, tf.newaxis]
        candidate = choose(before["done"], tf.gather_nd(x_adv, slot), after["x_adv"])
        done = before["done"] | fooled(judge_fn, candidate, before["y"], after["claimed"] & ~before["done"])
        x_adv = tf.tensor_scatter_nd_update(x_adv, slot, candidate)
        is_fooled = tf.tensor_scatter_nd_update(is_fooled, slot, done)
        return done_rounds + 1, x_adv, is_fooled, _compacted({**after, "done": done}, count)

    start = (tf.constant(0), state["x_adv"], state["done"], state)
    any_batch = {name: tf.TensorShape([None]).concatenate(value.shape[1:]) for name, value in state.items()}
    invariants = (*(value.shape for value in start[:3]), any_batch)
    loop = tf.while_loop(going_on, body, start, shape_invariants=invariants, parallel_iterations=1)
    return loop[1], loop[2]


def _compacted(state, count):
    """The state with those that are not done first, cut behind them at the next eighth of `count`."""
    standing = tf.math.count_nonzero(~state["done"], dtype=tf.int32)
    unit = tf.maximum((count + SHAPES - 1) // SHAPES, 1)
    size = tf.minimum(tf.maximum((standing + unit - 1) // unit, 1) * unit, tf.shape(state["slot"])[0])
    order = tf.argsort(tf.cast(state["done"], tf.int32), stable=True)[:size]
    return {name: tf.gather(value, order) for name, value in state.items()}


def first_success(
    run: Callable[..., tf.Tensor],
    x: tf.Tensor,
    y: tf.Tensor,
    *,
    runs: int,
    seed,
    judge_fn: LogitsFn,
    more: tuple[tf.Tensor, ...] = (),
) -> tf.Tensor:
    """The result of the first of `runs` runs that fools each example, or of its run 0 where none does.

    What is NaN has fooled nobody. Where none has and one was NaN, so is the result: an attack that broke down shows.

    Runs are taken in order, all examples' run 0 first; a batch is filled with the next runs of what still stands, so
    its examples may be at different runs.

    Args:
      run: (x, y, seed, index, *more) -> x_adv, of a batch [J, ...] whose examples do run number `index`, int [J]; seed
        is [J, 2] and differs for every run of every example.
      x, y: images [B, ...] and labels [B].
      runs: 1 or more.
      seed: as in `seeds`.
      judge_fn: see the module.
      more: further tensors [B, ...] that a run needs of its examples.
    """
    count = tf.shape(x)[0]
    seed = seeds.for_each_example(seed, count)
    if runs == 1:
        zeros = tf.zeros([count], tf.int32)
        return run(x, y, seeds.fold_in_each(seed, zeros), zeros, *more)
    # A job is a run of an example: number run * B + example. The first batch is all examples' run 0.
    jobs = tf.range(runs * count)

    def open_jobs(next_job, standing):
        return tf.boolean_mask(jobs, (jobs >= next_job) & tf.gather(standing, jobs % count))

    def going_on(next_job, x_adv, standing, broken):
        return tf.size(open_jobs(next_job, standing)) > 0

    def body(next_job, x_adv, standing, broken):
        batch = open_jobs(next_job, standing)[:count]
        index, example = batch // count, batch % count
        x_job, y_job = tf.gather(x, example), tf.gather(y, example)
        details = (tf.gather(part, example) for part in more)
        found = run(x_job, y_job, seeds.fold_in_each(tf.gather(seed, example), index), index, *details)
        success = fooled(judge_fn, found, y_job, ~has_nan(found))
        broken |= tf.math.unsorted_segment_max(tf.cast(has_nan(found), tf.int32), example, count) > 0
        # Of several successes of an example in a batch the first in order counts; run 0 does as long as none succeeds.
        size = tf.size(batch)
        chosen = tf.math.unsorted_segment_min(tf.where(success | (index == 0), tf.range(size), size), example, count)
        now = chosen < size
        chosen = tf.where(now, chosen, 0)
        x_adv = choose(now, tf.gather(found, chosen), x_adv)
        standing &= ~(now & tf.gather(success, chosen))
        standing, broken = (tf.ensure_shape(part, y.shape) for part in (standing, broken))
        return batch[-1] + 1, tf.ensure_shape(x_adv, x.shape), standing, broken

    start = (0, x, tf.ones([count], tf.bool), tf.zeros([count], tf.bool))
    _, x_adv, standing, broken = tf.while_loop(going_on, body, start, parallel_iterations=1)
    return choose(~(standing & broken), x_adv, math.nan)
