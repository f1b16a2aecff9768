"""What a classifier must be, before anything is done with it."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust import checks
from tfrobust.attacks import Square
from tfrobust.evaluation import evaluate
from tfrobust.export import export_saved_model
from tfrobust.threat_models import ThreatModel
from tfrobust.trainers import AdversarialTrainer

layers = keras.layers


def ending_in(*last):
    return keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), *last])


def functional(output):
    """A model whose output is a function of its flat images [B, 16]."""
    images = keras.Input((4, 4, 1))
    return keras.Model(images, output(layers.Flatten()(images)))


def gate(x):
    return layers.Dense(3)(x) * layers.Dense(3, activation="sigmoid")(x)


def pooling_by_attention(x):
    parts = layers.Reshape((4, 4))(x)
    return keras.ops.sum(layers.Dense(3)(parts) * layers.Softmax(axis=1)(layers.Dense(1)(parts)), axis=1)


@pytest.mark.parametrize(
    "last",
    [
        [layers.Dense(3, activation="softmax")],
        [layers.Dense(3, activation="sigmoid")],
        [layers.Dense(3), layers.Softmax()],
        [layers.Dense(3), layers.Activation("softmax")],
        [keras.Sequential([keras.Input((16,)), layers.Dense(3, activation="softmax")])],
        functional(lambda x: keras.ops.softmax(layers.Dense(3)(x))),
        functional(layers.Dense(3, activation="softmax")),
    ],
)
def test_a_last_layer_that_squashes_is_refused(last, tmp_path):
    classifier = last if isinstance(last, keras.Model) else ending_in(*last)
    message = "classifier must return logits, got a last layer '.*' with a s(oftmax|igmoid): remove it"
    with pytest.raises(ValueError, match=message):
        checks.require_logits(classifier)
    with pytest.raises(ValueError, match=message):
        AdversarialTrainer(classifier, None, seed=0)
    with pytest.raises(ValueError, match=message):
        export_saved_model(classifier, tmp_path / "1")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "classifier",
    [
        ending_in(layers.Dense(3)),
        ending_in(layers.Dense(3, activation="relu")),
        lambda x: x,
        keras.Sequential(),
        # The last layer is not the last operation.
        functional(gate),
        functional(pooling_by_attention),
    ],
)
def test_other_classifiers_may_return_logits(classifier):
    checks.require_logits(classifier)


def test_functions_that_are_not_tensorflow_s():
    weights = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    x, y = np.random.default_rng(1).uniform(size=(4, 4, 4, 1)).astype(np.float32), np.zeros(4, int)
    attacks = {"Square": Square(ThreatModel("linf", 0.3), queries=20)}

    def logits_fn(x):
        return np.reshape(x, [-1, 16]) @ weights

    with pytest.raises(ValueError, match=r"classifier must be .* a function that returns a tensor, got ndarray: give"):
        evaluate(logits_fn, x, y, attacks, seed=0)
    # Whose number of classes a graph does not know.
    wrapped = evaluate(lambda x: tf.numpy_function(logits_fn, [x], tf.float32), x, y, attacks, seed=0)
    plain = evaluate(lambda x: tf.reshape(x, [-1, 16]) @ weights, x, y, attacks, seed=np.int64(0))
    assert wrapped.robust_accuracy == plain.robust_accuracy
    assert json.loads(json.dumps(plain.as_json()))["seed"] == 0


def test_the_classes_are_the_data_s():
    classifier = ending_in(layers.Dense(3))
    checks.check_classes(classifier, (4, 4, 1), 3)
    for count in (2, 4):
        with pytest.raises(ValueError, match=f"classifier must have the data's {count} classes, got 3"):
            checks.check_classes(classifier, (4, 4, 1), count)
    with pytest.raises(ValueError, match="classifier must return logits, got probabilities"):
        checks.check_classes(lambda x: tf.nn.softmax(classifier(x)), (4, 4, 1), 3)
    with pytest.raises(ValueError, match=r"classifier must take images of shape \(5, 5, 3\)"):
        checks.check_classes(classifier, (5, 5, 3), 3)
    with pytest.raises(ValueError, match=r"classifier must return logits \[B, K\], got shape \(1,\)"):
        checks.check_classes(lambda x: tf.reduce_sum(x, axis=[1, 2, 3]), (4, 4, 1), 3)
