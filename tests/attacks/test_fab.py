"""FAB: steps by hand, the nearest image on linear models, parity with torchattacks, independence of batch mates."""

import functools
import math

import numpy as np
import pytest
import tensorflow as tf

from tfrobust import seeds
from tfrobust.attacks.fab import FAB, nearest_boundary
from tfrobust.attacks.minimum_norm import WithinBall
from tfrobust.threat_models import ThreatModel

NORMS = {"linf": 0.1, "l2": 0.5, "l1": 0.9}
DUAL = {"linf": 1, "l2": 2, "l1": np.inf}


@pytest.fixture(scope="module")
def y(model, x):
    """The model's own classes, but for the last example."""
    return (tf.argmax(model(x), axis=-1) + tf.constant([0] * 7 + [1], tf.int64)) % 4


def linear(weights, offsets):
    """Logits (0, w_1 . x + c_1, w_2 . x + c_2, ...) of images of len(w) pixels; `weights` is [K - 1, D]."""
    weights, offsets = np.asarray(weights, np.float32), np.asarray(offsets, np.float32)
    return lambda x: tf.pad(tf.reshape(x, [-1, weights.shape[1]]) @ tf.constant(weights.T) + offsets, [[0, 0], [1, 0]])


def image(*pixels):
    return tf.constant(pixels, tf.float32, [1, 1, len(pixels), 1])


def distance(threat, x_adv, x):
    return threat.distance(x_adv, x).numpy()


def flat_around_half(x):
    """Logits (0, max(p - 0.6, 0) - 0.02) of images of one pixel."""
    return tf.pad(tf.nn.relu(tf.reshape(x, [-1, 1]) - 0.6) - 0.02, [[0, 0], [1, 0]])


def fooled(model, x_adv, y):
    return np.argmax(model(x_adv), axis=1) != np.asarray(y)


# Steps by hand.


@pytest.mark.parametrize("norm", NORMS)
def test_the_first_two_steps_of_a_linear_model(norm):
    # The boundary 3 p - 4 q = 1 is 1 away from label 0's image (0.4, 0.3) in 3 p - 4 q: d = 1 / |(3, -4)|_dual. From x
    # itself both steps are d, and x_new is 1.05 d away: adversarial. Then x_now is 0.945 d away and
    #     alpha = 0.055 / (0.055 + 1),    x_new = (1 - alpha) (0.945 + 1.05 * 0.055) + alpha 1.05 = 1.0052133
    # away, on the same line, which is nearer.
    logits_fn, x = linear([[3.0, -4.0]], [-1.0]), image(0.4, 0.3)
    least = 1 / np.linalg.norm([3, -4], DUAL[norm])
    for steps, factor in ((1, 1.05), (2, 1.0052133)):
        found = FAB(ThreatModel(norm, 0.3), steps).minimize(logits_fn, x, tf.constant([0]), seed=0)
        np.testing.assert_allclose(found.distance, [factor * least], rtol=1e-5)
        np.testing.assert_allclose(found.distance, distance(ThreatModel(norm, 0.3), found.x_adv, x), rtol=1e-6)
        assert found.success.numpy().all()
    change = {"linf": [1 / 7, -1 / 7], "l2": [3 / 25, -4 / 25], "l1": [0, -1 / 4]}[norm]
    np.testing.assert_allclose(np.ravel(found.x_adv - x), 1.0052133 * np.array(change), atol=1e-6)


def test_steps_within_the_box():
    # The first pixel has 0.05 to go up and the second 0.5: of 0.3 in all, it takes 0.05 and 0.25 in linf. With eta
    # 1.05 the second moves by 0.2625; the first is at its wall.
    logits_fn, x = linear([[1.0, 1.0]], [-1.75]), image(0.95, 0.5)
    found = FAB(ThreatModel("linf", 0.3), 1).minimize(logits_fn, x, tf.constant([0]), seed=0)
    np.testing.assert_allclose(np.ravel(found.x_adv), [1.0, 0.7625], atol=1e-6)


def test_alpha_max_eta_and_beta():
    # One pixel at 0, boundary at 10, eta 1.5, beta 0.8. First x_new = 15, adversarial, and x_now = 12. Then d_now = -2,
    # alpha = min(2 / 12, 0.1), x_new = 0.9 (12 - 3) + 0.1 * 15 = 9.6: not adversarial. Then d_now = 0.4,
    # alpha = 0.4 / 10.4, x_new = (1 - alpha) (9.6 + 0.6) + alpha 15 = 10.384615.
    logits_fn, x, y = linear([[1.0]], [-10.0]), image(0.0), tf.constant([0])
    threat = ThreatModel("l2", 1.0, (0.0, 100.0))
    for steps, expected in ((1, 15.0), (2, 15.0), (3, 10.384615)):
        found = FAB(threat, steps, eta=1.5, beta=0.8).minimize(logits_fn, x, y, seed=0)
        np.testing.assert_allclose(found.distance, [expected], rtol=1e-6)
    # Without a pull toward x, x_new = 12 - 3 = 9, and then 9 + 1.5 = 10.5.
    found = FAB(threat, 3, eta=1.5, beta=0.8, alpha_max=0.0).minimize(logits_fn, x, y, seed=0)
    np.testing.assert_allclose(found.distance, [10.5], rtol=1e-6)


# The nearest image.


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("targets", [0, 2, 9])
def test_the_nearest_of_several_linear_boundaries(norm, targets):
    # In a box so wide that it plays no part the distance is min_k |z_k - z_0| / |w_k|_dual.
    random = np.random.default_rng(1)
    weights, offsets = random.normal(size=(2, 12)), [-2.0, -2.5]
    x, y = tf.constant(random.uniform(-0.1, 0.1, (10, 1, 12, 1)), tf.float32), tf.zeros([10], tf.int64)
    logits_fn = linear(weights, offsets)
    logits = logits_fn(x).numpy()
    assert np.all(logits.argmax(axis=1) == 0)
    each = -logits[:, 1:] / np.linalg.norm(weights, DUAL[norm], axis=1)
    found = FAB(ThreatModel(norm, 1.0, (-50.0, 50.0)), 6, targets=targets).minimize(logits_fn, x, y, seed=0)
    assert found.success.numpy().all()
    ratio = found.distance / each.min(axis=1)
    assert np.all(ratio >= 1 - 1e-5) and np.all(ratio <= 1.006)


def test_one_target_is_the_likeliest_other_class():
    # Class 1 has the higher logit, -1 against -2, but weights so small that its boundary is 10 away, and class 2's 1.
    logits_fn, x, y = linear([[0.1, 0.0], [0.0, 2.0]], [-1.0, -2.0]), image(0.0, 0.0), tf.constant([0])
    threat = ThreatModel("l2", 1.0, (-100.0, 100.0))
    for targets, expected in ((1, 10.0), (2, 1.0), (0, 1.0)):
        found = FAB(threat, 5, targets=targets).minimize(logits_fn, x, y, seed=0)
        np.testing.assert_allclose(found.distance, [expected], rtol=0.006)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("classes", [2, 5, 10, 23])
def test_nearest_boundary_of_any_number_of_classes(norm, classes):
    random = np.random.default_rng(classes)
    weights, x = random.normal(size=(classes - 1, 12)), random.uniform(size=(9, 1, 12, 1)).astype(np.float32)
    y = random.integers(classes, size=9)
    logits_fn = linear(weights, random.normal(size=classes - 1))
    gradient, gap = nearest_boundary(logits_fn, tf.constant(x), tf.constant(y), norm, tf.fill([9, classes], math.nan))
    weights, logits = np.vstack([np.zeros(12), weights]), logits_fn(x).numpy()
    for i, label in enumerate(y):
        others = [k for k in range(classes) if k != label]
        far = [
            abs(logits[i, k] - logits[i, label]) / np.linalg.norm(weights[k] - weights[label], DUAL[norm])
            for k in others
        ]
        best = others[np.argmin(far)]
        np.testing.assert_allclose(np.ravel(gradient[i]), weights[best] - weights[label], atol=1e-6)
        np.testing.assert_allclose(gap[i], logits[i, best] - logits[i, label], atol=1e-5)


@pytest.mark.parametrize(("norm", "targets"), [("linf", 3), ("l2", 0), ("l1", 0), ("l1", 3)])
def test_what_is_returned_is_adversarial_and_valid(model, x, y, norm, targets):
    threat = ThreatModel(norm, NORMS[norm])
    attack = FAB(threat, 8, targets=targets)
    found = attack.minimize(model, x, y, seed=0)
    assert found.success.numpy().all() and fooled(model, found.x_adv, y).all()
    assert found.x_adv.numpy().min() >= 0 and found.x_adv.numpy().max() <= 1
    np.testing.assert_allclose(found.distance, distance(threat, found.x_adv, x), atol=1e-6)
    # The last example is misclassified as it is.
    assert found.distance[7] == 0 and np.all(found.distance[:7] > 0)
    np.testing.assert_array_equal(found.x_adv[7], x[7])
    within = attack(model, x, y, seed=0)
    wrong = fooled(model, within, y)
    assert np.all(distance(threat, within, x) <= threat.epsilon) and 1 < wrong.sum() < 8
    # With one run the same images are met: found within epsilon, or never.
    if not targets:
        np.testing.assert_array_equal(wrong, found.distance <= threat.epsilon)
    np.testing.assert_array_equal(within.numpy()[~wrong], x.numpy()[~wrong])
    np.testing.assert_array_equal(within[7], x[7])


def test_norm_and_bounds_are_the_threats(model, x, y):
    threat = ThreatModel("l2", 0.5)
    attack = FAB(threat, 5, targets=1)
    assert (attack.norm, attack.bounds) == ("l2", (0.0, 1.0))
    actual = WithinBall(attack, threat)(model, x, y, seed=0)
    found = attack.minimize(model, x, y, seed=0)
    np.testing.assert_array_equal(actual, np.where(found.distance[:, None, None, None] <= 0.5, found.x_adv, x))


def test_restarts_and_targets_never_hurt(model, x, y):
    threat = ThreatModel("l2", NORMS["l2"])

    def results(restarts, targets):
        attack = FAB(threat, 2, restarts, targets)
        found, within = attack.minimize(model, x, y, seed=3), attack(model, x, y, seed=3)
        return found.distance.numpy(), fooled(model, within, y)

    for targets in (0, 1):
        once, again = results(1, targets), results(3, targets)
        assert np.all(again[0] <= once[0]) and np.all(again[1] >= once[1])
    one, three = results(1, 1), results(1, 3)
    assert np.all(three[0] <= one[0]) and np.all(three[1] >= one[1])
    assert np.any(three[0] < one[0])


def test_restarts_leave_a_region_without_gradient():
    # Starts within 0.4 / 2 of 0.5 see the slope where they are above 0.6: of 8 examples with 11 random starts most do.
    x, y, threat = tf.fill([8, 1, 1, 1], 0.5), tf.zeros([8], tf.int64), ThreatModel("linf", 0.4)
    assert not FAB(threat, 2).minimize(flat_around_half, x, y, seed=0).success.numpy().any()
    attack = FAB(threat, 2, restarts=12)
    found = attack.minimize(flat_around_half, x, y, seed=0)
    assert found.success.numpy().sum() >= 5
    np.testing.assert_allclose(found.distance.numpy()[found.success], 0.12, rtol=0.05)
    x_adv = attack(flat_around_half, x, y, seed=0)
    np.testing.assert_array_equal(fooled(flat_around_half, x_adv, y), found.success)
    # The seed decides.
    np.testing.assert_array_equal(attack(flat_around_half, x, y, seed=0), x_adv)
    assert np.any(attack(flat_around_half, x, y, seed=1) != x_adv)


def test_restarts_begin_nearer_than_what_was_found():
    # With eta 1 and steps so cut that they lead nowhere new, a run of one step shows where it began: a hyperplane
    # 0.2 away, epsilon 1. Later runs begin within 0.1 of x in l2.
    begun = []

    def logits_fn(x):
        begun.append(x)
        return linear([[1.0, 0.0]], [-0.7])(x)

    FAB(ThreatModel("l2", 1.0), 1, restarts=5).minimize(logits_fn, image(0.5, 0.5), tf.constant([0]), seed=0)
    # One look at x, then for each run one for the gradient and one to judge.
    starts = np.array([np.ravel(part) for part in begun[1::2]])
    assert starts.shape == (5, 2)
    np.testing.assert_array_equal(starts[0], [0.5, 0.5])
    reach = np.linalg.norm(starts[1:] - 0.5, axis=1)
    assert np.all(reach > 0) and np.all(reach <= 0.105 + 1e-6) and len(set(reach)) == 4


# Who judges.


def test_the_judge_decides():
    # Gradients see a boundary at 0.6 and the judge one at 0.65. It has seen x, so that the first step is onto its own:
    # 1.2 times 0.15. The next starts at 0.5 + 0.9 * 0.18 = 0.662, which it has not seen: 0.662 - 0.9 * 1.2 * 0.062 with
    # a pull of alpha_max 0.1 toward 0.5 + 1.2 * 0.1 = 0.62 is not adversarial.
    x, y = image(0.5), tf.constant([0])
    logits_fn, judge_fn = linear([[1.0]], [-0.6]), linear([[1.0]], [-0.65])
    for steps in (1, 2):
        found = FAB(ThreatModel("linf", 0.2), steps, eta=1.2).minimize(logits_fn, x, y, seed=0, judge_fn=judge_fn)
        np.testing.assert_allclose(found.distance, [0.18], atol=1e-6)
    # Without the judge's word nothing is adversarial.
    threat, never = ThreatModel("linf", 0.2), linear([[0.0]], [-0.1])
    assert not FAB(threat, 3).minimize(logits_fn, x, y, seed=0, judge_fn=never).success[0]
    np.testing.assert_array_equal(FAB(threat, 3)(logits_fn, x, y, seed=0, judge_fn=never), x)
    # What the judge takes for wrong is done, whatever gradients see.
    for judge_fn in (linear([[1.0]], [-0.4]), linear([[0.0]], [1.0])):
        found = FAB(threat, 3).minimize(logits_fn, x, y, seed=0, judge_fn=judge_fn)
        assert found.distance[0] == 0
        np.testing.assert_array_equal(FAB(threat, 3)(logits_fn, x, y, seed=0, judge_fn=judge_fn), x)


# Degenerate models and batches.


@pytest.mark.parametrize(("norm", "targets"), [("linf", 0), ("l2", 2), ("l1", 2)])
def test_a_zero_gradient_finds_nothing(x, norm, targets):
    def constant(x):
        return tf.constant([3.0, 1.0, 2.0]) + 0 * tf.reduce_sum(x, axis=[1, 2, 3])[:, tf.newaxis]

    attack, y = FAB(ThreatModel(norm, 0.3), 3, restarts=2, targets=targets), tf.zeros([8], tf.int64)
    found = attack.minimize(constant, x, y, seed=0)
    np.testing.assert_array_equal(found.x_adv, x)
    assert np.all(np.isinf(found.distance)) and not found.success.numpy().any()
    np.testing.assert_array_equal(attack(constant, x, y, seed=0), x)


@pytest.mark.parametrize("targets", [0, 2])
def test_a_gradient_that_is_not_a_number_shows(x, targets):
    def broken(x):
        root = tf.sqrt(0 * tf.reshape(x, [-1, 30])[:, :1])
        return tf.constant([3.0, 1.0, 2.0]) + root * [0.0, 1.0, 2.0]

    attack, y = FAB(ThreatModel("linf", 0.3), 2, targets=targets), tf.zeros([8], tf.int64)
    assert not attack.minimize(broken, x, y, seed=0).success.numpy().any()
    assert np.isnan(attack(broken, x, y, seed=0)).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize(("norm", "wide"), [("linf", 0.9), ("l2", 5.0), ("l1", 20.0)])
def test_batches_of_which_all_or_none_are_fooled(model, x, norm, wide):
    y = tf.argmax(model(x), axis=-1)
    narrow = FAB(ThreatModel(norm, 1e-4), 2, restarts=2, targets=2)
    np.testing.assert_array_equal(narrow(model, x, y, seed=0), x)
    # All misclassified as they are.
    np.testing.assert_array_equal(narrow(model, x, (y + 1) % 4, seed=0), x)
    np.testing.assert_array_equal(narrow.minimize(model, x, (y + 1) % 4, seed=0).distance, np.zeros(8))
    x_adv = FAB(ThreatModel(norm, wide), 10, targets=1)(model, x, y, seed=0)
    assert fooled(model, x_adv, y).all()


def test_epsilon_zero(model, x, y):
    attack = FAB(ThreatModel("l2", 0.0), 3, restarts=2)
    np.testing.assert_array_equal(attack(model, x, y, seed=0), x)
    assert np.all(np.isfinite(attack.minimize(model, x, y, seed=0).x_adv))


# Seeds, batches and graphs.


@pytest.mark.parametrize(("norm", "targets"), [("linf", 0), ("l2", 2), ("l1", 2)])
def test_an_example_does_not_depend_on_its_batch_mates(model, x, y, norm, targets):
    attack = FAB(ThreatModel(norm, NORMS[norm]), 4, restarts=2, targets=targets)

    def run(x, y, indices):
        seed = seeds.per_example(1, indices)
        return attack(model, x, y, seed=seed), attack.minimize(model, x, y, seed=seed)

    # One graph for any batch size, and eagerly.
    signature = [tf.TensorSpec([None, 6, 5, 1]), tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.int32)]
    compiled = tf.function(run, input_signature=signature, autograph=False)
    batch, found = run(x, y, tf.range(8))
    for examples in (range(8), *([i] for i in range(8))):
        part, part_found = compiled(tf.gather(x, examples), tf.gather(y, examples), tf.constant(examples))
        np.testing.assert_allclose(part, tf.gather(batch, examples), atol=2e-5)
        np.testing.assert_allclose(part_found.x_adv, tf.gather(found.x_adv, examples), atol=2e-5)
        np.testing.assert_allclose(part_found.distance, tf.gather(found.distance, examples), rtol=1e-4)
    assert compiled.experimental_get_tracing_count() == 1


def test_arrays_and_dtypes(model, x, y):
    attack = FAB(ThreatModel("l2", 0.5), 2, restarts=2, targets=1)
    expected = attack(model, x, y, seed=0)
    np.testing.assert_array_equal(attack(model, x.numpy(), y.numpy().astype(np.int32), seed=0), expected)
    found = attack.minimize(model, tf.cast(x, tf.float64), y, seed=0)
    assert found.x_adv.dtype == tf.float64 and found.distance.dtype == tf.float32
    assert attack(model, tf.cast(x, tf.float64), y, seed=0).dtype == tf.float64


def test_graph_does_not_grow(model, x, y):
    def size(attack):
        run = tf.function(functools.partial(attack, model, seed=0), autograph=False)
        graph = run.get_concrete_function(x, y).graph.as_graph_def()
        return len(graph.node) + sum(len(function.node_def) for function in graph.library.function)

    threat = ThreatModel("linf", 0.1)
    assert size(FAB(threat, 2, restarts=2, targets=2)) == size(FAB(threat, 9, restarts=30, targets=2))


# Configuration.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be an integer of 1 or more, got 0"),
        ({"restarts": 0}, "restarts must be an integer of 1 or more, got 0"),
        ({"targets": -1}, "targets must be an integer of 0 or more, got -1"),
        ({"targets": 1.5}, "targets must be an integer of 0 or more, got 1.5"),
        ({"alpha_max": 1.5}, "alpha_max must be from 0 to 1, got 1.5"),
        ({"beta": -0.1}, "beta must be from 0 to 1, got -0.1"),
        ({"beta": "0.9"}, "beta must be from 0 to 1, got '0.9'"),
        ({"eta": 0.9}, "eta must be a finite number from 1 up, got 0.9"),
        ({"eta": math.inf}, "eta must be a finite number from 1 up, got inf"),
        ({"eta": math.nan}, "eta must be a finite number from 1 up, got nan"),
    ],
)
def test_errors_name_argument_expectation_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        FAB(ThreatModel("linf", 0.3), **arguments)


@pytest.mark.parametrize("targets", [0, 2])
def test_a_model_without_gradients(x, targets):
    def quantised(x):
        return tf.one_hot(tf.cast(tf.reduce_sum(x, axis=[1, 2, 3]), tf.int32), 40)

    with pytest.raises(ValueError, match="classifier must be differentiable"):
        FAB(ThreatModel("linf", 0.3), 2, targets=targets)(quantised, x, tf.zeros([8], tf.int64), seed=0)
