"""Gradients that look beyond the thresholds of the first ReLU."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust import classifier_fronts, losses, precision, relu_windows
from tfrobust.attacks.apgd import apgd_ce
from tfrobust.attacks.base import for_step, input_gradient
from tfrobust.attacks.pgd import PGD
from tfrobust.evaluation import evaluate
from tfrobust.models import small
from tfrobust.models.mnist import challenge_cnn
from tfrobust.relu_windows import RandomWindow, StepWindow
from tfrobust.threat_models import ThreatModel

LINF = ThreatModel("linf", 0.3)
layers = keras.layers


def staircase(*front, low=0.495, high=0.4975):
    """Two classes, told apart by whether more than half of the pixels are above a level: each counts by a step from
    `low` to `high`, so steep that no start happens to be on many."""
    model = keras.Sequential([keras.Input((4, 4, 1)), *front, layers.Flatten(), layers.Dense(2)])
    model.layers[0].set_weights([np.full((1, 1, 1, 2), 2.0), -2.0 * np.array([low, high])])
    pixels = model.layers[-1].kernel.shape[0] // 2
    kernel = np.tile([[-1.0, 1.0], [1.0, -1.0]], (pixels, 1))
    model.layers[-1].set_weights([20 * kernel, 40 * (high - low) * pixels * np.array([1.2, 0.0])])
    return model


FRONTS = {
    "activation of the convolution": lambda: [layers.Conv2D(2, 1, activation="relu")],
    "a layer": lambda: [layers.Conv2D(2, 1), layers.ReLU()],
    "behind a pooling": lambda: [layers.Conv2D(2, 1), layers.MaxPooling2D(2), layers.Activation("relu")],
}


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_what_a_plateau_hides_is_found(front, kind):
    model = staircase(*FRONTS[front]())
    # Every pixel may be brought over the step, by more than half of epsilon, and a gradient sees nothing of it.
    images, labels = np.full((6, 4, 4, 1), 0.2, np.float32), np.zeros(6, np.int64)
    attacks = {"PGD": PGD(LINF, 10, 0.1, restarts=5)}
    arguments = {"seed": 0, "precision": kind, "batch_size": 3}
    blind = evaluate(model, images, labels, attacks, **arguments)
    seeing = evaluate(model, images, labels, attacks, relu_window=0.6, **arguments)
    assert (blind.clean_accuracy, blind.robust_accuracy, seeing.robust_accuracy) == (1, 1, 0)
    assert (blind.relu_window, seeing.as_json()["relu_window"]) == (0, 0.6)
    assert blind.gradients == blind.precision
    assert seeing.gradients == f"{seeing.precision} through ReLU windows up to 0.6"


def test_the_function_and_the_gradient_of_training_stay_as_they_are():
    model = challenge_cnn(seed=0, initializer="thresholds")
    rng = np.random.default_rng(0)
    x, y = tf.constant(rng.random((4, 28, 28, 1), dtype=np.float32)), tf.constant([1, 2, 3, 4])
    plain, windowed = (precision.AttackTwin(model, "float32", window) for window in (None, RandomWindow(0.6)))
    np.testing.assert_array_equal(windowed.logits_fn()(x), plain.logits_fn()(x))
    gradients = [input_gradient(twin.logits_fn(), losses.cross_entropy, x, y) for twin in (plain, windowed)]
    assert np.abs(gradients[1] - gradients[0]).max() > 1e-3

    def trained(twin):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(losses.cross_entropy(twin.training_logits(x, 0), y))
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    for first, second in zip(trained(plain), trained(windowed), strict=True):
        np.testing.assert_array_equal(first, second)


def test_share_of_the_gradient_that_passes():
    relu = relu_windows.WindowedReLU()
    z = tf.reshape(tf.constant([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]), [1, 7, 1, 1])

    def passed(half_width):
        relu.half_width = half_width
        with tf.GradientTape() as tape:
            tape.watch(z)
            values = relu(z)
        np.testing.assert_array_equal(values, tf.nn.relu(z))
        return tape.gradient(values, z).numpy().ravel()

    np.testing.assert_array_equal(passed(tf.constant([[2.0]])), [0, 0, 0.25, 0.5, 0.75, 1, 1])
    # Of no width, and where none is set, it is the ReLU's.
    np.testing.assert_array_equal(passed(tf.constant([[0.0]])), [0, 0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(passed(None), [0, 0, 0, 0, 1, 1, 1])


def recorded(window, x, step_length=None):
    """What half widths a window sets for images of two filters of lengths 5 and 2."""
    relu, seen = relu_windows.WindowedReLU(), []
    kernel = tf.constant(np.array([[3.0, 0.0], [4.0, 2.0]], np.float32).reshape(1, 2, 1, 2))

    def logits_fn(x):
        seen.append(relu.half_width)
        return x

    logits = relu_windows.WindowedLogits(logits_fn, relu, kernel, window)
    for_step(logits, step_length)(x)
    assert relu.half_width is None
    return seen[0]


def test_widths_are_parts_of_the_window_times_the_filters():
    x = np.random.default_rng(0).random((50, 3, 3, 2), dtype=np.float32)
    fractions = relu_windows.fraction_of(x).numpy()
    expected = 0.5 * fractions[:, np.newaxis] * np.array([5.0, 2.0])
    np.testing.assert_allclose(recorded(RandomWindow(0.5), x), expected, rtol=1e-6)
    np.testing.assert_allclose(recorded(RandomWindow(0.5), x, 0.1), expected, rtol=1e-6)
    step = np.where(fractions < 0.4, 0.1, 0.0)[:, np.newaxis] * np.array([5.0, 2.0])
    np.testing.assert_allclose(recorded(StepWindow(0.4), x, 0.1), step, rtol=1e-6)
    assert 0 < np.count_nonzero(step[:, 0]) < 50
    assert recorded(StepWindow(0.4), x) is None


def test_pgd_tells_of_its_steps():
    lengths = []

    class Logits:
        def for_step(self, length):
            lengths.append(length)
            return self

        def __call__(self, x):
            return tf.reshape(x, [-1, 4])[:, :2] * (lengths[-1] / 0.1)

    x, y = tf.constant(np.full((1, 2, 2, 1), 0.5, np.float32)), tf.constant([0])
    PGD(LINF, 1, 0.1)(Logits(), x, y, seed=0)
    assert lengths == [0.1]
    lengths.clear()
    PGD(LINF, 3, 0.2, step_decay=0.5).scaled(tf.constant(0.5))(Logits(), x, y, seed=0)
    np.testing.assert_allclose(lengths, [0.1, 0.05, 0.025])


def test_fractions_are_uniform_differ_between_near_images_and_know_of_no_others():
    rng = np.random.default_rng(0)
    # As attacks make them: pixels near 0 and 1, many of them cut off there.
    images = np.clip(np.round(rng.random((4000, 12, 12, 1))) + rng.uniform(-0.3, 0.3, (4000, 12, 12, 1)), 0, 1)
    images = images.astype(np.float32)
    fractions = relu_windows.fraction_of(images).numpy()
    assert fractions.min() >= 0 and fractions.max() < 1
    counts = np.histogram(fractions, 10, (0, 1))[0]
    assert counts.min() > 300 and counts.max() < 500
    np.testing.assert_array_equal(relu_windows.fraction_of(images[7:9]), fractions[7:9])
    moved = images.copy()
    moved[:, 0, 0, 0] = np.nextafter(moved[:, 0, 0, 0], np.float32(0.5))
    apart = np.abs(relu_windows.fraction_of(moved) - fractions)
    assert np.mean(apart < 0.01) < 0.1
    # As two numbers that have nothing to do with each other.
    assert abs(np.mean(apart) - 1 / 3) < 0.03


def test_an_attack_draws_anew_at_every_step_and_alike_in_every_batch():
    model = staircase(*FRONTS["a layer"]())
    images = np.random.default_rng(0).random((6, 4, 4, 1), dtype=np.float32)
    labels = np.zeros(6, np.int64)

    def attacked(relu_window, batch_size):
        options = {"seed": 0, "precision": "float32", "relu_window": relu_window, "batch_size": batch_size}
        return evaluate(model, images, labels, {"APGD": apgd_ce(LINF)}, **options).x_adv

    np.testing.assert_allclose(attacked(0.6, 6), attacked(0.6, 4), atol=1e-6)
    assert np.abs(attacked(0.6, 6) - attacked(0.0, 6)).max() > 0.01

    drawn = []
    keras.utils.set_random_seed(0)
    slope = keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(2, 1, activation="relu"), *model.layers[-2:]])
    logits_fn = precision.AttackTwin(slope, "float32", RandomWindow(0.6)).logits_fn()

    def recording(x):
        drawn.append(relu_windows.fraction_of(x).numpy())
        return logits_fn(x)

    x = tf.constant(0.3 + 0.4 * images)
    for _ in range(5):
        x += 0.05 * tf.sign(input_gradient(recording, losses.cross_entropy, x, labels))
    assert len({float(step[0]) for step in drawn}) == 5


@pytest.mark.parametrize("size", [-0.1, 0, float("nan"), float("inf")])
def test_a_window_of_no_size_is_named(size):
    with pytest.raises(ValueError, match="relu_window must be a number above 0, got"):
        RandomWindow(size)


@pytest.mark.parametrize("share", [-0.1, 0, 1.1, float("nan")])
def test_a_share_that_is_none_is_named(share):
    with pytest.raises(ValueError, match="share must be above 0 and at most 1, got"):
        StepWindow(share)


class Nines(keras.initializers.Initializer):
    """One that Keras does not know by its name."""

    def __call__(self, shape, dtype=None):
        return 9 * tf.ones(shape, dtype)


OTHER_FRONTS = {
    "normalised": lambda: [layers.Conv2D(2, 1), layers.BatchNormalization(), layers.ReLU()],
    "leaky": lambda: [layers.Conv2D(2, 1), layers.LeakyReLU()],
    "leaky by an argument": lambda: [layers.Conv2D(2, 1), layers.ReLU(negative_slope=0.1)],
    "another activation": lambda: [layers.Conv2D(2, 1, activation="tanh"), layers.ReLU()],
    "another convolution": lambda: [layers.Conv2D(2, 1), layers.Conv2D(2, 1, activation="relu")],
    "channels first": lambda: [layers.Conv2D(2, 1, data_format="channels_first", activation="relu")],
    "a layer that Keras does not know": lambda: [layers.Lambda(lambda x: x), layers.Conv2D(2, 1, activation="relu")],
    "a convolution that is not copied": lambda: [layers.Conv2D(2, 1, activation="relu", kernel_initializer=Nines())],
    "none": lambda: [layers.Conv2D(2, 1)],
}


@pytest.mark.parametrize("front", OTHER_FRONTS)
def test_a_classifier_that_begins_otherwise_is_named(front):
    model = keras.Sequential([keras.Input((4, 4, 1)), *OTHER_FRONTS[front](), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ValueError, match="windows need a classifier that Keras can clone and that begins with a conv"):
        precision.AttackTwin(model, "float32", RandomWindow(0.6))
    precision.AttackTwin(model, "float32")


def test_a_subclass_that_cannot_be_cloned_is_named():
    class Subclass(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.last = layers.Conv2D(2, 1, activation="relu"), layers.Dense(2)

        def call(self, x):
            return self.last(layers.Flatten()(self.first(x)))

    model = Subclass()
    model(tf.zeros([1, 4, 4, 1]))
    with pytest.raises(ValueError, match="windows need a classifier that Keras can clone"):
        precision.AttackTwin(model, "float32", RandomWindow(0.6))


def test_a_relu_that_is_used_twice_is_named():
    inputs, relu = keras.Input((4, 4, 1)), layers.ReLU()
    x = relu(layers.Conv2D(2, 1)(relu(layers.Conv2D(2, 1)(inputs))))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    with pytest.raises(ValueError, match="windows need a classifier"):
        precision.AttackTwin(model, "float32", RandomWindow(0.6))


@pytest.mark.parametrize("scale", [255.0, [255.0, 50.0]])
def test_windows_are_in_the_units_of_pixels(scale):
    def model(*first):
        keras.utils.set_random_seed(0)
        return keras.Sequential(
            [keras.Input((4, 4, 2)), *first, layers.Conv2D(3, 2), layers.ReLU(), layers.Flatten(), layers.Dense(2)]
        )

    plain, scaled = model(), model(layers.Rescaling(scale))
    kernel, bias = plain.layers[0].get_weights()
    scaled.layers[1].set_weights([kernel / np.reshape(scale, [-1, 1]), bias])
    x = tf.constant(np.random.default_rng(0).random((3, 4, 4, 2), dtype=np.float32))
    gradients = [
        input_gradient(
            precision.AttackTwin(m, "float32", window).logits_fn(), losses.cross_entropy, x, tf.constant([0, 1, 0])
        )
        for m, window in ((plain, RandomWindow(0.6)), (scaled, RandomWindow(0.6)), (plain, None))
    ]
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-5)
    assert np.abs(gradients[2] - gradients[0]).max() > 1e-2


def test_a_function_has_no_relu_to_look_for():
    images, labels = np.full((2, 4, 4, 1), 0.2, np.float32), np.zeros(2, np.int64)
    with pytest.raises(ValueError, match=r"relu_window needs a keras\.Model, got <function"):
        evaluate(lambda x: x[:, 0, :2, 0], images, labels, {"PGD": PGD(LINF, 2, 0.1)}, seed=0, relu_window=0.6)


def test_dense_layers_and_small_networks_begin_so_too(tmp_path):
    dense = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(3, activation="relu")])
    assert classifier_fronts.front(dense)[:2] == (dense.layers[-1], dense.layers[-1])
    small.capacity_cnn(seed=0, scale=2).save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    for model in (loaded, challenge_cnn(seed=0)):
        twin = precision.AttackTwin(model, "float32", RandomWindow(0.6))
        x = tf.random.stateless_uniform([2, 28, 28, 1], [0, 0])
        gradient = input_gradient(twin.logits_fn(), losses.cross_entropy, x, tf.constant([0, 1]))
        assert np.isfinite(gradient).all() and np.any(gradient)
