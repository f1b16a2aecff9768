"""DeepFool: the nearest hyperplane by hand, the authors' loop on a small network, and its peers."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests.attacks.linear_models import WIDE, affine, image
from tfrobust.attacks.base import NotDifferentiableError
from tfrobust.attacks.deepfool import DeepFool
from tfrobust.attacks.minimum_norm import WithinBall
from tfrobust.threat_models import ThreatModel

# Hyperplanes by hand. At (0.5, 0.5) the logits are (0, -1, -0.35), with the gradients (0, 0), (3, 4) and (-2, 0).
# In l2 the boundaries are 1 / 5 = 0.2 and 0.35 / 2 = 0.175 away, so that class 2 is nearest, along (-1, 0).
# In linf they are 1 / 7 and again 0.175 away, so that class 1 is nearest, along (1, 1).
HAND = affine([[0, 3, -2], [0, 4, 0]], [0, -4.5, 0.65])


@pytest.mark.parametrize("overshoot", [0.02, 0.3])
def test_nearest_of_two_boundaries_in_l2(overshoot):
    found = DeepFool("l2", overshoot=overshoot).minimize(HAND, image(0.5, 0.5), tf.constant([0]), seed=0)
    np.testing.assert_allclose(np.ravel(found.x_adv), [0.5 - 0.175 * (1 + overshoot), 0.5], atol=1e-6)
    np.testing.assert_allclose(found.distance, [0.175 * (1 + overshoot)], atol=1e-6)
    assert found.success.numpy().all() and np.argmax(HAND(found.x_adv)) == 2


@pytest.mark.parametrize("overshoot", [0.02, 0.3])
def test_nearest_of_two_boundaries_in_linf(overshoot):
    found = DeepFool("linf", overshoot=overshoot).minimize(HAND, image(0.5, 0.5), tf.constant([0]), seed=0)
    np.testing.assert_allclose(np.ravel(found.x_adv), [0.5 + (1 + overshoot) / 7] * 2, atol=1e-6)
    np.testing.assert_allclose(found.distance, [(1 + overshoot) / 7], atol=1e-6)
    assert np.argmax(HAND(found.x_adv)) == 1


def test_only_the_likeliest_classes_count():
    # With two candidates these are classes 0 and 2.
    found = DeepFool("linf", candidates=2).minimize(HAND, image(0.5, 0.5), tf.constant([0]), seed=0)
    np.testing.assert_allclose(np.ravel(found.x_adv), [0.5 - 0.175 * 1.02, 0.5], atol=1e-6)


def test_a_pixel_at_its_bound_does_not_count():
    # The difference is -0.4 with the gradient (-3, 4); the first pixel is at 0 and cannot fall. With the second alone
    # the boundary is 0.4 / 4 = 0.1 away, in both norms, instead of 0.4 / 5 and 0.4 / 7.
    logits_fn = affine([[0, -3], [0, 4]], [0, -2.4])
    for norm in ("l2", "linf"):
        found = DeepFool(norm, steps=1).minimize(logits_fn, image(0.0, 0.5), tf.constant([0]), seed=0)
        np.testing.assert_allclose(np.ravel(found.x_adv), [0, 0.602], atol=1e-6)


def test_images_stay_within_bounds():
    # In linf the step is 1.1 / 7 = 0.157 along (1, 1). The first pixel stops at 1, where the difference is
    # 3 * 0.05 + 4 * 0.157 - 1 = -0.221; the second step moves the other one by 1.1 * 0.221 / 4.
    logits_fn = affine([[0, 3], [0, 4]], [0, -3.85 - 1])
    found = DeepFool("linf", overshoot=0.1).minimize(logits_fn, image(0.95, 0.25), tf.constant([0]), seed=0)
    first = 1.1 / 7
    second = 1.1 * (1 - 0.15 - 4 * first) / 4
    np.testing.assert_allclose(np.ravel(found.x_adv), [1, 0.25 + first + second], atol=1e-6)


@pytest.mark.parametrize("candidates", [10, 25, None])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_closed_form_of_random_affine_models(norm, candidates):
    rng = np.random.default_rng(3)
    weights, biases = rng.normal(size=(12, 25)).astype(np.float32), rng.normal(size=25).astype(np.float32)
    x = rng.normal(size=(16, 1, 12, 1)).astype(np.float32)
    logits = x.reshape(16, 12) @ weights + biases
    order = np.argsort(-logits, axis=1)
    y, others = order[:, 0], order[:, 1:candidates]
    w = weights.T[others] - weights.T[y][:, np.newaxis]
    f = np.take_along_axis(logits, others, 1) - logits[np.arange(16), y][:, np.newaxis]
    distances = -f / np.linalg.norm(w, axis=2, ord=2 if norm == "l2" else 1)
    attack = DeepFool(norm, WIDE, candidates=candidates)
    found = tf.function(functools.partial(attack.minimize, affine(weights, biases), seed=0), autograph=False)(x, y)
    assert found.success.numpy().all()
    np.testing.assert_allclose(found.distance, 1.02 * distances.min(axis=1), rtol=1e-4)
    reached = np.argmax(affine(weights, biases)(found.x_adv), axis=1)
    nearest = others[np.arange(16), distances.argmin(axis=1)]
    # With few candidates a class that is none of them may be crossed on the way.
    assert np.mean(reached == nearest) > 0.6 if candidates == 10 else (reached == nearest).all()


def test_without_overshoot_the_boundary_is_crossed_all_the_same():
    weights = np.random.default_rng(4).normal(size=(12, 5)).astype(np.float32)
    x = tf.constant(np.random.default_rng(5).normal(size=(20, 1, 12, 1)).astype(np.float32))
    logits_fn = affine(weights, np.zeros(5))
    y = tf.argmax(logits_fn(x), axis=-1)
    bounds = (-5.0, 5.0)
    exact = DeepFool("l2", bounds, overshoot=0.0).minimize(logits_fn, x, y, seed=0)
    overshot = DeepFool("l2", bounds, overshoot=0.05).minimize(logits_fn, x, y, seed=0)
    assert exact.success.numpy().all()
    np.testing.assert_allclose(overshot.distance / exact.distance, 1.05, atol=0.01)


# The authors' loop.


def authors_deepfool(model, x, y, *, steps, overshoot):
    """One image at a time, unclipped, every class: the sum of the steps is overshot, and so is the next start."""
    total, x_adv = np.zeros_like(x), x
    for _ in range(steps):
        images = tf.constant(x_adv[np.newaxis])
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = model(images)
        if np.argmax(logits) != y:
            break
        jacobian = tape.jacobian(logits, images).numpy()[0, :, 0]
        f, w = logits.numpy()[0] - logits.numpy()[0, y], jacobian - jacobian[y]
        size = np.linalg.norm(w.reshape(len(w), -1), axis=1)
        others = [k for k in range(len(f)) if k != y]
        best = min(others, key=lambda k: abs(f[k]) / size[k])
        total = total + abs(f[best]) / size[best] ** 2 * w[best]
        x_adv = x + (1 + overshoot) * total
    return x_adv


def test_deepfool_is_the_authors(model, x, y):
    expected = np.stack(
        [authors_deepfool(model, x[i].numpy(), y[i].numpy(), steps=50, overshoot=0.02) for i in range(8)]
    )
    found = DeepFool("l2", WIDE).minimize(model, x, y, seed=0)
    assert found.success.numpy().all() and np.all(np.argmax(model(expected), axis=1) != y)
    np.testing.assert_allclose(found.x_adv, expected, atol=1e-5)


# Each example by itself.


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_an_example_does_not_depend_on_its_batch_mates(model, x, y, norm):
    minimize = tf.function(functools.partial(DeepFool(norm).minimize, model, seed=1), autograph=False)
    batch = minimize(x, y)
    assert batch.success.numpy().all()
    np.testing.assert_array_equal(minimize(x, y).x_adv, batch.x_adv)
    for i in range(8):
        alone = minimize(x[i : i + 1], y[i : i + 1])
        np.testing.assert_allclose(alone.x_adv[0], batch.x_adv[i], atol=1e-5)
        np.testing.assert_allclose(alone.distance[0], batch.distance[i], atol=1e-5)


def test_an_image_that_is_wrong_already_stays_as_it_is(model, x, y):
    wrong = (y + tf.constant([0, 1] * 4, tf.int64)) % 4
    found = DeepFool("l2").minimize(model, x, wrong, seed=0)
    np.testing.assert_array_equal(found.x_adv[1::2], x[1::2])
    np.testing.assert_array_equal(found.distance[1::2], np.zeros(4))
    assert np.all(found.distance[::2] > 0) and found.success.numpy().all()


def test_gradients_of_zero_leave_the_image_as_it_is_and_make_no_nan():
    # Class 1 is never reached from dark images, where its logit is constant.
    def logits_fn(x):
        brightness = tf.reduce_sum(tf.reshape(x, [-1, 4]), axis=1)
        return tf.stack([tf.zeros_like(brightness), tf.nn.relu(brightness - 2) - 0.5], axis=1)

    x = tf.constant([[0.0] * 4, [0.6] * 4], shape=[2, 2, 2, 1])
    for norm in ("l2", "linf"):
        found = DeepFool(norm).minimize(logits_fn, x, tf.constant([0, 0]), seed=0)
        np.testing.assert_array_equal(found.success, [False, True])
        np.testing.assert_array_equal(found.x_adv[0], x[0])
        # The brightness must rise from 2.4 to 2.5, by 0.025 in every pixel.
        np.testing.assert_allclose(found.distance, [np.inf, 1.02 * (0.05 if norm == "l2" else 0.025)], rtol=1e-4)


def test_gradients_whose_squares_underflow():
    found = DeepFool("l2").minimize(lambda x: 1e-25 * HAND(x), image(0.5, 0.5), tf.constant([0]), seed=0)
    np.testing.assert_allclose(found.distance, [0.175 * 1.02], rtol=1e-4)


def test_fooled_examples_are_computed_no_more():
    # Seven examples are fooled in one step. The gradient of the eighth, the dark one, is 0: it takes all steps.
    computed = []

    def judge_fn(x):
        computed.append(int(x.shape[0]))
        brightness = tf.reduce_sum(tf.reshape(x, [-1, 4]), axis=1)
        return tf.stack([tf.zeros_like(brightness), tf.nn.relu(brightness - 2) - 0.5], axis=1)

    x = tf.concat([tf.zeros([1, 2, 2, 1]), tf.fill([7, 2, 2, 1], 0.6)], axis=0)
    DeepFool("l2", steps=5).minimize(judge_fn, x, tf.zeros([8], tf.int32), seed=0)
    # The clean images; then a gradient and a judgement for every step; all of them once more.
    assert computed == [8, 8, 8] + [1, 1] * 4 + [8]


def test_the_judge_decides():
    # The judge's boundary is twice as far away as the one that the gradients see.
    logits_fn, judge_fn = affine([[0, 1.0]], [0, -0.5]), affine([[0, 1.0]], [0, -0.7])
    found = DeepFool("l2").minimize(logits_fn, image(0.3), tf.constant([0]), seed=0, judge_fn=judge_fn)
    assert found.success.numpy().all() and np.argmax(judge_fn(found.x_adv)) == 1
    never = DeepFool("l2").minimize(logits_fn, image(0.3), tf.constant([0]), seed=0, judge_fn=affine([[0, 0]], [1, 0]))
    np.testing.assert_array_equal(never.success, [False])
    np.testing.assert_array_equal(never.x_adv, image(0.3))
    np.testing.assert_array_equal(never.distance, [np.inf])


def test_within_a_ball(model, x, y):
    found = DeepFool("linf").minimize(model, x, y, seed=0)
    epsilon = float(np.median(found.distance))
    x_adv = WithinBall(DeepFool("linf"), ThreatModel("linf", epsilon))(model, x, y, seed=0)
    fooled = np.argmax(model(x_adv), axis=1) != y
    np.testing.assert_array_equal(fooled, found.distance <= epsilon)
    assert np.abs(x_adv - x).max() <= epsilon + 1e-6


# The graph.


def test_eager_is_the_graph_and_any_batch_size_will_do(model, x, y):
    for norm in ("l2", "linf"):
        minimize = functools.partial(DeepFool(norm).minimize, model, seed=0)
        signature = [tf.TensorSpec([None, 6, 5, 1]), tf.TensorSpec([None], tf.int64)]
        compiled = tf.function(minimize, input_signature=signature, autograph=False)
        for count in (8, 3):
            expected = minimize(x[:count].numpy(), y[:count].numpy())
            np.testing.assert_allclose(compiled(x[:count], y[:count]).x_adv, expected.x_adv, atol=1e-5)
        assert compiled.experimental_get_tracing_count() == 1


def test_dtype_of_the_images_is_kept(model, x, y):
    found = DeepFool("l2", steps=2).minimize(model, tf.cast(x, tf.float64), tf.cast(y, tf.int32), seed=0)
    assert found.x_adv.dtype == tf.float64 and found.distance.dtype == tf.float32


def test_a_model_without_gradients_is_refused():
    with pytest.raises(NotDifferentiableError, match="classifier must be differentiable"):
        DeepFool("l2").minimize(lambda x: tf.round(HAND(x) * 0), image(0.5, 0.5), tf.constant([0]), seed=0)


# Configuration.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "l1"}, "norm must be 'l2' or 'linf', got 'l1'"),
        ({"bounds": (1.0, 0.0)}, r"bounds must be \(low, high\) with low < high"),
        ({"steps": 0}, "steps must be an integer of 1 or more, got 0"),
        ({"overshoot": -0.1}, "overshoot must be 0 or more, got -0.1"),
        ({"overshoot": float("nan")}, "overshoot must be 0 or more, got nan"),
        ({"candidates": 1}, "candidates must be an integer of 2 or more, got 1"),
        ({"candidates": 2.5}, "candidates must be an integer of 2 or more, got 2.5"),
    ],
)
def test_errors_name_argument_expectation_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        DeepFool(**{"norm": "l2", **arguments})
