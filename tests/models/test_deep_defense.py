"""The networks of Deep Defense."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.models.by_hand import convolve, pool, random_images, random_mean, relu
from tfrobust.models import deep_defense
from tfrobust.precision import AttackTwin

BUILDERS = {
    "mlp": deep_defense.mlp,
    "mlp_bn": deep_defense.mlp_bn,
    "lenet": deep_defense.lenet,
    "convnet": deep_defense.convnet,
    "nin": deep_defense.nin,
}
# By hand: weights and biases of each layer.
MLP = (784 * 500 + 500) + (500 * 150 + 150) + (150 * 10 + 10)
PARAMETERS = {
    "mlp": MLP,
    "mlp_bn": MLP + 2 * (500 + 150),
    "lenet": (25 * 20 + 20) + (25 * 20 * 50 + 50) + (16 * 50 * 500 + 500) + (500 * 10 + 10),
    "convnet": (25 * 3 * 32 + 32) + (25 * 32 * 32 + 32) + (25 * 32 * 64 + 64) + (16 * 64 * 64 + 64) + (64 * 10 + 10),
    "nin": (25 * 3 * 192 + 192 + 192 * 160 + 160 + 160 * 96 + 96)
    + (25 * 96 * 192 + 192 + 2 * (192 * 192 + 192))
    + (9 * 192 * 192 + 192 + 192 * 192 + 192 + 192 * 10 + 10),
}
PUBLISHED = {"mlp": 469_160, "lenet": 431_080, "convnet": 145_578, "nin": 966_986}

every_network = pytest.mark.parametrize("name", BUILDERS)


def shape_of(name):
    return deep_defense.CIFAR10_SHAPE if name in ("convnet", "nin") else deep_defense.MNIST_SHAPE


def randomize(model):
    """Values for all variables, biases and statistics among them, that keep the numbers in the network near 1."""
    rng = np.random.default_rng(2)
    for variable in model.variables:
        if variable.name == "kernel":
            first = variable is model.variables[0]
            scale = (2 / np.prod(variable.shape[:-1])) ** 0.5 / (100 if first else 1)
            variable.assign(rng.normal(scale=scale, size=variable.shape))
        elif variable.name != "seed_generator_state":
            variable.assign(rng.uniform(0.1, 0.5, variable.shape))
    return model


# NumPy's own layers, in float64.


def mlp_by_hand(x, k1, b1, k2, b2, k3, b3):
    return relu(relu(x.reshape(len(x), -1) @ k1 + b1) @ k2 + b2) @ k3 + b3


def mlp_bn_by_hand(x, k1, b1, *more):
    (gain1, shift1, k2, b2, gain2, shift2, k3, b3, mean1, variance1, mean2, variance2) = more
    h = x.reshape(len(x), -1) @ k1 + b1
    h = relu(gain1 * (h - mean1) / np.sqrt(variance1 + 1e-5) + shift1) @ k2 + b2
    return relu(gain2 * (h - mean2) / np.sqrt(variance2 + 1e-5) + shift2) @ k3 + b3


def lenet_by_hand(x, k1, b1, k2, b2, k3, b3, k4, b4):
    h = pool(convolve(pool(convolve(x, k1, b1), np.max), k2, b2), np.max)
    return relu(h.reshape(len(x), -1) @ k3 + b3) @ k4 + b4


def convnet_by_hand(x, k1, b1, k2, b2, k3, b3, k4, b4, k5, b5):
    h = relu(pool(convolve(x, k1, b1, pad=2), np.max))
    h = pool(relu(convolve(h, k2, b2, pad=2)), np.mean)
    h = pool(relu(convolve(h, k3, b3, pad=2)), np.mean)
    return convolve(relu(convolve(h, k4, b4)), k5, b5)[:, 0, 0, :]


def nin_by_hand(x, *weights, pool_size=3):
    blocks = [list(zip(weights[i : i + 6 : 2], weights[i + 1 : i + 6 : 2], strict=True)) for i in (0, 6, 12)]

    def block(x, layers):
        for kernel, bias in layers:
            x = relu(convolve(x, kernel, bias, pad=len(kernel) // 2))
        return x

    h = pool(block(x, blocks[0]), np.nanmax, pool_size)
    h = pool(block(h, blocks[1]), np.nanmean, pool_size)
    return convolve(block(h, blocks[2][:2]), *blocks[2][2]).mean(axis=(1, 2))


BY_HAND = {
    "mlp": mlp_by_hand,
    "mlp_bn": mlp_bn_by_hand,
    "lenet": lenet_by_hand,
    "convnet": convnet_by_hand,
    "nin": nin_by_hand,
}


# The networks.


@every_network
def test_parameters(name):
    model = BUILDERS[name](seed=0)
    found = sum(v.numpy().size for v in model.trainable_variables)
    assert found == PARAMETERS[name] == PUBLISHED.get(name, found)
    assert model.input_shape == (None, *shape_of(name)) and model.output_shape == (None, 10)


@every_network
def test_is_the_function(name):
    mean = random_mean(shape_of(name))
    model = randomize(BUILDERS[name](seed=0, mean_image=mean))
    x = random_images(shape_of(name))
    weights = [v.numpy() for v in model.variables if v.name != "seed_generator_state"]
    if name == "mlp_bn":  # statistics stand beside what is trained
        weights = [v.numpy() for v in model.trainable_variables + model.non_trainable_variables]
    expected = BY_HAND[name](255 * x.astype(np.float64) - mean, *weights)
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(model(x, training=False), expected, rtol=1e-4, atol=1e-4)


def test_nin_with_the_pooling_of_deep_defense():
    shape = (16, 16, 3)
    model = randomize(deep_defense.nin(seed=0, input_shape=shape, pool_size=2))
    x = random_images(shape)
    weights = [v.numpy() for v in model.trainable_variables]
    expected = nin_by_hand(255 * x.astype(np.float64), *weights, pool_size=2)
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-4)
    assert not np.allclose(expected, nin_by_hand(255 * x.astype(np.float64), *weights), rtol=1e-2)


@every_network
def test_seed_decides_weights_and_dropout(name):
    x = random_images(shape_of(name))

    def outputs(seed):
        model = BUILDERS[name](seed=seed)
        return model(x, training=False).numpy(), model(x, training=True).numpy()

    first, again, other = outputs(1), outputs(1), outputs(2)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first[0], other[0])
    assert np.allclose(first[0], first[1]) == (name not in ("mlp_bn", "nin"))


def test_initial_weights():
    """Deviations of He's distribution and the limit of Glorot's; the first layer's is divided by the input's scale."""
    model = deep_defense.mlp(seed=0)
    k1, b1, k2, b2, k3, b3 = model.get_weights()
    assert np.std(k1) == pytest.approx((2 / 784) ** 0.5 / 255, rel=0.02)
    assert np.std(k2) == pytest.approx((2 / 500) ** 0.5, rel=0.02)
    limit = (6 / (150 + 10)) ** 0.5
    assert 0.98 * limit < np.abs(k3).max() <= limit
    assert not np.any(b1) and not np.any(b2) and not np.any(b3)


@every_network
def test_other_images_and_classes(name):
    model = BUILDERS[name](seed=0, input_shape=(20, 24, 2), num_classes=7)
    assert model(np.zeros((1, 20, 24, 2), np.float32)).shape == (1, 7)


# What the first layer reads.


@pytest.mark.parametrize("input_scale", [1.0, 255.0])
def test_inputs_are_scaled_pixels_less_the_mean(input_scale):
    mean, x = random_mean((28, 28, 1)), random_images((28, 28, 1))
    layer = deep_defense.lenet(seed=0, mean_image=mean, input_scale=input_scale).get_layer("rescale")
    expected = (255 * x.astype(np.float64) - mean) * (input_scale / 255)
    np.testing.assert_allclose(layer(x), expected, atol=1e-4 * input_scale / 255)
    without = deep_defense.lenet(seed=0, input_scale=input_scale).get_layer("rescale")
    np.testing.assert_allclose(without(x), input_scale * x, rtol=1e-6)


@every_network
def test_untrained_networks_do_not_depend_on_the_scale(name):
    mean, x = random_mean(shape_of(name)), random_images(shape_of(name))
    a, b = (BUILDERS[name](seed=0, mean_image=mean, input_scale=scale)(x) for scale in (1.0, 255.0))
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean_image": np.zeros((28, 28))}, r"mean_image must have the shape \(28, 28, 1\), got \(28, 28\)"),
        ({"mean_image": np.full((28, 28, 1), 0.3)}, r"in units of 0 to 255, got values in \[0.3, 0.3\]"),
        ({"mean_image": np.full((28, 28, 1), -2.0)}, "in units of 0 to 255"),
        ({"mean_image": np.full((28, 28, 1), 256.0)}, "in units of 0 to 255"),
        ({"mean_image": np.full((28, 28, 1), np.nan)}, r"got values in \[nan, nan\]"),
        ({"input_scale": 0.0}, "input_scale must be positive and finite, got 0.0"),
        ({"input_scale": np.inf}, "input_scale must be positive and finite, got inf"),
    ],
)
def test_what_cannot_be_built(arguments, message):
    with pytest.raises(ValueError, match=message):
        deep_defense.lenet(seed=0, **arguments)


def test_images_too_small_for_the_convnet():
    with pytest.raises(ValueError, match=r"height and a width of 8 or more, got \(7, 32, 3\)"):
        deep_defense.convnet(seed=0, input_shape=(7, 32, 3))


# Files and twins.


def test_reload_without_tfrobust(tmp_path):
    expected = {}
    for name, builder in BUILDERS.items():
        x = random_images(shape_of(name))
        model = builder(seed=0, mean_image=random_mean(shape_of(name)))
        model.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.x.npy", x)
        expected[name] = model(x, training=False)
    script = (
        "import sys; sys.modules['tfrobust'] = None; import keras, numpy as np\n"
        "for name in sys.argv[1:]:\n"
        "    model = keras.models.load_model(name + '.keras')\n"
        "    np.save(name + '.logits.npy', model(np.load(name + '.x.npy'), training=False))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *BUILDERS], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for name, logits in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.logits.npy"), logits, rtol=1e-5, atol=1e-5)


@every_network
def test_attack_twin(name):
    model = BUILDERS[name](seed=0, mean_image=random_mean(shape_of(name)))
    x = tf.constant(random_images(shape_of(name)))

    def logits_and_gradient(function):
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits = function(x)
            first = tf.reduce_sum(logits[:, 0])
        return logits, tape.gradient(first, x)

    expected = logits_and_gradient(lambda x: model(x, training=False))
    found = logits_and_gradient(AttackTwin(model, "float32").logits_fn())
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())
    rounded, _ = logits_and_gradient(AttackTwin(model, "bfloat16").logits_fn())
    np.testing.assert_allclose(rounded, expected[0], atol=0.05 * np.abs(expected[0]).max())
