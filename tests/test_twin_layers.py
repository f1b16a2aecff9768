"""Which classifiers have a twin, and that it is their function, whatever else they hold."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfrobust import checks
from tfrobust.attacks import PGD
from tfrobust.evaluation import evaluate
from tfrobust.precision import AttackTwin
from tfrobust.threat_models import ThreatModel
from tfrobust.trainers import AdversarialTrainer

PIXELS = np.random.default_rng(0).random((6, 8, 8, 1), dtype=np.float32)
LABELS = np.arange(6) % 4
ATTACK = PGD(ThreatModel("linf", 0.1), steps=2, step_size=0.05)


def small(*first):
    keras.utils.set_random_seed(0)
    stack = [layers.Conv2D(3, 3, activation="relu"), layers.Flatten(), layers.Dense(16), layers.Dense(4)]
    return keras.Sequential([keras.Input((8, 8, 1)), *first, *stack])


def functional():
    model = small()
    return keras.Model(model.inputs[0], model.outputs[0])


def assert_is_the_function(model, twin):
    for _ in range(2):
        expected = model(PIXELS, training=False).numpy()
        tolerance = (1e-5 if twin.precision == "float32" else 0.03) * np.abs(expected).max()
        np.testing.assert_allclose(twin.logits_fn()(PIXELS), expected, atol=tolerance)
        # Of other weights, too.
        model.set_weights([weight * 1.5 for weight in model.get_weights()])


class OwnLoss(keras.losses.Loss):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, labels, logits):
        return self.factor * keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


class OwnMetric(keras.metrics.Mean):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def update_state(self, labels, logits, sample_weight=None):
        return super().update_state(self.factor * logits)


class OwnOptimizer(keras.optimizers.SGD):
    def __init__(self, factor):
        super().__init__(0.1 * factor)


class OwnSchedule(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.01


def own_loss(labels, logits):
    return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


@pytest.mark.parametrize("make", [small, functional])
@pytest.mark.parametrize(
    "compiled",
    [
        {"loss": own_loss},
        {"loss": lambda labels, logits: own_loss(labels, logits)},
        {"loss": OwnLoss(2.0)},
        {"metrics": [OwnMetric(2.0)]},
        {"optimizer": lambda: OwnOptimizer(2.0)},
        {"optimizer": lambda: keras.optimizers.SGD(OwnSchedule())},
    ],
    ids=["a named loss", "a lambda", "a loss", "a metric", "an optimizer", "a schedule"],
)
def test_models_compiled_with_parts_of_ones_own(make, compiled):
    model = make()
    optimizer = compiled.get("optimizer", lambda: "adam")()
    model.compile(**{"loss": OwnLoss(1.0), **compiled, "optimizer": optimizer})
    model.fit(PIXELS, LABELS, verbose=0)
    for precision in ("float32", "bfloat16"):
        assert AttackTwin(model, precision).precision == precision
        assert_is_the_function(model, AttackTwin(model, precision))
    evaluate(model, PIXELS, LABELS, {"PGD": ATTACK}, seed=0)
    trainer = AdversarialTrainer(model, ATTACK, seed=0)
    trainer.compile("adam", OwnLoss(1.0))
    trainer.fit(PIXELS, LABELS, verbose=0)


class WithMore(keras.Model):
    """A functional model that holds weights besides those of its graph."""

    def __init__(self):
        model = small()
        super().__init__(model.inputs[0], model.outputs[0])
        self.unused = layers.Dense(3)
        self.unused.build((None, 4))
        self.counter = self.add_weight(shape=(), trainable=False)
        self.tracker, self.generator = keras.metrics.Mean(name="tracker"), keras.random.SeedGenerator(1)


def sharing_a_layer_with_a_model_in_it():
    keras.utils.set_random_seed(0)
    shared = layers.Conv2D(3, 3, padding="same", activation="relu")
    inner = keras.Sequential([keras.Input((8, 8, 3)), shared])
    outer = keras.Input((8, 8, 1))
    x = layers.Concatenate()([outer, outer, outer])
    x = shared(inner(shared(x)))
    return keras.Model(outer, layers.Dense(4)(layers.Flatten()(x)))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("make", [WithMore, sharing_a_layer_with_a_model_in_it])
@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")
def test_models_whose_layers_and_graph_differ(make, precision):
    model = make()
    assert_is_the_function(model, AttackTwin(model, precision))
    trainer = AdversarialTrainer(model, ATTACK, seed=0, precision=precision)
    trainer.compile("sgd", OwnLoss(1.0))
    trainer.fit(PIXELS, LABELS, verbose=0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_lora_of_any_scale(precision):
    model = small()
    model.layers[2].enable_lora(4, lora_alpha=64)
    for weight in (model.layers[2].lora_kernel_a, model.layers[2].lora_kernel_b):
        weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    assert_is_the_function(model, AttackTwin(model, precision))


def noise(x, **more):
    return x + keras.random.normal(keras.ops.shape(x), stddev=0.3, **more)


class Wrapping(layers.Layer):
    """Says to a layer of Keras that this is training."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs):
        return self.inner(inputs, training=True)


class WithoutSeed(layers.Layer):
    def call(self, inputs):
        return noise(inputs)


class SeedsInAList(layers.Layer):
    def __init__(self):
        super().__init__()
        self.generators = [keras.random.SeedGenerator(1)]

    def call(self, inputs):
        return noise(inputs, seed=self.generators[0])


class Drawing(layers.Layer):
    def call(self, inputs):
        return inputs + tf.random.normal(tf.shape(inputs))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "layer",
    [
        lambda: Wrapping(layers.GaussianNoise(0.3)),
        lambda: Wrapping(layers.Dropout(0.3)),
        lambda: Wrapping(layers.RandomFlip("horizontal")),
        WithoutSeed,
        SeedsInAList,
        Drawing,
        lambda: layers.Lambda(noise),
        lambda: keras.Sequential([keras.Input((8, 8, 1)), layers.Lambda(noise)]),
    ],
    ids=["noise", "dropout", "flip", "without a seed", "seeds in a list", "tf.random", "lambda", "nested"],
)
def test_a_classifier_that_draws_does_so_at_every_call(layer, precision):
    twin = AttackTwin(small(layer()), precision)

    @tf.function(autograph=False)
    def logits():
        logits_fn, found = twin.logits_fn(), tf.TensorArray(tf.float32, 8)
        return tf.while_loop(
            lambda i, _: i < 8,
            lambda i, found: (i + 1, found.write(i, logits_fn(tf.constant(PIXELS[:1])))),
            (0, found),
            parallel_iterations=1,
        )[1].stack()

    # A flip has two outcomes only.
    assert len(np.unique(logits().numpy().reshape(8, -1), axis=0)) > 1


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.GaussianNoise(0.3),
        lambda: layers.RandomFlip("horizontal"),
        lambda: layers.RandomRotation(0.1),
        lambda: layers.RandomContrast(0.3),
        lambda: layers.Lambda(lambda x: 2 * x),
        lambda: keras.Sequential([keras.Input((8, 8, 1)), layers.RandomTranslation(0.1, 0.1), layers.Lambda(abs)]),
    ],
)
def test_what_draws_in_training_only_has_a_twin(layer):
    model = small(layer())
    twin = AttackTwin(model, "bfloat16")
    assert twin.precision == "bfloat16"
    assert_is_the_function(model, twin)


def test_a_sequential_that_was_not_called_yet():
    model = keras.Sequential([layers.Conv2D(3, 3, activation="relu"), layers.Flatten(), layers.Dense(4)])
    report = evaluate(model, PIXELS, LABELS, {"PGD": ATTACK}, seed=0, precision="float32")
    assert report.robust_accuracy == evaluate(model, PIXELS, LABELS, {"PGD": ATTACK}, seed=0).robust_accuracy
    assert AttackTwin(model, "float32")._clone is not None


def test_a_classifier_for_batches_of_one_size():
    model = small()
    inputs = keras.Input(batch_shape=(20, 8, 8, 1))
    features = keras.ops.reshape(model.layers[0](inputs), (20, 6 * 6 * 3))
    model = keras.Model(inputs, layers.Dense(4)(features))
    images = np.concatenate([PIXELS] * 4)[:20]
    report = evaluate(model, images, np.arange(20) % 4, {"PGD": ATTACK}, seed=0, batch_size=20)
    assert report.num_examples == 20


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_layer_that_is_not_what_it_says_is_found_out(precision):
    model = small()
    model.layers[0].call = lambda x: tf.nn.relu(-3 * tf.nn.conv2d(x, model.layers[0].kernel, 1, "VALID"))
    model = keras.Sequential([keras.Input((8, 8, 1)), *model.layers])
    found = checks.checked_functions(model, precision, PIXELS, LABELS)
    assert found.precision == "float32"
    np.testing.assert_array_equal(found.gradient_fn()(tf.constant(PIXELS)), model(PIXELS))
    with pytest.raises(ValueError, match="windows need a classifier that Keras can clone"):
        checks.checked_functions(model, precision, PIXELS, LABELS, relu_window=0.6)
