"""Compaction: what is fooled stays as it was found, what is not goes on, and no run is skipped or repeated."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfrobust.attacks.compaction import first_success, run_rounds

COUNT = 20


def judge(x):
    """Logits (0, pixel - 0.5): class 1 from 0.5 on."""
    return tf.pad(tf.reshape(x, [-1, 1]) - 0.5, [[0, 0], [1, 0]])


def pixels(values):
    return tf.reshape(tf.constant(values, tf.float32), [-1, 1, 1, 1])


def climb(rounds, slopes, claims=None):
    """Each round adds its slope to an example's pixel; `claims` says who claims success, by default all."""

    @tf.function(reduce_retracing=True)
    def run(slopes):
        def advance(index, state):
            x_adv = state["x_adv"] + tf.reshape(state["slope"], [-1, 1, 1, 1])
            visits = state["visits"] + 1
            claimed = tf.ones_like(state["claimed"]) if claims is None else claims(x_adv)
            return {**state, "x_adv": x_adv, "visits": visits, "claimed": claimed}

        y = tf.zeros(tf.shape(slopes), tf.int64)
        state = {"y": y, "x_adv": tf.zeros([tf.size(slopes), 1, 1, 1]), "claimed": tf.zeros(tf.shape(slopes), tf.bool)}
        state |= {"slope": slopes, "visits": tf.zeros(tf.shape(slopes), tf.int32)}
        return run_rounds(advance, state, rounds=rounds, judge_fn=judge)

    x_adv, fooled = run(tf.constant(slopes, tf.float32))
    return np.ravel(x_adv), fooled.numpy()


def test_each_example_stops_at_its_own_first_success():
    # Slope 0.3 passes 0.5 in the second round, 0.2 in the third, 0.01 not within four.
    x_adv, fooled = climb(4, [0.3, 0.01, 0.2, 0.6])
    np.testing.assert_allclose(x_adv, [0.6, 0.04, 0.6, 0.6], rtol=1e-6)
    np.testing.assert_array_equal(fooled, [True, False, True, True])


@pytest.mark.parametrize("count", [1, 3, 8, 37])
def test_any_number_of_examples_in_any_order(count):
    slopes = np.random.default_rng(count).uniform(0.02, 0.3, count).astype(np.float32)
    x_adv, fooled = climb(6, slopes)
    rounds = np.minimum(np.floor(0.5 / slopes) + 1, 6)
    np.testing.assert_allclose(x_adv, rounds * slopes, rtol=1e-5)
    np.testing.assert_array_equal(fooled, rounds * slopes > 0.5)


def test_a_claim_alone_does_not_count():
    # Claimed from 0.3 on, but the judge wants more than 0.5.
    x_adv, fooled = climb(8, [0.1, 0.09], claims=lambda x: tf.reshape(x, [-1]) > 0.3)
    np.testing.assert_allclose(x_adv, [0.6, 0.54], rtol=1e-6)
    assert fooled.all()
    # Never claimed, never fooled, whatever the judge would say.
    x_adv, fooled = climb(8, [0.1, 0.09], claims=lambda x: tf.zeros_like(tf.reshape(x, [-1]), tf.bool))
    np.testing.assert_allclose(x_adv, [0.8, 0.72], rtol=1e-6)
    assert not fooled.any()


def test_batches_take_at_most_eight_shapes():
    shapes = set()

    def advance(index, state):
        tf.py_function(lambda size: shapes.add(int(size)), [tf.size(state["slope"])], [])
        return {**state, "x_adv": state["x_adv"] + tf.reshape(state["slope"], [-1, 1, 1, 1])}

    slopes = tf.constant(np.linspace(0.01, 0.6, 100), tf.float32)
    state = {"y": tf.zeros([100], tf.int64), "x_adv": tf.zeros([100, 1, 1, 1]), "claimed": tf.ones([100], tf.bool)}
    run_rounds(advance, {**state, "slope": slopes}, rounds=50, judge_fn=judge)
    # An eighth of 100, rounded up, is 13.
    assert shapes <= {100, *range(13, 100, 13)} and len(shapes) > 4


def test_first_success_takes_runs_in_order():
    # Run r of an example succeeds from its own number on, and writes 0.6 + r / 100.
    needed = np.arange(COUNT) % 7
    seen = []

    def run(x, y, seed, index, needed):
        tf.py_function(lambda *pair: seen.extend(zip(*(part.numpy() for part in pair), strict=True)), [y, index], [])
        value = tf.where(index >= needed, 0.6, 0.1) + tf.cast(index, tf.float32) / 100
        return tf.reshape(value, [-1, 1, 1, 1])

    def judge_all(x):
        # Every label is wrong from 0.5 on.
        return tf.where(tf.reshape(x, [-1, 1]) > 0.5, -1.0, 1.0) * tf.one_hot(tf.zeros([tf.shape(x)[0]], tf.int32), 2)

    @tf.function
    def attack(needed):
        zeros = tf.zeros([COUNT], tf.int64)
        x = tf.zeros([COUNT, 1, 1, 1])
        return first_success(run, x, zeros, runs=5, seed=3, judge_fn=judge_all, more=(needed,))

    x_adv = np.ravel(attack(tf.constant(needed, tf.int32)))
    np.testing.assert_allclose(x_adv, np.where(needed < 5, 0.6 + needed / 100, 0.1), rtol=1e-6)
    # A batch may hold later runs of an example beside the one that succeeds, but the number of runs stays near what
    # is needed: its first success or all five.
    assert sum(np.minimum(needed, 4) + 1) <= len(seen) <= sum(np.minimum(needed, 4) + 1) + COUNT


def test_every_run_has_its_own_noise_that_no_batch_mate_changes():
    def run(x, y, seed, index):
        return tf.cast(tf.reshape(seed[:, 1], [-1, 1, 1, 1]), tf.float32) * 0 + tf.reshape(
            tf.cast(seed[:, 0] % 1000, tf.float32) / 1e4 + tf.cast(index, tf.float32), [-1, 1, 1, 1]
        )

    def judge_second(x):
        # Fooled at run 2 and later.
        return tf.pad(tf.reshape(x, [-1, 1]) - 1.5, [[0, 0], [1, 0]])

    def noise(count):
        y = tf.zeros([count], tf.int64)
        return np.ravel(
            first_success(run, tf.zeros([count, 1, 1, 1]), y, runs=4, seed=tf.stack(
                [tf.range(count), tf.zeros([count], tf.int32)], axis=1
            ), judge_fn=judge_second)
        )  # fmt: skip

    ten = noise(10)
    np.testing.assert_allclose(noise(4), ten[:4], rtol=1e-6)
    assert np.all((ten >= 2) & (ten < 3)) and len(np.unique(ten)) > 5


@pytest.mark.parametrize("label", [0, 1])
def test_a_run_that_is_nan_fools_nobody_and_shows_where_none_succeeds(label):
    # Of three runs: the middle one breaks down for all, the last one fools the first example.
    def run(x, y, seed, index):
        value = tf.where(index == 1, math.nan, tf.where((index == 2) & (x[:, 0] == 0), 1.0, 0.0))
        return x + value[:, tf.newaxis]

    def judge_fn(x):
        # The other class from 1 on. The highest of two numbers that are NaN is the first.
        wrong = tf.where(tf.math.is_nan(x[:, 0]), math.nan, tf.cast(x[:, 0] == 1, tf.float32))
        return tf.stack([wrong, 0.5 + 0 * wrong] if label == 1 else [0.5 + 0 * wrong, wrong], axis=1)

    x, y = tf.constant([[0.0], [5.0]]), tf.fill([2], tf.constant(label, tf.int64))
    found = tf.function(lambda: first_success(run, x, y, runs=3, seed=0, judge_fn=judge_fn))()
    np.testing.assert_array_equal(found, [[1.0], [math.nan]])
