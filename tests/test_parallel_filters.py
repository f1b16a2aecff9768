"""Parallel first filters: what they add up to at a pixel is rounded, and not what each of them adds."""

import concurrent.futures

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust import datasets, losses
from tfrobust.attacks.base import input_gradient
from tfrobust.attacks.pgd import PGD
from tfrobust.models.mnist import challenge_cnn
from tfrobust.parallel_filters import ReflectedConv2D, parallel_groups, reflection
from tfrobust.precision import AttackTwin
from tfrobust.relu_windows import RandomWindow
from tfrobust.threat_models import ThreatModel
from tfrobust.trainers.adversarial import AdversarialTrainer

layers = keras.layers


def test_groups_point_the_same_way_and_weigh_alike_in_the_next_layer():
    a, b, c, d = np.eye(4)
    filters = [a, b, -a, 0.5 * a, c, 0 * a, c + 0.1 * d, a, d, b + d, 2 * a, d, d, 1e38 * c]
    kernel = np.stack(filters, axis=-1).reshape([2, 2, 1, 14]).astype(np.float32)
    weights = np.ones(14)
    weights[[0, 7, 10, 8, 11, 12]] = [1, 2, 4, 1, 0, np.inf]
    next_kernel = np.tile(weights[:, None].astype(np.float32), (3, 3, 1, 2))
    # Of the multiples of a, that of length 2 weighs 8 in all. Cosine 0.71 is not parallel.
    assert parallel_groups(kernel, next_kernel) == [[0, 3, 7], [4, 6]]
    # All of a group are near each other, whichever comes first.
    for weights in ([1, 4, 0.25], [4, 1, 0.25], [0.25, 4, 1]):
        found = parallel_groups(np.ones([1, 1, 1, 3]), np.reshape(weights, [1, 1, 3, 1]))
        assert len(found) == 1 and len(found[0]) == 2 and 1 in np.take(weights, found[0])
    assert parallel_groups(kernel[..., :3], next_kernel[:, :, :3]) == []


def test_reflecting_is_orthogonal_and_sums_what_a_pixel_gets():
    lengths = np.array([3.0, 1.0, 4.0, 0.0, 0.0, 12.0, 2.0], np.float32)
    kernel = tf.constant(lengths.reshape([1, 1, 1, 7]))
    matrix = reflection(kernel, [[0, 2, 5], [3, 4]]).numpy()
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(7), atol=1e-6)
    np.testing.assert_allclose(matrix @ lengths, [-13, 1, 0, 0, 0, 0, 2], atol=1e-5)
    np.testing.assert_allclose(matrix[[1, 6]], np.eye(7)[[1, 6]], atol=1e-6)
    for scale in (1e-12, 1e24):
        np.testing.assert_allclose(reflection(scale * kernel, [[0, 2, 5], [3, 4]]), matrix, atol=1e-6)


def cancelling(*between, weights=(1 + 2**-9, -1), count=2):
    """Thresholds whose gradients are 4 times the weights: where they are open, 4.0078125 and -4, of which bfloat16
    makes 4 and -4."""
    stack = [layers.Conv2D(count, 1), *between, layers.Conv2D(1, 1), layers.Flatten(), layers.Dense(2)]
    model = keras.Sequential([keras.Input((2, 2, 1)), *stack])
    model.layers[0].set_weights([np.full((1, 1, 1, count), 4.0), -4 * np.linspace(0.35, 0.65, count)])
    model.layers[-3].set_weights([np.reshape(weights, (1, 1, count, 1)), np.zeros(1)])
    model.layers[-1].set_weights([np.tile([[1.0, 0.0]], (model.layers[-1].kernel.shape[0], 1)), np.zeros(2)])
    return model


def first_logit(logits, y):
    return logits[:, 0]


def first_gradient(model, level, *options, **named):
    """The gradient by the pixels of an image of one level."""
    logits_fn = AttackTwin(model, *options, **named).logits_fn()
    return input_gradient(logits_fn, first_logit, tf.fill([1, 2, 2, 1], level), tf.constant([0])).numpy()


BETWEEN = {
    "ReLU": [layers.ReLU()],
    "pooling and ReLU": [layers.MaxPooling2D(1), layers.Activation("relu")],
    "ReLU and pooling": [layers.ReLU(), layers.AveragePooling2D(1)],
}


@pytest.mark.parametrize("between", BETWEEN)
def test_what_is_left_of_gradients_that_cancel_survives_rounding(between):
    model = cancelling(*BETWEEN[between])
    expected = first_gradient(model, 0.9, "float32")
    np.testing.assert_allclose(expected, np.full([1, 2, 2, 1], 4 * 2**-9), rtol=1e-6)
    np.testing.assert_allclose(first_gradient(model, 0.9, "bfloat16"), expected, rtol=0.01)
    assert not np.any(first_gradient(model, 0.9, "bfloat16", parallel_filters=False))


@pytest.mark.parametrize("weights", [(1 + 2**-9, -2, 1), (1 + 2**-9, 1, -1, -1)])
def test_more_than_two_filters_that_are_parallel(weights):
    model = cancelling(layers.ReLU(), weights=weights, count=len(weights))
    expected = first_gradient(model, 0.9, "float32")
    assert np.all(expected > 0)
    np.testing.assert_allclose(first_gradient(model, 0.9, "bfloat16"), expected, rtol=0.01)


@pytest.mark.parametrize("weights", [(0.001, 1), (0.003, -1), (0.25, -1)])
def test_a_small_weight_is_not_lost_beside_a_large_one(weights):
    # Between both thresholds the first filter alone is above its own.
    model = cancelling(layers.ReLU(), weights=weights)
    np.testing.assert_allclose(first_gradient(model, 0.5, "bfloat16"), np.full([1, 2, 2, 1], 4 * weights[0]), rtol=0.02)


def test_weight_gradients_of_a_reflected_twin():
    model = challenge_cnn(seed=1, initializer="thresholds")
    twin, exact = AttackTwin(model, "bfloat16"), AttackTwin(model, "float32")
    # A pair whose filters vanish later has no direction to be reflected to.
    kernel, bias = model.layers[1].get_weights()
    kernel[..., [0, 5]], bias[[0, 5]] = 0, 0.1
    model.layers[1].set_weights([kernel, bias])
    x = tf.constant(datasets.load("digits", "test", num_examples=8).images)

    def trained(twin):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(losses.cross_entropy(twin.training_logits(x, 0), tf.range(8)))
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    assert reflects(twin)
    for found, expected in zip(trained(twin), trained(exact), strict=True):
        assert np.linalg.norm(found - expected) < 0.1 * np.linalg.norm(expected)


@pytest.mark.parametrize("window", [None, RandomWindow(0.6)])
def test_an_attack_reflects_the_kernel_once(window):
    model = challenge_cnn(seed=1, initializer="thresholds")
    twin, attack = AttackTwin(model, "bfloat16", window), PGD(ThreatModel("linf", 0.3), 3, 0.1)

    @tf.function(autograph=False)
    def perturb(x, y):
        return attack(twin.logits_fn(), x, y, seed=0)

    graph = perturb.get_concrete_function(tf.zeros([2, 28, 28, 1]), tf.zeros([2], tf.int32)).graph
    inner = [node.op for function in graph.as_graph_def().library.function for node in function.node_def]
    assert "Conv2D" in inner and "Einsum" not in inner
    assert "Einsum" in [node.op for node in graph.as_graph_def().node]


def test_two_threads_may_trace_one_twin():
    model = challenge_cnn(seed=1, initializer="thresholds")
    twin, x = AttackTwin(model, "bfloat16"), tf.zeros([1, 28, 28, 1])
    eager, expected = twin.logits_fn(), twin.logits_fn()(x)

    def trace(_):
        return tf.function(lambda x: twin.logits_fn()(x), autograph=False)(x)

    def call(_):
        return eager(x)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        traced, called = (pool.map(run, range(8)) for run in (trace, call))
        for found in [*traced, *called]:
            np.testing.assert_allclose(found, expected, atol=0.01)


def test_a_twin_that_is_made_within_a_graph():
    model = challenge_cnn(seed=1, initializer="thresholds")
    x, twins = tf.constant(datasets.load("digits", "test", num_examples=2).images), []

    @tf.function(autograph=False)
    def within(x):
        if not twins:
            twins.append(AttackTwin(model, "bfloat16"))
        return twins[0].logits_fn()(x)

    np.testing.assert_allclose(within(x), AttackTwin(model, "bfloat16").logits_fn()(x), rtol=0.01, atol=0.01)
    assert reflects(twins[0])


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_the_challenge_network_with_thresholds_is_the_same_but_for_rounding(activation):
    model = challenge_cnn(seed=1, initializer="thresholds")
    model.get_layer("conv2").activation = keras.activations.get(activation)
    test = datasets.load("digits", "test", num_examples=16)
    x, y = tf.constant(test.images), tf.constant(test.labels)
    twin = AttackTwin(model, "bfloat16")
    assert twin.precision == "bfloat16" and reflects(twin)

    def compare():
        logits, expected = twin.logits_fn()(x), model(x)
        assert not np.array_equal(logits, expected)
        np.testing.assert_allclose(logits, expected, atol=0.02 * np.max(np.abs(expected)))
        exact = input_gradient(AttackTwin(model, "float32").logits_fn(), losses.cross_entropy, x, y).numpy()
        return [
            np.mean(np.sign(input_gradient(other.logits_fn(), losses.cross_entropy, x, y)) == np.sign(exact))
            for other in (twin, AttackTwin(model, "bfloat16", parallel_filters=False))
        ]

    agreement, without = compare()
    assert agreement > 0.94 and agreement > without + 0.05, (agreement, without)
    # Weights that change later are reflected by what they are then.
    rng = np.random.default_rng(0)
    model.set_weights([1.1 * values + 0.01 * rng.normal(size=values.shape) for values in model.get_weights()])
    assert compare()[0] > 0.9


def reflects(twin):
    return any(isinstance(layer, ReflectedConv2D) for layer in twin._clone.layers)


def thresholds(*stack, **first):
    """A network whose first two filters are one."""
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(4, 3, **first), *stack])
    kernel = np.random.default_rng(0).normal(size=(3, 3, 1, 4))
    kernel[..., 1] = kernel[..., 0]
    model.layers[0].set_weights([kernel, np.zeros(4)])
    return model


def head():
    return [layers.Flatten(), layers.Dense(3)]


def functional(build):
    """A functional network whose first two filters are one; `build` makes the rest, of the input and the first ReLU."""
    inputs = keras.Input((8, 8, 1))
    first = layers.Conv2D(4, 3, padding="same")
    x = build(inputs, layers.ReLU()(first(inputs)))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
    first.set_weights(thresholds(*head()).layers[0].get_weights())
    return model


def second():
    return layers.Conv2D(4, 3, padding="same")


def called_before(inputs, x):
    """The second convolution was that of another network; in this one it reads something else."""
    convolution = second()
    convolution(x)
    return convolution(layers.Concatenate()([x[..., :2], inputs, inputs]))


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: thresholds(layers.ReLU(), layers.Conv2D(4, 3), *head()), True),
        (lambda: thresholds(layers.Conv2D(4, 3, strides=2), *head(), activation="relu"), True),
        (lambda: thresholds(layers.Conv2D(4, 3, use_bias=False, dilation_rate=2), *head(), activation="relu"), True),
        (lambda: thresholds(layers.MaxPooling2D(2), layers.ReLU(), layers.Conv2D(4, 3), *head()), True),
        # What follows is no convolution, is the last layer with weights, or mixes channels otherwise.
        (lambda: thresholds(layers.ReLU(), *head()), False),
        (lambda: thresholds(layers.ReLU(), layers.Conv2D(3, 3), layers.GlobalAveragePooling2D()), False),
        (lambda: thresholds(layers.ReLU(), layers.Conv2D(4, 3, groups=2), *head()), False),
        (lambda: thresholds(layers.ReLU(), layers.BatchNormalization(), layers.Conv2D(4, 3), *head()), False),
        (lambda: thresholds(layers.Conv2D(4, 3), *head(), activation="tanh"), False),
        (lambda: thresholds(layers.ReLU(), layers.Conv2D(4, 3, dtype="float64"), *head()), False),
        (lambda: thresholds(layers.ReLU(), layers.Conv2D(4, 3, dtype="mixed_bfloat16"), *head()), True),
        (lambda: functional(lambda inputs, x: second()(x)), True),
        (lambda: functional(lambda inputs, x: layers.Add()([second()(x), second()(x)])), False),
        (lambda: functional(lambda inputs, x: layers.Add()([second()(x), x])), False),
        (lambda: functional(lambda inputs, x: second()(x) + 2 * x), False),
        (lambda: functional(called_before), False),
        # It is used as it is.
        (lambda: functional(lambda inputs, x: layers.Conv2D(4, 3, activation=layers.LeakyReLU())(x)), False),
        (lambda: challenge_cnn(seed=0, initializer="he_normal"), False),
    ],
)
def test_which_networks_are_reflected(build, expected):
    model = build()
    twin = AttackTwin(model, "bfloat16")
    assert reflects(twin) == expected
    assert not reflects(AttackTwin(model, "float32"))
    x = np.random.default_rng(1).random((3, *model.input_shape[1:]), dtype=np.float32)
    values = model(x).numpy()
    np.testing.assert_allclose(twin.logits_fn()(tf.constant(x)), values, atol=0.05 * np.abs(values).max())


def test_training_does_without():
    trainer = AdversarialTrainer(
        challenge_cnn(seed=0, initializer="thresholds"),
        PGD(ThreatModel("linf", 0.3), 2, 0.1),
        precision="bfloat16",
        seed=0,
    )
    assert trainer.twin.precision == "bfloat16" and not reflects(trainer.twin)
