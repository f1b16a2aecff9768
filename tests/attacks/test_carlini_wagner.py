"""CW-L2: distances to hyperplanes, confidence, targets, failures, independence of batch mates, what is computed."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests.attacks.graphs import for_any_batch, specs
from tfrobust import losses
from tfrobust.attacks import carlini_wagner_descent as descent
from tfrobust.attacks.carlini_wagner import CarliniWagnerL2
from tfrobust.attacks.minimum_norm import MinimumNorm, WithinBall
from tfrobust.threat_models import ThreatModel

QUICK = CarliniWagnerL2(steps=100, binary_search_steps=6, initial_const=0.01)
# Its activation is smooth, so that rounding does not decide what a ReLU does.


def affine(weights, bias):
    """Logits weights . x + bias of images of any shape; weights [K, pixels], bias [K]."""
    weights, bias = np.asarray(weights, np.float32), np.asarray(bias, np.float32)
    return lambda x: tf.cast(tf.reshape(x, [-1, weights.shape[1]]), tf.float32) @ weights.T + bias


def minimize(attack, logits_fn, x, y, judge_fn=None):
    """`attack.minimize` in a graph that knows nothing of the batch, as NumPy arrays."""
    run = compiled(attack, logits_fn, judge_fn, specs(x, y))
    return MinimumNorm(*(part.numpy() for part in run(tf.convert_to_tensor(x), y)))


@functools.cache
def compiled(attack, logits_fn, judge_fn, signature):
    run = functools.partial(attack.minimize, logits_fn, seed=0, judge_fn=judge_fn)
    return tf.function(run, input_signature=signature, autograph=False)


@pytest.fixture(scope="module")
def hyperplane():
    """Three images of 2 x 2 x 3 pixels, well inside of the box, and a plane with label 0 on their side of it."""
    generator = np.random.default_rng(3)
    weights = generator.normal(size=12)
    weights /= np.linalg.norm(weights)
    x = generator.uniform(0.4, 0.6, size=(3, 2, 2, 3)).astype(np.float32)
    return weights, x


# Distances.


def margins(weights, bias, x):
    """How far each image is from the plane weights . x + bias = 0, of unit weights."""
    return -(x.reshape(len(x), -1) @ weights + bias)


def test_distance_to_a_hyperplane(hyperplane):
    # Logits (0, w . x + b) with |w| = 1: class 0 becomes class 1 at the distance -(w . x + b), along w.
    weights, x = hyperplane
    bias = -0.3 - (x.reshape(3, -1) @ weights).max()
    exact = margins(weights, bias, x)
    assert exact.min() > 0.29
    found = minimize(QUICK, affine([np.zeros(12), weights], [0, bias]), x, tf.zeros([3], tf.int64))
    assert found.success.all()
    assert np.all(found.distance >= exact - 1e-5) and np.all(found.distance <= 1.01 * exact)
    delta = (found.x_adv - x).reshape(3, -1)
    np.testing.assert_allclose(np.linalg.norm(delta, axis=1), found.distance, rtol=1e-5)
    assert np.all(delta @ weights >= 0.99 * found.distance)


def test_pixels_at_a_wall_move(hyperplane):
    # Pixels at 0 with a positive weight can move and those with a negative one cannot, so that the distance is
    # -(w . x + b) / |max(w, 0)|. With the slope that a pixel of 0 has in tanh space by the authors' code, they do not.
    weights, _ = hyperplane
    attack = CarliniWagnerL2(steps=200, binary_search_steps=5, initial_const=0.1)
    logits_fn = affine([np.zeros(12), weights], [0, -0.5])
    found = minimize(attack, logits_fn, np.zeros((1, 2, 2, 3), np.float32), tf.zeros([1], tf.int64))
    exact = 0.5 / np.linalg.norm(np.maximum(weights, 0))
    assert found.success.all() and exact <= found.distance[0] <= 1.01 * exact


def test_confidence(hyperplane):
    # Logit 1 leads by kappa at the distance kappa - (w . x + b).
    weights, x = hyperplane
    bias = -0.1 - (x.reshape(3, -1) @ weights).max()
    logits_fn = affine([np.zeros(12), weights], [0, bias])
    attack = CarliniWagnerL2(steps=100, binary_search_steps=6, initial_const=0.01, kappa=0.2)
    found = minimize(attack, logits_fn, x, tf.zeros([3], tf.int64))
    exact = margins(weights, bias, x) + 0.2
    assert found.success.all()
    assert np.all(losses.margin(logits_fn(found.x_adv), [0, 0, 0]) > 0.2)
    assert np.all(found.distance >= exact - 1e-5) and np.all(found.distance <= 1.01 * exact)


def test_pixel_range_is_a_unit_of_length(model, x, y):
    # The same problem with pixels from -1 to 3 has the same answer, four times as far away.
    plain = minimize(QUICK, model, x, y)
    attack = CarliniWagnerL2(bounds=(-1.0, 3.0), steps=100, binary_search_steps=6, initial_const=0.01)
    wide = minimize(attack, lambda x: model((x + 1) / 4), 4 * x - 1, y)
    np.testing.assert_allclose(wide.distance, 4 * plain.distance, rtol=1e-3)
    assert wide.x_adv.min() >= -1 and wide.x_adv.max() <= 3


def test_targets_are_reached_at_a_greater_distance(model, x, y):
    anywhere = minimize(QUICK, model, x, y)
    attack = CarliniWagnerL2(steps=100, binary_search_steps=6, initial_const=0.01, kappa=0.1, targeted=True)
    nearest = np.inf
    for shift in (1, 2, 3):
        target = (y + shift) % 4
        found = minimize(attack, model, x, target, judge_fn=model)
        lead = -losses.margin(model(found.x_adv), target).numpy()
        assert np.all(lead[found.success] > 0.1)
        nearest = np.minimum(nearest, found.distance)
    # Untargeted, the margin leads to the likeliest class, which need not be the nearest.
    assert np.isfinite(nearest).all() and np.all(nearest >= 0.97 * anywhere.distance)
    # Without confidence the nearest of all targets is what the untargeted attack finds.
    attack = CarliniWagnerL2(steps=100, binary_search_steps=6, initial_const=0.01, targeted=True)
    nearest = np.min([minimize(attack, model, x, (y + shift) % 4).distance for shift in (1, 2, 3)], axis=0)
    np.testing.assert_allclose(nearest, anywhere.distance, rtol=0.05)


# Who succeeds.


def test_misclassified_images_stay_as_they_are(model, x, y):
    wrong = tf.where(tf.range(8) < 4, (y + 1) % 3, y)
    found = minimize(QUICK, model, x, wrong)
    np.testing.assert_array_equal(found.x_adv[:4], x[:4])
    np.testing.assert_array_equal(found.distance[:4], 0)
    assert found.success.all() and np.all(found.distance[4:] > 0)
    # A target that is the class already is as near; and with kappa the lead counts.
    targeted = CarliniWagnerL2(steps=1, binary_search_steps=1, targeted=True)
    np.testing.assert_array_equal(minimize(targeted, model, x, y).distance, 0)
    confident = CarliniWagnerL2(steps=1, binary_search_steps=1, targeted=True, kappa=1e3)
    assert not minimize(confident, model, x, y).success.any()


def test_a_failure_is_the_image_itself():
    # Logits (0, x_0 - 2 x_1), of which the attack sees the first pixel's part only: it would have to be 1.8 in the
    # first image, and is 0.2 too low in the second.
    def logits_fn(x):
        flat = tf.reshape(x, [-1, 2])
        return tf.stack([tf.zeros_like(flat[:, 0]), flat[:, 0] - 2 * tf.stop_gradient(flat[:, 1])], axis=1)

    x = tf.constant([[0.3, 0.9], [0.3, 0.25]])[:, tf.newaxis, :, tf.newaxis]
    found = minimize(QUICK, logits_fn, x, tf.zeros([2], tf.int64), judge_fn=logits_fn)
    np.testing.assert_array_equal(found.success, [False, True])
    assert found.distance[0] == np.inf and 0.2 <= found.distance[1] < 0.21
    np.testing.assert_array_equal(found.x_adv[0], x[0])


def test_no_gradient_and_no_lead():
    x, y = tf.fill([2, 1, 3, 1], 0.5), tf.constant([0, 1], tf.int64)
    still = minimize(QUICK, lambda x: 0 * affine(np.ones([2, 3]), [0, 0])(x) + [1.0, 0.0], x, y)
    np.testing.assert_array_equal(still.success, [False, True])
    np.testing.assert_array_equal(still.x_adv, x)
    # On the boundary itself no class leads, and the next image is adversarial.
    tie = minimize(QUICK, affine([[1, 0, 0], [0, 1, 0]], [0, 0]), x, y)
    assert tie.success.all() and np.all(tie.distance > 0) and np.all(tie.distance < 0.01)


def test_the_judge_has_the_last_word(model, x, y):
    # The attack's logits put the boundary nearer than it is.
    def rash(x):
        return model(x) - 0.2 * tf.one_hot(y[0], 4)

    same = tf.gather(x, tf.where(y == y[0])[:, 0])
    labels = tf.fill([len(same)], y[0])
    alone = minimize(QUICK, rash, same, labels)
    assert np.any(np.argmax(model(alone.x_adv), axis=1) == labels)
    judged = minimize(QUICK, rash, same, labels, judge_fn=model)
    assert judged.success.all() and np.all(np.argmax(model(judged.x_adv), axis=1) != labels)
    assert np.all(judged.distance >= alone.distance)


def test_within_a_ball(model, x, y):
    found = minimize(QUICK, model, x, y)
    epsilon = float(np.median(found.distance))
    x_adv = for_any_batch(functools.partial(WithinBall(QUICK, ThreatModel("l2", epsilon)), model, seed=0), x, y)(x, y)
    np.testing.assert_array_equal(
        np.any(np.not_equal(x_adv, x), axis=(1, 2, 3)) & found.success, found.distance <= epsilon
    )


# Batches and graphs.


def test_an_example_does_not_depend_on_its_batch_mates(model, x, y):
    wrong = tf.where(tf.range(8) == 5, (y + 1) % 3, y)
    attack = CarliniWagnerL2(steps=60, binary_search_steps=4, initial_const=0.03)
    run = for_any_batch(functools.partial(attack.minimize, model, seed=0, judge_fn=model), x, y)
    batch = run(x, wrong)
    for i in range(8):
        alone = run(x[i : i + 1], wrong[i : i + 1])
        np.testing.assert_allclose(alone.x_adv[0], batch.x_adv[i], atol=1e-3)
        np.testing.assert_allclose(alone.distance[0], batch.distance[i], rtol=1e-3)
        assert alone.success[0] == batch.success[i]


def test_the_result_is_the_same_again_whatever_the_seed(model, x, y):
    run = tf.function(lambda x, y, seed: QUICK.minimize(model, x, y, seed=seed), autograph=False)
    first = run(x, y, tf.constant([0, 1]))
    for seed in (1, 2):
        np.testing.assert_array_equal(run(x, y, tf.constant([0, seed])).x_adv, first.x_adv)
    assert np.min(first.x_adv) >= 0 and np.max(first.x_adv) <= 1


def test_eager_numpy_and_double(model, x, y):
    attack = CarliniWagnerL2(steps=20, binary_search_steps=3, initial_const=1.0)
    eager = attack.minimize(model, x.numpy(), y.numpy().astype(np.uint8), seed=0)
    graph = minimize(attack, model, x, y)
    np.testing.assert_allclose(eager.distance, graph.distance, rtol=1e-3)
    double = minimize(attack, lambda x: model(tf.cast(x, tf.float32)), tf.cast(x, tf.float64), y)
    assert double.x_adv.dtype == np.float64 and double.distance.dtype == np.float32
    np.testing.assert_allclose(double.distance, graph.distance, rtol=1e-3)


def evaluated(attack, logits_fn, x, y):
    """How many images pass through the model."""
    count = 0

    def counting(x):
        nonlocal count
        count += len(x)
        return logits_fn(x)

    attack.minimize(counting, x, y, seed=0)
    return count


def test_what_is_done_is_not_computed(hyperplane):
    weights, x = hyperplane
    logits_fn, y = (
        affine([np.zeros(12), weights], [0, -0.3 - (x.reshape(3, -1) @ weights).max()]),
        tf.zeros([3], tf.int64),
    )
    attack = CarliniWagnerL2(steps=30, binary_search_steps=2, initial_const=1.0, abort_early=False)
    # The clean images, and three examples for 2 * 30 steps; images that are misclassified cost no step.
    assert evaluated(attack, logits_fn, x, y) == 3 + 3 * 60
    assert evaluated(attack, logits_fn, x, tf.constant([0, 1, 0])) == 3 + 2 * 60
    # A constant of next to nothing moves nothing: its descent ends at the second check, three steps after the first.
    attack = CarliniWagnerL2(steps=30, binary_search_steps=1, initial_const=1e-9)
    assert evaluated(attack, logits_fn, x, y) == 3 + 3 * 4


# Parts.


def test_tanh_space():
    pixels = np.linspace(-1, 3, 9, dtype=np.float32)
    w = descent.to_tanh_space(tf.constant(pixels), (-1.0, 3.0))
    back, slope = descent.to_pixels(w, (-1.0, 3.0))
    np.testing.assert_allclose(back, pixels, atol=1e-6)
    # d tanh(w) / dw = 1 - tanh(w)^2, times half of the range over 0.9; tanh(w) is 0.9 at the upper wall.
    np.testing.assert_allclose(slope[-1], 2 / 0.9 * (1 - 0.81), rtol=1e-5)
    beyond, _ = descent.to_pixels(tf.constant([-9.0, 9.0]), (-1.0, 3.0))
    np.testing.assert_array_equal(beyond, [-1, 3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be an integer of 1 or more, got 0"),
        ({"binary_search_steps": 0}, "binary_search_steps must be an integer of 1 or more, got 0"),
        ({"initial_const": 0}, "initial_const must be a finite number above 0, got 0"),
        ({"learning_rate": float("inf")}, "learning_rate must be a finite number above 0, got inf"),
        ({"kappa": -1}, "kappa must be a finite number from 0 up, got -1"),
        ({"kappa": float("nan")}, "kappa must be a finite number from 0 up, got nan"),
        ({"bounds": (1.0, 0.0)}, "bounds must be .* got"),
    ],
)
def test_errors_name_argument_expectation_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        CarliniWagnerL2(**arguments)
