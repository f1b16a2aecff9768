"""The attack twin is the classifier's function: exactly in float32, and where promised in bfloat16."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfrobust import datasets, precision
from tfrobust.models.mnist import challenge_cnn, threshold_cnn
from tfrobust.precision import AttackTwin


def sequential(input_shape, *stack):
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input(input_shape), *stack])


def with_head(input_shape, *stack):
    return sequential(input_shape, *stack, layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(4))


def batch_norm():
    keras.utils.set_random_seed(3)
    return with_head((9, 7, 3), layers.Conv2D(5, 3), layers.BatchNormalization(), layers.Conv2D(4, 3))


def residual():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 3))
    stem = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    shared = layers.Conv2D(4, 3, padding="same", activation="tanh")
    branches = [shared(stem), shared(shared(stem)), layers.Conv2D(4, 1)(stem), stem]
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layers.Add()(branches))))


def shared_first_convolution():
    keras.utils.set_random_seed(3)
    inputs, conv = keras.Input((8, 8, 3)), layers.Conv2D(4, 3)
    x = layers.Concatenate()([conv(inputs), conv(layers.Rescaling(-1.0, offset=1.0)(inputs))])
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def residual_by_operators():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 3))
    stem = layers.Conv2D(4, 3, padding="same")(2 * inputs - 1)
    x = keras.ops.relu(stem + layers.Conv2D(4, 3, padding="same")(stem))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def nested():
    backbone = sequential((8, 8, 3), layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization())
    return sequential((8, 8, 3), backbone, layers.Flatten(), layers.Dense(3))


def partly_frozen():
    model = batch_norm()
    model.layers[0].trainable = model.layers[1].trainable = False
    return model


def compiled_and_fitted():
    model = sequential((8, 8, 3), layers.Conv2D(4, 3), layers.Dropout(0.5), layers.Flatten(), layers.Dense(3))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(np.ones([4, 8, 8, 3]), np.arange(4) % 3, verbose=0)
    return model


def adapted_normalization():
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).uniform(size=(50, 8, 8, 3)))
    return sequential((8, 8, 3), normalization, layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3))


def lambda_layer():
    return with_head((8, 8, 3), layers.Lambda(lambda x: 2 * x - 1), layers.Conv2D(4, 3))


class Scale(layers.Layer):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return self.factor * x


class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = with_head((8, 8, 3), layers.Conv2D(4, 3))

    def call(self, x, training=False):
        return self.inner(x, training=training)


class Standardising(keras.Sequential):
    """Does more than its layers do."""

    def call(self, inputs, training=None, mask=None, **options):
        return super().call((inputs - 0.5) / 0.25, training=training, mask=mask)


def own_functions():
    def softplus(x):  # not Keras's
        return tf.nn.softplus(3 * x)

    def small(shape, dtype=None):
        return 0.1 * tf.ones(shape, dtype)

    def wave(x):
        return tf.sin(2 * x)

    convolutions = [layers.Conv2D(4, 3, activation=wave), layers.Conv2D(4, 3, activation=softplus)]
    return with_head((8, 8, 3), *convolutions, layers.Conv2D(4, 1, kernel_initializer=small))


def standardising():
    keras.utils.set_random_seed(1)
    return Standardising([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)])


def prelu():
    return [layers.Conv2D(4, 3, activation=layers.PReLU(keras.initializers.Constant(0.3)))]


MODELS = {
    "functions of one's own": (own_functions, (8, 8, 3)),
    "activation with weights": (lambda: with_head((8, 8, 3), *prelu(), *prelu()), (8, 8, 3)),
    "call of one's own": (standardising, (8, 8, 3)),
    "challenge_cnn": (lambda: challenge_cnn(seed=1), (28, 28, 1)),
    "threshold_cnn": (lambda: threshold_cnn(seed=1), (28, 28, 1)),
    "32x32x3": (lambda: with_head((32, 32, 3), layers.Conv2D(8, 3, padding="same")), (32, 32, 3)),
    "valid": (lambda: with_head((10, 10, 3), layers.Conv2D(8, 3, padding="valid")), (10, 10, 3)),
    "even kernel": (lambda: with_head((9, 11, 2), layers.Conv2D(8, (2, 4), padding="same")), (9, 11, 2)),
    "even kernel, valid": (lambda: with_head((9, 11, 1), layers.Conv2D(8, (4, 2))), (9, 11, 1)),
    "unknown size": (lambda: with_head((None, None, 1), layers.Conv2D(8, 3)), (7, 13, 1)),
    "strides": (lambda: with_head((9, 9, 3), layers.Conv2D(8, 3, strides=2)), (9, 9, 3)),
    "dense": (lambda: sequential((4, 4, 1), layers.Flatten(), layers.Dense(8), layers.Dense(3)), (4, 4, 1)),
    "batch normalisation": (batch_norm, (9, 7, 3)),
    "shared layers and branches": (residual, (8, 8, 3)),
    "shared first convolution": (shared_first_convolution, (8, 8, 3)),
    "operators": (residual_by_operators, (8, 8, 3)),
    "nested": (nested, (8, 8, 3)),
    "partly frozen": (partly_frozen, (9, 7, 3)),
    "compiled and fitted": (compiled_and_fitted, (8, 8, 3)),
    "adapted normalisation": (adapted_normalization, (8, 8, 3)),
    "lambda": (lambda_layer, (8, 8, 3)),
    "layer without configuration": (lambda: with_head((8, 8, 3), Scale(3.0), layers.Conv2D(4, 3)), (8, 8, 3)),
    "subclass": (Subclass, (8, 8, 3)),
}


def images(shape, count=4):
    return tf.constant(np.random.default_rng(0).uniform(size=(count, *shape)).astype(np.float32))


def gradients(logits_fn, x, variables=()):
    """The logits, and the gradients of a weighted sum of them by x and the variables."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = logits_fn(x)
        total = tf.reduce_sum(logits * tf.cast(tf.range(1, logits.shape[1] + 1), tf.float32))
    return [logits, *tape.gradient(total, [x, *variables])]


def assert_same(actual, expected, tolerance=2e-6):
    for a, b in zip(actual, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype == tf.float32
        assert np.max(np.abs(b)) > 0
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.max(np.abs(b)))


@pytest.mark.parametrize("name", MODELS)
def test_float32_twin_has_the_classifiers_logits_and_gradients(name):
    build, shape = MODELS[name]
    model, x = build(), images(shape)
    model(x)
    twin = AttackTwin(model, "float32")
    assert_same(gradients(twin.logits_fn(), x), gradients(lambda x: model(x, training=False), x))


@pytest.mark.parametrize(
    "name",
    [
        "challenge_cnn",
        "threshold_cnn",
        "even kernel",
        "batch normalisation",
        "shared layers and branches",
        "call of one's own",
    ],
)
def test_training_logits_have_the_classifiers_weight_gradients(name):
    build, shape = MODELS[name]
    model, x = build(), images(shape)
    twin = AttackTwin(model, "float32")
    actual = gradients(lambda x: twin.training_logits(x, 0), x, model.trainable_variables)
    assert_same(actual, gradients(lambda x: model(x, training=True), x, model.trainable_variables), tolerance=1e-5)


@pytest.mark.parametrize(("name", "tolerance"), [("float32", 1e-6), ("bfloat16", 0.02)])
def test_training_logits_update_moving_statistics_as_the_classifier_does(name, tolerance):
    # Two blocks, so that one of them is inside of the twin's bfloat16 part; 500 steps, after which 0.99^500 of the
    # initial values is left.
    def build():
        block = [layers.Conv2D(4, 3), layers.BatchNormalization()]
        return with_head((9, 7, 3), *block, layers.Conv2D(4, 3), layers.BatchNormalization())

    model, expected, x = build(), build(), images((9, 7, 3))
    expected.set_weights(model.get_weights())
    twin = AttackTwin(model, name)
    twin_step = tf.function(lambda x: twin.training_logits(x, 0))
    step = tf.function(lambda x: expected(x, training=True))
    for _ in range(500):
        twin_step(x), step(x)
    for a, b in zip(model.non_trainable_variables, expected.non_trainable_variables, strict=True):
        assert np.max(np.abs(b)) > 1e-3
        np.testing.assert_allclose(a, b, atol=tolerance * np.max(np.abs(b)))


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_the_seed_decides_what_dropout_drops(name):
    model, x = with_head((9, 7, 3), layers.Conv2D(4, 3), layers.Dropout(0.5)), images((9, 7, 3))
    twin, state = AttackTwin(model, name), [v.numpy() for v in model.non_trainable_variables]
    step = tf.function(lambda x, seed: twin.training_logits(x, seed))
    runs = np.stack([step(x, tf.constant([0, seed])) for seed in range(400)])
    np.testing.assert_array_equal(step(x, tf.constant([0, 3])), runs[3])
    assert len({run.tobytes() for run in runs}) == 400
    # What stays is scaled up, so that the mean is what inference, which drops nothing, computes.
    expected = model(x, training=False)
    np.testing.assert_allclose(twin.logits_fn()(x), expected, rtol=0, atol=0.02 * np.max(np.abs(expected)))
    error = 5 * runs.std(axis=0) / np.sqrt(len(runs)) + 0.02 * np.max(np.abs(expected))
    assert np.all(np.abs(runs.mean(axis=0) - expected) < error) and runs.std(axis=0).min() > 0
    # As replicas could not agree on them.
    for before, variable in zip(state, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(variable, before)


class Noise(layers.Layer):
    def __init__(self):
        super().__init__()
        self.generator = keras.random.SeedGenerator(1)

    def call(self, inputs):
        return inputs + keras.random.normal(tf.shape(inputs), seed=self.generator, dtype=inputs.dtype)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("noise", "draws"),
    [
        (lambda x: Noise()(x), True),
        # Keras's models say training=False to all layers.
        (lambda x: layers.Dropout(0.5)(x, training=True), False),
        (lambda x: layers.Dropout(0.5)(x), False),
        (lambda x: layers.GaussianNoise(0.5)(x), False),
    ],
)
def test_what_draws_in_inference_draws_anew_at_every_call(noise, draws, precision):
    image = keras.Input((6, 6, 1))
    model = keras.Model(image, layers.Dense(3)(layers.Flatten()(noise(layers.Conv2D(3, 3)(image)))))
    twin, x = AttackTwin(model, precision, frozen=True), tf.ones((2, 6, 6, 1))

    @tf.function(autograph=False)
    def logits():
        logits_fn = twin.logits_fn()
        return tf.stack([logits_fn(x) for _ in range(5)])

    assert len(np.unique(logits().numpy().reshape(5, -1), axis=0)) == (5 if draws else 1)


def test_a_dropout_whose_rate_was_changed():
    # The copy of a rate of 0 would have no generator.
    model, x = with_head((9, 7, 3), layers.Conv2D(4, 3), layers.Dropout(0.5)), images((9, 7, 3))
    model.layers[1].rate = 0
    twin, expected = AttackTwin(model, "float32"), model(x, training=False)
    np.testing.assert_allclose(twin.logits_fn()(x), expected, atol=1e-5)
    np.testing.assert_allclose(twin.training_logits(x, 0), expected, atol=1e-5)


def test_weights_are_read_when_the_twin_runs():
    model, x = batch_norm(), images((9, 7, 3))
    twin = AttackTwin(model, "float32")
    compiled = tf.function(lambda x: twin.logits_fn()(x))
    before = compiled(x)
    model.set_weights([value + 0.5 for value in model.get_weights()])
    assert np.all(np.abs(compiled(x) - before) > 0.01)
    for logits in (compiled(x), twin.logits_fn()(x)):
        np.testing.assert_allclose(logits, model(x), rtol=1e-5)


def test_layers_may_be_frozen_after_the_twin_was_made():
    model, x = batch_norm(), images((9, 7, 3))
    twin = AttackTwin(model, "float32")
    model.layers[0].trainable = False
    np.testing.assert_allclose(twin.logits_fn()(x), model(x), rtol=1e-5)


def test_twins_leave_nothing_behind(tmp_path):
    model, x = residual(), images((8, 8, 3))
    expected, kernels = model(x), []
    for _ in range(3):
        twin = AttackTwin(model, "bfloat16")
        kernels += [weakref.ref(v) for v in twin._clone.variables if all(v is not w for w in model.variables)]
        del twin
    gc.collect()
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(x), expected)
    assert kernels and all(kernel() is None for kernel in kernels)


# bfloat16 has 8 significant bits: 1.001 rounds to 1, and 257 to 256.


def set_kernels(model, *kernels):
    model.set_weights([np.reshape(k, w.shape).astype(np.float32) for k, w in zip(kernels, model.weights, strict=True)])
    return model


def test_bfloat16_twin_sees_the_input_in_float32():
    conv, logits = layers.Conv2D(1, (1, 2), use_bias=False), layers.Dense(1, use_bias=False)
    model = set_kernels(sequential((1, 2, 1), conv, layers.Flatten(), logits), [1, -1], [1])
    x = tf.constant([1.001, 1.0], shape=[1, 1, 2, 1])
    np.testing.assert_allclose(AttackTwin(model, "bfloat16").logits_fn()(x), [[0.001]], rtol=0.01)


def test_bfloat16_twin_rounds_inside():
    conv, logits = layers.Conv2D(1, 1, use_bias=False), layers.Dense(1, use_bias=False)
    model = set_kernels(sequential((1, 1, 1), conv, layers.Flatten(), logits), [1], [1])
    np.testing.assert_array_equal(AttackTwin(model, "bfloat16").logits_fn()(tf.fill([1, 1, 1, 1], 257.0)), [[256.0]])


def test_bfloat16_twin_sums_its_logits_in_float32():
    conv, logits = layers.Conv2D(2, 1, use_bias=False), layers.Dense(1, use_bias=False)
    model = set_kernels(sequential((1, 1, 1), conv, layers.Flatten(), logits), [256, 1], [1, 1])
    actual = AttackTwin(model, "bfloat16").logits_fn()(tf.ones([1, 1, 1, 1]))
    assert actual.dtype == tf.float32
    np.testing.assert_array_equal(actual, [[257.0]])


def test_bfloat16_gradients_are_those_of_the_classifier_but_for_rounding():
    model, x = challenge_cnn(seed=1), tf.constant(datasets.load("digits", "test", num_examples=16).images)
    logits, gradient = gradients(AttackTwin(model, "bfloat16").logits_fn(), x)
    expected_logits, expected = gradients(model, x)
    assert not np.array_equal(logits, expected_logits)
    np.testing.assert_allclose(logits, expected_logits, atol=0.02 * np.max(np.abs(expected_logits)))
    cosine = np.sum(gradient * expected) / (np.linalg.norm(gradient) * np.linalg.norm(expected))
    agreement = np.mean(np.sign(gradient) == np.sign(expected))
    assert cosine > 0.95 and agreement > 0.9, (cosine, agreement)


def test_the_precision_of_what_cannot_be_copied_is_float32():
    assert AttackTwin(standardising(), "bfloat16").precision == "float32"
    assert AttackTwin(own_functions(), "bfloat16").precision == "bfloat16"


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        # Nothing lies between the first layer of weights and the logits.
        ([keras.layers.Flatten(), keras.layers.Dense(8), keras.layers.Dense(3)], "float32"),
        ([keras.layers.Conv2D(3, 5), keras.layers.GlobalAveragePooling2D()], "float32"),
        ([keras.layers.Conv2D(4, 5), keras.layers.Flatten(), keras.layers.Dense(3)], "bfloat16"),
        ([keras.layers.Flatten(), *(keras.layers.Dense(width) for width in (8, 8, 3))], "bfloat16"),
    ],
)
def test_precision_is_what_the_copy_computes_in(layers, expected):
    classifier = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    twin = AttackTwin(classifier, "bfloat16")
    assert twin.precision == expected
    if expected == "float32":
        x = images((28, 28, 1))
        np.testing.assert_allclose(twin.logits_fn()(x), classifier(x, training=False), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@pytest.mark.parametrize(("name", "tolerance"), [("float32", 0.02), ("bfloat16", 0.5)])
def test_quantised_layers_are_used_as_they_are(name, tolerance):
    model, x = challenge_cnn(seed=1), images((28, 28, 1))
    model.quantize("int8")
    np.testing.assert_allclose(AttackTwin(model, name).logits_fn()(x), model(x), atol=tolerance)


def test_resolve(monkeypatch):
    assert precision.resolve("float32") == "float32" and precision.resolve("bfloat16") == "bfloat16"
    with pytest.raises(ValueError, match="precision must be 'auto', 'float32' or 'bfloat16', got 'float16'"):
        precision.resolve("float16")
    with pytest.raises(ValueError, match="precision must be 'auto', 'float32' or 'bfloat16', got 'fp32'"):
        AttackTwin(batch_norm(), "fp32")
    for available, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda available=available: available)
        monkeypatch.setattr(precision, "_has_gpu", lambda: False)
        assert precision.resolve("auto") == AttackTwin(batch_norm()).precision == expected
