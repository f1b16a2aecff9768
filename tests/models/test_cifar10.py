"""The challenge's residual network. (Its function is compared with the original graph in test_tf1_checkpoints.py.)"""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust.models import cifar10
from tfrobust.precision import AttackTwin
from tfrobust.trainers.adversarial import decaying_kernels


def small(**arguments):
    return cifar10.challenge_resnet(**{"seed": 0, "filters": (4, 4, 8, 12), "units": 2, **arguments})


def random_images(n=3):
    return np.random.default_rng(0).random((n, 32, 32, 3), np.float32)


def size(variables):
    return sum(int(np.prod(v.shape)) for v in variables)


# The network.


def test_has_the_challenges_parameters():
    model = cifar10.challenge_resnet(seed=0)
    assert size(model.trainable_variables) == 45_901_914
    assert len(model.variables) == 157 and len(model.trainable_variables) == 95
    assert model.input_shape == (None, 32, 32, 3) and model.output_shape == (None, 10)
    # 31 convolutions and the logits; batch normalisation and biases do not decay.
    decayed = decaying_kernels(model)
    assert [v.shape.rank for v in map(tf.convert_to_tensor, decayed)] == [4] * 31 + [2]
    check_initial_weights(model)


def check_initial_weights(model):
    """Deviations over a million draws and more, of the widest layers."""
    kernel = model.get_layer("unit_3_1.sub1.conv1").kernel.numpy()
    assert np.std(kernel) == pytest.approx((2 / (9 * 640)) ** 0.5, rel=0.01)
    assert np.abs(kernel).max() > 4 * np.std(kernel)  # not truncated
    first = model.get_layer("unit_2_0.sub1.conv1").kernel.numpy()
    assert np.std(first) == pytest.approx((2 / (9 * 320)) ** 0.5, rel=0.01)  # by outputs, not by its 160 inputs
    logits = model.get_layer("logit")
    limit = (3 / 640) ** 0.5
    assert 0.99 * limit < np.abs(logits.kernel.numpy()).max() <= limit
    assert not np.any(logits.bias.numpy())


def test_narrow_network():
    model = cifar10.challenge_resnet(seed=0, filters=cifar10.NARROW)
    # By hand: the first convolution, three stages with two numbers for each batch normalisation, the logits.
    first = 27 * 16
    stages = 9 * 16 * 16 * 10 + 9 * (16 * 32 + 9 * 32 * 32) + 9 * (32 * 64 + 9 * 64 * 64)
    normalisation = 2 * (10 * 16 + (16 + 9 * 32) + (32 + 9 * 64) + 64)
    assert size(model.trainable_variables) == first + stages + normalisation + 650 == 464_154


def test_seed_decides_the_weights():
    def kernels(seed):
        return [v.numpy() for v in decaying_kernels(small(seed=seed))]

    assert all(np.array_equal(a, b) for a, b in zip(kernels(1), kernels(1), strict=True))
    assert not np.array_equal(kernels(1)[0], kernels(2)[0])
    same_shape = [k for k in kernels(1) if k.shape == (3, 3, 4, 4)]
    assert len(same_shape) == 4 and not np.array_equal(same_shape[0], same_shape[1])


def test_training_moves_the_statistics_by_a_tenth():
    model, x = small(), random_images()
    layer = model.get_layer("unit_1_0.shared_activation.BatchNorm")
    inputs = keras.Model(model.input, layer.input)(x)
    model(x, training=True)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * tf.reduce_mean(inputs, [0, 1, 2]), atol=1e-5)
    assert layer.epsilon == 1e-3


def test_other_images_and_classes():
    model = small(input_shape=(16, 24, 1), num_classes=7)
    assert model(np.zeros((2, 16, 24, 1), np.float32)).shape == (2, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": (16, 16, 32)}, r"filters must be four positive .*, got \(16, 16, 32\)"),
        ({"filters": (16, 16, 33, 64)}, "grow by even steps"),
        ({"filters": (16, 8, 32, 64)}, "grow by even steps"),
        ({"filters": (0, 8, 32, 64)}, "positive"),
        ({"units": 0}, "units must be 1 or more, got 0"),
        ({"input_shape": (30, 32, 3)}, r"multiples of 4, got \(30, 32, 3\)"),
        ({"input_shape": (None, None, 3)}, "input_shape must be"),
    ],
)
def test_what_cannot_be_built(arguments, message):
    with pytest.raises(ValueError, match=message):
        small(**arguments)


# Standardisation.


def test_standardisation_is_that_of_the_original_on_255_times_the_pixels():
    images = random_images()
    found = cifar10.per_image_standardization(tf.constant(images))
    np.testing.assert_allclose(found, tf.image.per_image_standardization(images * 255), atol=1e-5)


@pytest.mark.parametrize(("difference", "expected"), [(0.1, 0.05 * 48**0.5), (0.5, 1.0)])
def test_least_divisor(difference, expected):
    """Of 48 numbers half are d above the others, so that the deviation is d / 2. The original's divisor is no less than
    1 / sqrt(48) = 0.144, which is more than 0.05 and less than 0.25."""
    image = np.full((1, 4, 4, 3), 100.0)
    image[0, :2] += difference
    found = cifar10.per_image_standardization(tf.constant(image / 255))
    np.testing.assert_allclose(np.abs(found), expected, rtol=1e-9)


def test_gradient_of_an_image_of_one_colour_is_finite():
    """There the function is linear: 255 sqrt(n) times pixels less their mean."""
    x = tf.fill([1, 4, 4, 3], 0.5)
    with tf.GradientTape() as tape:
        tape.watch(x)
        first = cifar10.per_image_standardization(x)[0, 0, 0, 0]
    gradient = tape.gradient(first, x).numpy().ravel()
    np.testing.assert_allclose(gradient, 255 * 48**0.5 * (np.eye(48)[0] - 1 / 48), rtol=1e-4)


# Files and twins.


def test_reloads_without_tfrobust(tmp_path):
    model, x = small(), random_images()
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    script = (
        "import sys; sys.modules['tfrobust'] = None; import keras, numpy as np; "
        "np.save('logits.npy', keras.models.load_model('model.keras')(np.load('x.npy')))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), model(x), atol=1e-5)


def test_attack_twin():
    model, x = small(), tf.constant(random_images())

    def logits_and_gradient(function):
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits = function(x)
            first = tf.reduce_sum(logits[:, 0])
        return logits, tape.gradient(first, x)

    expected = logits_and_gradient(lambda x: model(x, training=False))
    found = logits_and_gradient(AttackTwin(model, "float32").logits_fn())
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-4)
    rounded, _ = logits_and_gradient(AttackTwin(model, "bfloat16").logits_fn())
    np.testing.assert_allclose(rounded, expected[0], atol=0.1)
