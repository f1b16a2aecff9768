"""Parseval training: the step toward tight frames by hand, and what training does to the singular values."""

import json
import pathlib
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfrobust.trainers import ParsevalTrainer
from tfrobust.trainers.parseval import toward_tight_frame

ROOT = pathlib.Path(__file__).resolve().parents[2]
X = np.random.default_rng(0).uniform(size=(12, 6, 6, 1)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 12)


def classifier():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((6, 6, 1)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)])


def fit(model, **options):
    trainer = ParsevalTrainer(model, seed=0, precision="float32", natural_accuracy_every=0, **options)
    trainer.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trainer.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return model.get_weights()


def test_by_hand():
    # Of the column (3, 4), of norm 5, there remains 1 + beta - 25 beta.
    kernel = tf.constant([[3.0], [4.0]])
    np.testing.assert_allclose(toward_tight_frame(kernel, 0.01, 1.0, seed=0), 0.76 * kernel, rtol=1e-6)
    # A convolution of four positions counts twice: norm 10, so that 1 + beta - 100 beta remains.
    kernel = tf.constant([3.0, 4.0, 0.0, 0.0], shape=[2, 2, 1, 1])
    np.testing.assert_allclose(toward_tight_frame(kernel, 0.005, 1.0, seed=0), 0.505 * kernel, rtol=1e-6)


def test_it_is_a_step_down_the_distance_from_a_tight_frame():
    kernel = tf.Variable(np.random.default_rng(0).normal(size=(5, 3)), dtype=tf.float64)
    with tf.GradientTape() as tape:
        distance = tf.reduce_sum(tf.square(tf.transpose(kernel) @ kernel - tf.eye(3, dtype=tf.float64))) / 4
    expected = kernel - 0.01 * tape.gradient(distance, kernel)
    np.testing.assert_allclose(toward_tight_frame(kernel, 0.01, 1.0, seed=0), expected, rtol=1e-10)


def test_only_a_sample_of_the_columns_moves():
    kernel = tf.constant(np.random.default_rng(0).normal(size=(5, 20)), tf.float32)
    moved = [np.any(toward_tight_frame(kernel, 0.1, 0.3, seed) != kernel, axis=0) for seed in (0, 1)]
    assert [np.sum(columns) for columns in moved] == [6, 6] and np.any(moved[0] != moved[1])


def test_many_steps_make_a_tight_frame():
    kernel = tf.constant(np.random.default_rng(0).normal(size=(3, 3, 4, 8)) / 18, tf.float32)
    for seed in range(400):
        kernel = toward_tight_frame(kernel, 0.2, 0.5, seed)
    columns = 3 * np.reshape(kernel, [-1, 8])
    np.testing.assert_allclose(columns.T @ columns, np.eye(8), atol=0.05)


@pytest.mark.parametrize("layer", [layers.DepthwiseConv2D, layers.SeparableConv2D])
def test_a_depthwise_kernel_has_a_column_for_each_channel_it_makes(layer):
    keras.utils.set_random_seed(0)
    extra = {} if layer is layers.DepthwiseConv2D else {"filters": 5}
    stack = [layers.Conv2D(4, 3), layer(kernel_size=3, depth_multiplier=2, **extra), layers.Flatten(), layers.Dense(3)]
    model = keras.Sequential([keras.Input((6, 6, 1)), *stack])
    trainer = ParsevalTrainer(model, seed=0, beta=0.2, fraction=0.5, precision="float32")
    trainer.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trainer.fit(X, Y, batch_size=1, epochs=40, verbose=0)
    kernel = next(variable for variable in model.layers[1].variables if variable.shape == (3, 3, 4, 2))
    columns = 3 * np.reshape(kernel, [9, 8])
    np.testing.assert_allclose(columns.T @ columns, np.eye(8), atol=0.05)


def test_what_is_changed_between_two_fits_counts():
    model = classifier()
    trainer = ParsevalTrainer(model, seed=0, beta=0.0, fraction=1.0)
    trainer.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for beta, moves in ((0.0, False), (0.05, True), (0.0, False)):
        trainer.beta, before = beta, model.get_weights()[2]
        trainer.fit(X, Y, verbose=0)
        assert np.any(model.get_weights()[2] != before) == moves


def test_training():
    plain, parseval = fit(classifier(), beta=0.0), fit(classifier(), beta=0.05)
    again, other = fit(classifier(), beta=0.05), fit(classifier(), beta=0.05, fraction=1.0)
    spread = {}
    for name, weights in (("plain", plain), ("parseval", parseval)):
        values = np.linalg.svd(weights[2], compute_uv=False)
        spread[name] = np.max(np.abs(values - 1))
    assert spread["parseval"] < spread["plain"]
    assert np.any(parseval[2] != other[2])
    for one, two in zip(parseval, again, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(("argument", "value"), [("beta", -1.0), ("fraction", 0.0), ("fraction", 1.5)])
def test_arguments_out_of_range(argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be .* got {value}"):
        ParsevalTrainer(classifier(), seed=0, **{argument: value})


TWO_DEVICES = """
    import json, sys
    import tensorflow as tf
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    from tests.trainers import test_deep_defense, test_parseval
    from tfrobust.trainers import DeepDefense

    def trained(strategy):
        with strategy.scope():
            parseval = test_parseval.fit(test_parseval.classifier(), beta=0.05)
            trainer = test_deep_defense.trainer_of(test_deep_defense.classifier(), DeepDefense(0.5, 4, 2, 3))
        test_deep_defense.fit(trainer, batch_size=4)
        return [w.tolist() for w in parseval], [w.tolist() for w in trainer.classifier.get_weights()]

    one, two = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    json.dump([trained(one), trained(two)], sys.stdout)
"""


def test_parseval_and_deep_defense_train_on_two_devices_as_on_one():
    command = [sys.executable, "-c", textwrap.dedent(TWO_DEVICES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = json.loads(done.stdout[done.stdout.index("[[") :])
    for found, expected in zip(two, one, strict=True):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
