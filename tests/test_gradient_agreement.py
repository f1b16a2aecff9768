"""How far gradients of two precisions lead the same way, and that "auto" evaluates in float32 where they do not."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver

from eval import common
from tfrobust import losses, precision
from tfrobust.attacks.base import input_gradient
from tfrobust.attacks.pgd import PGD
from tfrobust.evaluation import evaluate
from tfrobust.gradient_agreement import LEAST_AGREEMENT, agreeing_functions, step_agreement
from tfrobust.models.mnist import challenge_cnn
from tfrobust.threat_models import ThreatModel

LINF = ThreatModel("linf", 0.3)


def examples(count=30):
    rng = np.random.default_rng(0)
    return rng.random((count, 28, 28, 1), dtype=np.float32), rng.integers(0, 10, count)


def with_cancelling_filters(*before):
    """Every filter of a convolution twice, and in the next one against the other, but for a ten thousandth."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *before,
            layers.Conv2D(8, 5, activation="relu"),
            layers.Conv2D(8, 5, activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    first, second = model.layers[-4:-2]
    kernel, bias = first.get_weights()
    first.set_weights([np.tile(kernel[..., :4], 2), bias])
    kernel, bias = second.get_weights()
    kernel[:, :, 4:] = -kernel[:, :, :4] * (1 + 1e-4)
    second.set_weights([kernel, bias])
    return model


@pytest.fixture
def bfloat16_cpu(monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "_has_gpu", lambda: False)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_gradient_agrees_with_itself_and_not_with_its_opposite(norm):
    model, threat = challenge_cnn(seed=0), ThreatModel(norm, 0.15)
    images = 0.2 + 0.6 * examples()[0]
    labels = np.zeros(len(images), np.int64)

    def opposite(x):
        return 2 * tf.stop_gradient(model(x)) - model(x)

    assert step_agreement(lambda: model, lambda: model, images, labels, threat, batch_size=30) == pytest.approx(
        1, abs=1e-5
    )
    found = step_agreement(lambda: model, lambda: opposite, images, labels, threat, batch_size=30)
    assert found == pytest.approx(-1, abs=1e-3)


def test_it_is_counted_in_linf():
    images, labels = examples(10)
    model = challenge_cnn(seed=0)
    half = np.where(np.arange(28) < 7, -1, 1).astype(np.float32)[:, None]  # a quarter of the columns goes the other way

    @tf.custom_gradient
    def turned(x):
        return x, lambda upstream: upstream * half

    images = 0.4 + 0.2 * images
    threat = ThreatModel("linf", 0.1)
    gradient = input_gradient(model, losses.cross_entropy, tf.constant(images), labels)
    assert np.all(gradient != 0)
    found = step_agreement(lambda: model, lambda: lambda x: model(turned(x)), images, labels, threat, batch_size=10)
    assert found == pytest.approx(0.5, abs=1e-3)


def test_it_does_not_depend_on_the_size_of_batches():
    images, labels = examples(130)
    model = challenge_cnn(seed=0)
    fns = [precision.functions(model, kind).gradient_fn for kind in ("float32", "bfloat16")]
    whole, parts = (step_agreement(*fns, images, labels, LINF, batch_size=size) for size in (200, 7))
    few = step_agreement(*fns, images[:100], labels[:100], LINF, batch_size=100)
    assert 0.8 < whole < 0.99
    assert whole == pytest.approx(few, abs=1e-3) == parts


def test_a_classifier_for_batches_of_one_size():
    images, labels = examples(18)
    inputs = keras.Input(batch_shape=(8, 28, 28, 1))
    h = keras.layers.Conv2D(4, 5)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(10)(keras.ops.reshape(h, (8, 24 * 24 * 4))))
    fns = [precision.functions(model, kind).gradient_fn for kind in ("float32", "bfloat16")]
    assert step_agreement(*fns, images, labels, LINF, batch_size=8) > 0.9


@pytest.mark.usefixtures("bfloat16_cpu")
def test_auto_is_float32_where_gradients_cancel():
    images, labels = examples()
    hidden = with_cancelling_filters(keras.layers.Conv2D(1, 1))
    # First filters that are parallel are spared the rounding, those of later layers are not.
    cases = ((challenge_cnn(seed=0), "bfloat16"), (with_cancelling_filters(), "bfloat16"), (hidden, "float32"))
    for model, expected in cases:
        fns = [precision.functions(model, kind).gradient_fn for kind in ("float32", "bfloat16")]
        agreement = step_agreement(*fns, images, labels, LINF, batch_size=10)
        assert (agreement >= LEAST_AGREEMENT) == (expected == "bfloat16")
        found = agreeing_functions(model, "auto", images, labels, LINF, batch_size=10)
        assert found.precision == expected
        report = evaluate(model, images, labels, {"PGD": PGD(LINF, 1, 0.1)}, seed=0, batch_size=30)
        assert report.precision == expected
    asked = agreeing_functions(hidden, "bfloat16", images, labels, LINF, batch_size=10)
    assert asked.precision == "bfloat16"


@pytest.mark.usefixtures("bfloat16_cpu")
def test_auto_of_a_classifier_without_gradients_is_left_to_the_attacks():
    images, labels = examples(5)
    layers = challenge_cnn(seed=0).layers[1:]
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Lambda(tf.stop_gradient), *layers])
    assert agreeing_functions(model, "auto", images, labels, LINF, batch_size=5).precision == "bfloat16"


@pytest.mark.usefixtures("bfloat16_cpu")
def test_auto_is_float32_where_gradients_are_no_numbers():
    images, labels = examples(5)
    model = challenge_cnn(seed=0)

    @tf.custom_gradient
    def broken(x):
        return x, lambda upstream: upstream * np.nan

    model = keras.Sequential([*model.layers[:-1], keras.layers.Lambda(broken), model.layers[-1]])
    assert agreeing_functions(model, "auto", images, labels, LINF, batch_size=5).precision == "float32"


@pytest.mark.parametrize(
    ("given", "available", "recorded"),
    [
        ("auto", True, "auto"),
        ("auto", False, "float32"),
        ("bfloat16", False, "bfloat16"),
        ("float32", True, "float32"),
    ],
)
def test_a_study_records_what_decided_its_precision(monkeypatch, given, available, recorded):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: available)
    monkeypatch.setattr(precision, "_has_gpu", lambda: False)
    with flagsaver.flagsaver():
        flags.FLAGS(["study", f"--precision={given}"])
        assert common.attack_precision() == recorded
