"""What DDN and FMN share: each example by itself, the judge, targets and the graph; and their peers."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfrobust import seeds
from tfrobust.attacks.base import NotDifferentiableError
from tfrobust.attacks.ddn import DDN
from tfrobust.attacks.fmn import FMN
from tfrobust.attacks.minimum_norm import WithinBall
from tfrobust.threat_models import ThreatModel

ATTACKS = (DDN(), FMN("linf", steps=40), FMN("l2", steps=40), FMN("l1", steps=40))
ON_ATTACKS = pytest.mark.parametrize("attack", ATTACKS, ids=["ddn", "fmn-linf", "fmn-l2", "fmn-l1"])


@functools.cache
def compiled(attack, model):
    """`attack.minimize` of the model for batches of any size, as one graph."""

    def minimize(x, y, seed):
        return attack.minimize(model, x, y, seed=seed)

    specs = tf.TensorSpec([None, 6, 5, 1]), tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, 2], tf.int32)
    return tf.function(minimize, input_signature=specs, autograph=False)


SEEDS = seeds.per_example(1, tf.range(8))

# Each example by itself.


@ON_ATTACKS
def test_results_are_adversarial_within_bounds_and_as_near_as_said(model, x, y, attack):
    found = compiled(attack, model)(x, y, SEEDS)
    assert found.success.numpy().all() and np.all(np.argmax(model(found.x_adv), axis=1) != y)
    assert np.min(found.x_adv) >= 0 and np.max(found.x_adv) <= 1
    np.testing.assert_array_equal(found.distance, ThreatModel(attack.norm, 0.0).distance(found.x_adv, x))


@ON_ATTACKS
def test_the_same_again(model, x, y, attack):
    found, again = (compiled(attack, model)(x, y, SEEDS) for _ in range(2))
    np.testing.assert_array_equal(again.x_adv, found.x_adv)
    # Eagerly, and of NumPy arrays; rounding errors grow from step to step.
    again = attack.minimize(model, x.numpy(), y.numpy(), seed=SEEDS)
    np.testing.assert_allclose(again.distance, found.distance, rtol=0.01)
    assert compiled(attack, model).experimental_get_tracing_count() == 1


@ON_ATTACKS
def test_an_example_does_not_depend_on_its_batch_mates(model, x, y, attack):
    minimize = compiled(attack, model)
    batch = minimize(x, y, SEEDS)
    for i in range(8):
        # Other mates, but as many: products of other sizes round differently, and steps in l1 make that grow.
        mates = [i] * 8
        again = minimize(*(tf.gather(values, mates) for values in (x, y, SEEDS)))
        np.testing.assert_allclose(again.x_adv[i], batch.x_adv[i], atol=1e-4)
        np.testing.assert_allclose(again.distance[i], batch.distance[i], atol=1e-4)
        one = slice(i, i + 1)
        alone = minimize(x[one], y[one], SEEDS[one])
        np.testing.assert_allclose(alone.distance[0], batch.distance[i], atol=1e-4)


@ON_ATTACKS
def test_an_image_that_is_wrong_already_stays_as_it_is(model, x, y, attack):
    wrong = (y + tf.constant([0, 1] * 4, tf.int64)) % 4
    found = replace(attack, steps=30).minimize(model, x, wrong, seed=0)
    np.testing.assert_array_equal(found.x_adv[1::2], x[1::2])
    np.testing.assert_array_equal(found.distance[1::2], np.zeros(4))
    assert np.all(found.distance[::2] > 0) and found.success.numpy().all()


def bright(x):
    """Logits (0, relu(brightness - 2) - 0.5) of four pixels: dark images have no gradient."""
    brightness = tf.reduce_sum(tf.reshape(x, [-1, 4]), axis=1)
    return tf.stack([tf.zeros_like(brightness), tf.nn.relu(brightness - 2) - 0.5], axis=1)


@ON_ATTACKS
def test_a_gradient_of_zero_makes_a_random_step(attack):
    x = tf.constant([[0.45] * 4, [0.0] * 4, [0.6] * 4], shape=[3, 2, 2, 1])
    y, seed = tf.zeros([3], tf.int32), seeds.per_example(0, tf.range(3))
    found = attack.minimize(bright, x, y, seed=seed)
    assert np.isfinite(found.x_adv).all() and np.min(found.x_adv) >= 0
    # From 0.45 noise leads to where the gradient is; the boundary is at 0.625 in every pixel.
    size = {"linf": 1, "l2": 2, "l1": 4}[attack.norm]
    np.testing.assert_allclose(tf.gather(found.distance, [0, 2]), [0.175 * size, 0.025 * size], rtol=0.05)
    alone = attack.minimize(bright, x[:1], y[:1], seed=seed[:1])
    np.testing.assert_allclose(alone.x_adv, found.x_adv[:1], atol=1e-6)


@ON_ATTACKS
def test_a_constant_model_is_not_fooled(attack):
    x = tf.fill([2, 2, 2, 1], 0.5)
    found = replace(attack, steps=5).minimize(lambda x: 0 * bright(x) + [1.0, 0.0], x, tf.constant([0, 0]), seed=0)
    np.testing.assert_array_equal(found.success, [False, False])
    np.testing.assert_array_equal(found.x_adv, x)
    np.testing.assert_array_equal(found.distance, [np.inf, np.inf])


# Judge and targets.


@ON_ATTACKS
def test_the_judge_has_the_last_word(attack):
    # The gradient of the margin is (0.6, 0.8). In l2 the boundary that the attack sees is 0.5 away and the judge's 0.7;
    # in linf that is divided by 0.6 + 0.8, in l1 by 0.8.
    def affine(offset):
        return lambda x: tf.reshape(x, [-1, 2]) @ [[0.0, 0.6], [0.0, 0.8]] - [0.0, offset]

    attack, x = replace(attack, bounds=(-9.0, 9.0)), tf.zeros([1, 1, 2, 1])
    nearest = 0.7 / {"linf": 1.4, "l2": 1.0, "l1": 0.8}[attack.norm]
    for configuration, y in ((attack, 0), (replace(attack, targeted=True), 1)):
        found = configuration.minimize(affine(0.5), x, tf.constant([y]), judge_fn=affine(0.7), seed=0)
        assert np.argmax(affine(0.7)(found.x_adv)) == 1
        np.testing.assert_allclose(found.distance, [nearest], rtol=0.05)
        found = configuration.minimize(affine(0.5), x, tf.constant([y]), judge_fn=affine(100.0), seed=0)
        np.testing.assert_array_equal(found.success, [False])
        np.testing.assert_array_equal(found.x_adv, x)


@ON_ATTACKS
def test_what_only_the_judge_has_wrong_already_stays_as_it_is(attack):
    def line(offset):
        return lambda x: tf.pad(tf.reshape(x, [-1, 1]) - offset, [[0, 0], [1, 0]])

    x = tf.fill([1, 1, 1, 1], 0.5)
    found = replace(attack, steps=5).minimize(line(0.6), x, tf.constant([0]), judge_fn=line(0.4), seed=0)
    assert found.success.numpy().all() and found.distance.numpy() == 0
    np.testing.assert_array_equal(found.x_adv, x)


@ON_ATTACKS
def test_an_image_that_the_judge_sees_otherwise_in_the_whole_batch_is_not_returned(attack):
    def line(x):
        return tf.pad(tf.reshape(x, [-1, 1]) - 0.6, [[0, 0], [1, 0]])

    def rounds(x):
        # As if products of the whole batch of eight were rounded in another way than those of a part of it.
        return line(x) - tf.where(tf.shape(x)[0] < 8, 0.0, [0.0, 0.05])

    x = tf.reshape(tf.linspace(0.0, 0.55, 8), [8, 1, 1, 1])
    found = replace(attack, steps=20).minimize(line, x, tf.zeros([8], tf.int32), judge_fn=rounds, seed=0)
    assert np.all(np.argmax(rounds(found.x_adv), axis=1)[found.success] == 1)


@ON_ATTACKS
def test_targeted(model, x, y, attack):
    target = (y + 1) % 4
    found = replace(attack, targeted=True).minimize(model, x, target, seed=0)
    assert found.success.numpy().all()
    np.testing.assert_array_equal(tf.argmax(model(found.x_adv), axis=-1), target)
    # No class is nearer than the nearest of all.
    assert np.all(found.distance >= 0.95 * attack.minimize(model, x, y, seed=0).distance)
    # Of the target's class as it is: no change.
    of_the_class = replace(attack, steps=3, targeted=True).minimize(model, x, y, seed=0)
    np.testing.assert_array_equal(of_the_class.distance, np.zeros(8))


@ON_ATTACKS
def test_within_a_ball(model, x, y, attack):
    attack = replace(attack, steps=10)
    found = attack.minimize(model, x, y, seed=0)
    epsilon = float(np.median(found.distance))
    x_adv = WithinBall(attack, ThreatModel(attack.norm, epsilon))(model, x, y, seed=0)
    np.testing.assert_array_equal(np.argmax(model(x_adv), axis=1) != y, found.distance <= epsilon)


# The graph.


@ON_ATTACKS
def test_dtype_of_the_images_is_kept(model, x, y, attack):
    found = replace(attack, steps=2).minimize(model, tf.cast(x, tf.float64), tf.cast(y, tf.int32), seed=0)
    assert found.x_adv.dtype == tf.float64 and found.distance.dtype == tf.float32


def test_graph_does_not_grow_with_steps(model, x, y):
    def size(steps):
        minimize = tf.function(functools.partial(FMN("l2", steps=steps).minimize, model, seed=0), autograph=False)
        graph = minimize.get_concrete_function(x, y).graph.as_graph_def()
        return len(graph.node) + sum(len(function.node_def) for function in graph.library.function)

    assert size(2) == size(100)


def test_a_model_without_gradients_is_refused(x, y):
    with pytest.raises(NotDifferentiableError, match="classifier must be differentiable"):
        DDN(steps=2).minimize(lambda x: tf.round(tf.reshape(x, [-1, 30])), x, y, seed=0)
