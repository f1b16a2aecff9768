"""Square Attack: patterns of the paper, the optimum on linear models, the ball, and independence of batch mates."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.attacks.graphs import for_any_batch, perturb
from tfrobust import losses, seeds
from tfrobust.attacks import square
from tfrobust.attacks.square import Square
from tfrobust.attacks.square_patterns import BumpSquares, WallSquares, bump, square_side
from tfrobust.threat_models import ThreatModel

NORMS = {"linf": 0.1, "l2": 0.6, "l1": 2.0}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    stack = [layers.Conv2D(8, 3, activation="relu"), layers.Flatten(), layers.Dense(5)]
    return keras.Sequential([keras.Input((6, 6, 1)), *stack])


@pytest.fixture(scope="module")
def x():
    return tf.constant(np.random.default_rng(0).uniform(size=(8, 6, 6, 1)).astype(np.float32))


@pytest.fixture(scope="module")
def y(model, x):
    return tf.argmax(model(x), axis=1)


def linear(weights, lead=100.0):
    """Logits (lead, w . x): class 0 leads by so much that no attack gets there."""
    weights = tf.constant(weights, tf.float32)

    def logits(x):
        score = tf.linalg.matvec(tf.reshape(x, [-1, tf.size(weights)]), weights)[:, tf.newaxis]
        return tf.concat([tf.fill(tf.shape(score), lead), score], axis=1)

    return logits


def margins(logits_fn, x, y):
    return losses.margin(logits_fn(x), y).numpy()


# Patterns.


def test_fractions_are_halved_where_the_paper_says():
    fractions = np.array(Square(ThreatModel("linf", 0.3), queries=10000).fractions())
    assert fractions[0] == 0.8 and fractions[-1] == 0.8 / 512
    last = np.flatnonzero(np.diff(fractions))
    np.testing.assert_array_equal(last, [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000])
    np.testing.assert_array_equal(fractions[last + 1] * 2, fractions[last])
    assert Square(ThreatModel("linf", 0.3), queries=60, p_init=0.4).fractions() == [0.4] * 11 + [0.2] * 40 + [0.1] * 9
    rescaled = Square(ThreatModel("linf", 0.3), queries=1000, rescale_schedule=True).fractions()
    assert rescaled == fractions[::10].tolist()


def test_sides_of_squares():
    # sqrt(0.8 * 784) = 25.04, sqrt(0.8 / 512 * 784) = 1.1.
    assert square_side("linf", 0.8, 28, 28) == 25 and square_side("linf", 0.8 / 512, 28, 28) == 1
    assert square_side("linf", 1e-9, 28, 28) == 1
    # Odd and from 3 up for bumps: sqrt(0.1 * 784) = 8.9.
    assert square_side("l2", 0.1, 28, 28) == 9 and square_side("l1", 0.08, 28, 28) == 9
    assert square_side("l2", 0.8 / 512, 28, 28) == 3
    # No larger than the image: sqrt(0.8 * 32 * 4) = 10.1.
    assert square_side("linf", 0.8, 32, 4) == 4 and square_side("l2", 0.8, 32, 4) == 3
    assert square_side("l2", 0.8, 2, 2) == 1


def test_bumps_by_hand():
    # Side 5: an upper half of 2 x 5 with its middle at (1, 2), a lower one of 3 x 5 with its middle at (1, 2); three
    # rings, of heights 1 + 1/4 + 1/9, 1/4 + 1/9 and 1/9.
    a, b, c = 49 / 36, 13 / 36, 4 / 36
    upper = np.array([[c, b, b, b, c], [c, b, a, b, c]])
    lower = np.array([[c, b, b, b, c], [c, b, a, b, c], [c, b, b, b, c]])
    halves = [half / np.linalg.norm(half) / np.sqrt(2) for half in (upper, lower)]
    np.testing.assert_allclose(bump("l2", 5), np.concatenate([halves[0], -halves[1]]), rtol=1e-5)
    # l1, side 2: two halves of 1 x 2, the middle at column 1, two rings of heights 1 + 1/16 and 1/16.
    row = np.array([1 / 16, 17 / 16]) / (18 / 16) / 2
    np.testing.assert_allclose(bump("l1", 2), [row, -row], rtol=1e-5)
    np.testing.assert_array_equal(bump("l2", 1), [[-1.0]])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_move_in_linf_is_a_square_at_a_wall(channels):
    moves = WallSquares(ThreatModel("linf", 0.25), (5, 7, channels), (3, 2))
    x = tf.fill([4, 5, 7, channels], 0.5)
    # Corners at rows 0, 1, 1, 2 and columns 0, 1, 3, 4; the signs of the channels are those of the examples.
    corners = [[0.0, 0.0], [0.4, 0.3], [0.6, 0.6], [0.999999, 0.999999]]
    signs = np.random.default_rng(1).choice([0.2, 0.7], size=(4, channels))
    numbers = tf.constant(np.concatenate([corners, signs], axis=1), tf.float32)
    change = moves.move(moves.constants(x), x, numbers, tf.constant(0)) - x
    for i, (row, column) in enumerate([(0, 0), (1, 1), (1, 3), (2, 4)]):
        expected = np.zeros([5, 7, channels])
        expected[row : row + 3, column : column + 3] = np.where(signs[i] < 0.5, -0.25, 0.25)
        np.testing.assert_allclose(change[i], expected, atol=1e-7)
    assert np.count_nonzero(moves.move(moves.constants(x), x, numbers, tf.constant(1)) - x) == 4 * 4 * channels


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_a_move_of_bumps_by_hand(norm):
    # A grey image with a change in one corner and half a ball left. The first window, at the upper left, lies on the
    # change; the second one, at the lower right, is empty.
    order = {"l2": 2, "l1": 1}[norm]
    moves = BumpSquares(ThreatModel(norm, 0.4), (8, 8, 1), (3,))
    delta = np.zeros([2, 8, 8, 1], np.float32)
    delta[:, 0, 1], delta[:, 7, 7], delta[:, 3, 3] = 0.1, 0.05, 0.02
    x = tf.fill([2, 8, 8, 1], 0.5)
    numbers = tf.constant([[0.0, 0.0, 0.99, 0.99, 0.2, 0.7], [0.0, 0.0, 0.99, 0.99, 0.7, 0.2]])
    change = (moves.move(moves.constants(x), x + delta, numbers, tf.constant(0)) - x).numpy()

    def size(array):
        return np.linalg.norm(array.ravel(), ord=order)

    for i, (pattern, sign) in enumerate([(bump(norm, 3), 1), (bump(norm, 3).T, -1)]):
        new = sign * pattern
        new[0, 1] += 1.0
        freed = size(np.array([0.1, 0.05]))
        available = (0.4**order - size(delta[i]) ** order + freed**order) ** (1 / order)
        expected = np.zeros([8, 8])
        expected[:3, :3] = new / size(new) * available
        expected[3, 3] = 0.02
        np.testing.assert_allclose(change[i, :, :, 0], expected / size(expected) * 0.4, atol=1e-6)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_the_start_of_bumps_covers_the_image(norm):
    threat = ThreatModel(norm, 0.5)
    x = tf.fill([2, 12, 16, 3], 0.5)
    start = BumpSquares(threat, (12, 16, 3), ()).start(x, seeds.per_example(3, tf.range(2)))
    np.testing.assert_allclose(threat.distance(start, x), [0.5, 0.5], rtol=1e-4)
    # Squares of 12 // 5 = 2 pixels, a hill above or left of a hole: 6 rows and 8 columns of them fill the image.
    tiles = (start - x).numpy().reshape(2, 6, 2, 8, 2, 3).transpose(0, 1, 3, 5, 2, 4).reshape(-1, 2, 2)
    if norm == "l2":
        tiles *= bump(norm, 2).max() / tiles.max()
        expected = [sign * pattern for pattern in (bump(norm, 2), bump(norm, 2).T) for sign in (1, -1)]
        found = [np.isclose(tiles, pattern, atol=1e-4).all(axis=(1, 2)) for pattern in expected]
        assert np.all(np.sum(found, axis=0) == 1) and np.all(np.mean(found, axis=1) > 0.15)


# Strength.


@pytest.mark.parametrize("channels", [1, 3])
def test_reaches_the_corner_of_a_linear_model_in_linf(channels):
    weights = np.random.default_rng(2).normal(size=9 * channels).astype(np.float32)
    # The pixels at 0 and 1 have one wall at the bounds.
    x = np.random.default_rng(3).uniform(size=(3, 3, 3, channels)).astype(np.float32)
    x[:, 0], x[:, 1, 0] = 0.0, 1.0
    logits_fn, y = linear(weights), tf.zeros([3], tf.int64)
    x_adv = perturb(Square(ThreatModel("linf", 0.2), 400, p_init=0.2), logits_fn, tf.constant(x), y, seed=1)
    corner = np.where(weights.reshape(3, 3, channels) > 0, np.minimum(x + 0.2, 1), np.maximum(x - 0.2, 0))
    # Channels share a position and not a sign: all eight combinations come up at every pixel.
    np.testing.assert_allclose(x_adv, corner, atol=1e-6)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_comes_near_the_optimum_of_a_linear_model(norm):
    # Random search over bumps closes only a part of the gap, most of it where weights are bumps themselves.
    weights = np.zeros([9, 9], np.float32)
    weights[2:5, 3:6] = bump(norm, 3)
    threat = ThreatModel(norm, 0.3)
    x, y = tf.fill([4, 9, 9, 1], 0.5), tf.zeros([4], tf.int64)
    logits_fn = linear(weights.ravel())
    dual = np.linalg.norm(weights) if norm == "l2" else np.abs(weights).max()
    gain = margins(logits_fn, perturb(Square(threat, 600), logits_fn, x, y, seed=0), y) - margins(logits_fn, x, y)
    assert np.all(gain <= 0.3 * dual + 1e-4) and np.all(gain >= (0.85 if norm == "l2" else 0.35) * 0.3 * dual)


def nothing_fools(y):
    """Logits of the labels, whatever the images: with this judge a search goes on to its last query."""
    return lambda x: tf.one_hot(y[: tf.shape(x)[0]], 5)


@pytest.mark.parametrize("norm", NORMS)
def test_more_queries_never_help_the_defender(model, x, y, norm):
    threat = ThreatModel(norm, NORMS[norm] / 4)
    moves = BumpSquares if norm != "linf" else WallSquares
    key = seeds.fold_in_each(seeds.per_example(2, tf.range(8)), tf.zeros([8], tf.int32))
    reached = [margins(model, moves(threat, (6, 6, 1), ()).start(x, seeds.fold_in(key, 0)), y)]
    for queries in (5, 80):
        attack = Square(threat, queries)
        x_adv = perturb(attack, model, x, y, seed=seeds.per_example(2, tf.range(8)), judge_fn=nothing_fools(y))
        reached.append(margins(model, x_adv, y))
    # The start first: no search ends below it.
    assert np.all(np.diff(reached, axis=0) >= -1e-5)
    assert np.all(reached[-1] > reached[0]) and np.mean(reached[-1] - reached[0]) > 0.01


def test_finds_the_one_change_that_fools():
    # Class 1 where of two pixels of one column the upper one is bright and the lower one dark, which no stripes make,
    # and nothing on the way tells how near that is.
    def logits(x):
        found = (x[:, 1, 3, 0] > 0.65) & (x[:, 4, 3, 0] < 0.35)
        return tf.one_hot(tf.cast(found, tf.int32), 2)

    x, y = tf.fill([16, 6, 6, 1], 0.5), tf.zeros([16], tf.int64)
    x_adv = perturb(Square(ThreatModel("linf", 0.2), 300), logits, x, y, seed=0)
    assert np.all(tf.argmax(logits(x_adv), axis=1) == 1)
    # Half the radius does not reach.
    x_adv = perturb(Square(ThreatModel("linf", 0.1), 300), logits, x, y, seed=0)
    assert np.all(tf.argmax(logits(x_adv), axis=1) == 0)


@pytest.mark.parametrize("norm", NORMS)
def test_a_classifier_without_a_gradient_falls(model, x, y, norm):
    def rounded(x):
        return tf.round(10 * model(x)) / 10

    # Rounding makes ties; those of the label with another class are not fooled.
    wrong = np.argmax(rounded(x), axis=1) != y
    x_adv = perturb(Square(ThreatModel(norm, 3 * NORMS[norm]), 300), rounded, x, y, seed=0)
    assert np.mean(np.argmax(rounded(x_adv), axis=1) != y) > np.mean(wrong) + 0.7


def test_restarts_fool_what_one_start_does_not():
    # Two bright pixels in one row that a single square covers together with a third one between them that must not be
    # bright: whether so few queries get there is up to the start.
    def logits(x):
        return tf.one_hot(tf.cast((x[:, 2, 1, 0] > 0.6) & (x[:, 2, 3, 0] > 0.6) & (x[:, 2, 2, 0] < 0.4), tf.int32), 2)

    x, y = tf.fill([60, 5, 5, 1], 0.5), tf.zeros([60], tf.int64)
    fooled = []
    for restarts in (1, 6):
        attack = Square(ThreatModel("linf", 0.2), queries=1, restarts=restarts)
        x_adv = perturb(attack, logits, x, y, seed=seeds.per_example(1, tf.range(60)))
        fooled.append(np.argmax(logits(x_adv), axis=1) == 1)
    assert 0 < fooled[0].sum() < fooled[1].sum()
    assert np.all(fooled[1] >= fooled[0])


# Who is fooled.


def test_what_is_misclassified_comes_back_as_it_is(model, x, y):
    for norm in NORMS:
        x_adv = perturb(Square(ThreatModel(norm, NORMS[norm]), 10), model, x, (y + 1) % 5, seed=0)
        np.testing.assert_array_equal(x_adv, x)


def test_a_start_that_fools_comes_back_at_once(model, x):
    # Any point but x itself is class 1.
    def logits(other):
        return tf.one_hot(tf.cast(tf.reduce_any(other != 0.5, axis=[1, 2, 3]), tf.int32), 2)

    x, y = tf.fill([8, 6, 6, 1], 0.5), tf.zeros([8], tf.int64)
    x_adv = perturb(Square(ThreatModel("linf", 0.2), 5000), logits, x, y, seed=0)
    stripes = np.asarray(x_adv)
    np.testing.assert_array_equal(stripes, np.broadcast_to(stripes[:, :1], stripes.shape))
    np.testing.assert_allclose(np.abs(stripes - 0.5), 0.2, atol=1e-7)


def test_a_claim_that_the_judge_denies_is_no_end():
    # The pixels sum up to 18, and within the ball to 25.2. The attack's model is fooled from 19 on, the judge from 24.
    x, y = tf.fill([8, 6, 6, 1], 0.5), tf.zeros([8], tf.int64)
    logits_fn, judge_fn = linear(np.ones(36), lead=19.0), linear(np.ones(36), lead=24.0)
    attack = Square(ThreatModel("linf", 0.2), 300)
    early = perturb(attack, logits_fn, x, y, seed=0)
    late = perturb(attack, logits_fn, x, y, seed=0, judge_fn=judge_fn)
    assert np.all(margins(logits_fn, early, y) > 0) and np.any(margins(judge_fn, early, y) < 0)
    assert np.all(margins(judge_fn, late, y) > 0)


# The ball.


@pytest.mark.parametrize(
    ("shape", "epsilon"), [((28, 28, 1), 1.0), ((8, 8, 1), 1.0), ((16, 12, 3), 1.0), ((2, 3, 2), 0.0)]
)
@pytest.mark.parametrize("norm", NORMS)
def test_in_the_ball_and_in_range(norm, shape, epsilon):
    threat = ThreatModel(norm, epsilon * 5 * NORMS[norm])
    x = np.random.default_rng(0).uniform(size=(4, *shape)).astype(np.float32)
    x[:2] = np.round(x[:2])
    logits_fn = linear(np.random.default_rng(1).normal(size=np.prod(shape)))
    y = tf.zeros([4], tf.int64)
    x_adv = perturb(Square(threat, 60), logits_fn, tf.constant(x), y, seed=1)
    assert x_adv.shape == x.shape and x_adv.dtype == tf.float32
    assert np.all(threat.distance(x_adv, x) <= threat.epsilon + threat.tolerance)
    assert np.min(x_adv) >= 0 and np.max(x_adv) <= 1
    if epsilon:
        # The ball is used.
        assert np.all(threat.distance(x_adv, x) >= 0.4 * threat.epsilon)
        assert np.all(margins(logits_fn, x_adv, y) > margins(logits_fn, x, y))
    else:
        np.testing.assert_array_equal(x_adv, x)


def test_other_bounds_and_dtypes(model, x, y):
    threat = ThreatModel("linf", 0.5, (-1.0, 1.0))
    wide = tf.cast(2 * x - 1, tf.float64)
    x_adv = perturb(Square(threat, 10), lambda x: model(tf.cast(x, tf.float32)), wide, y, seed=0)
    assert x_adv.dtype == tf.float64 and np.min(x_adv) < -0.5 and np.all(threat.distance(x_adv, wide) <= 0.5 + 1e-6)
    attack = Square(ThreatModel("l2", 0.5), 10)
    assert perturb(attack, lambda x: model(tf.cast(x, tf.float32)), wide / 4 + 0.5, y, seed=0).dtype == tf.float64


# Seeds and batches.


@pytest.mark.parametrize("norm", NORMS)
def test_the_seed_decides_and_batch_mates_do_not(model, x, y, norm):
    threat = ThreatModel(norm, NORMS[norm] / 2)
    attack = Square(threat, 40, restarts=2)

    def perturb(x, y, seed):
        return attack(model, x, y, seed=seed)

    seed = seeds.per_example(5, tf.range(8))
    run = for_any_batch(perturb, x, y, seed)
    together = run(x, y, seed)
    # Some are fooled and leave the batch, others do not.
    assert 0 < np.mean(np.argmax(model(together), axis=1) == y) < 1
    for i in range(8):
        one = slice(i, i + 1)
        alone = run(x[one], y[one], seed[one])
        np.testing.assert_allclose(alone[0], together[i], atol=1e-5)
    np.testing.assert_array_equal(run(x, y, seed), together)
    other = run(x, y, seeds.per_example(6, tf.range(8)))
    assert np.mean(np.any(np.abs(other - together) > 1e-3, axis=(1, 2, 3))) > 0.5


def test_eager_and_compiled_agree(model, x, y):
    attack = Square(ThreatModel("linf", 0.05), 12)
    eager = attack(model, x.numpy(), y.numpy(), seed=3)
    np.testing.assert_allclose(eager, perturb(attack, model, x, y, seed=3), atol=1e-6)


def test_round_lengths_add_up():
    for queries in (1, 9, 10, 11, 150, 999, 5000):
        lengths = square._round_lengths(queries)
        assert lengths[0] == 0 and sum(lengths) == queries and min(lengths[1:]) >= 1 and max(lengths) <= 100


# Configuration.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"queries": 0}, "queries must be an integer of 1 or more, got 0"),
        ({"queries": 2.5}, "queries must be an integer of 1 or more, got 2.5"),
        ({"restarts": 0}, "restarts must be an integer of 1 or more, got 0"),
        ({"p_init": 0.0}, "p_init must be above 0 and at most 1, got 0.0"),
        ({"p_init": 1.5}, "p_init must be above 0 and at most 1, got 1.5"),
        ({"p_init": float("nan")}, "p_init must be above 0 and at most 1, got nan"),
    ],
)
def test_errors_name_argument_expectation_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        Square(ThreatModel("linf", 0.1), **arguments)


def test_images_have_a_known_size(model, x, y):
    with pytest.raises(ValueError, match=r"x must have shape \[B, H, W, C\], all known but B, got \(8, 36\)"):
        Square(ThreatModel("linf", 0.1))(model, tf.reshape(x, [8, 36]), y, seed=0)
