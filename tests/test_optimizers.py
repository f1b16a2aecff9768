"""TensorFlow 1's momentum, and Adam in one operation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust.optimizers import FusedAdam, Momentum

DROP = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.01])


def updated(optimizer, steps=6):
    """A variable after gradients 1, 2, 3, ..."""
    variable = keras.Variable([1.0, -1.0])
    for step in range(steps):
        optimizer.apply([tf.constant([1.0, 2.0]) * (step + 1)], [variable])
    return variable.numpy()


def test_as_tensorflow_1():
    with tf.Graph().as_default():
        variable = tf.compat.v1.get_variable("v", initializer=tf.constant([1.0, -1.0]))
        step = tf.compat.v1.train.get_or_create_global_step()
        gradient = tf.constant([1.0, 2.0]) * tf.cast(step + 1, tf.float32)
        rate = tf.compat.v1.train.piecewise_constant(tf.cast(step, tf.int32), [2], [0.1, 0.01])
        optimizer = tf.compat.v1.train.MomentumOptimizer(rate, 0.9)
        update = optimizer.apply_gradients([(gradient, variable)], global_step=step)
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            for _ in range(6):
                session.run(update)
            expected = session.run(variable)
    np.testing.assert_allclose(updated(Momentum(DROP, 0.9)), expected, rtol=1e-6)
    assert np.abs(updated(keras.optimizers.SGD(DROP, momentum=0.9)) - expected).max() > 0.1


def test_as_sgd_while_the_rate_is_constant():
    expected = updated(keras.optimizers.SGD(0.05, momentum=0.5))
    np.testing.assert_allclose(updated(Momentum(0.05, 0.5)), expected, rtol=1e-6)


def test_configuration():
    assert Momentum.from_config(Momentum(0.05, 0.5).get_config()).momentum == 0.5
    with pytest.raises(ValueError, match=r"momentum must be at least 0 and below 1, got 1\.0"):
        Momentum(0.1, 1.0)


@pytest.mark.parametrize(
    "options",
    [
        {"learning_rate": DROP},
        {"learning_rate": 0.1, "beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
        {"learning_rate": 0.1, "amsgrad": True},
        {"learning_rate": 0.1, "gradient_accumulation_steps": 2},
        {"learning_rate": 0.1, "use_ema": True, "ema_momentum": 0.5, "weight_decay": 0.1, "clipnorm": 1.0},
    ],
)
def test_fused_adam_is_adam(options):
    fused, plain = FusedAdam(**options), keras.optimizers.Adam(**options)
    # Rounding of 1 - beta_2 ** step, at first 1e-3.
    np.testing.assert_allclose(updated(fused), updated(plain), rtol=1e-5, atol=1e-5)
    assert len(fused.variables) == len(plain.variables)
    for ours, theirs in zip(fused.variables, plain.variables, strict=True):
        # TensorFlow takes 1 - 0.999 in float32.
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_fused_adam_is_adam_for_sparse_gradients():
    def rows(optimizer):
        table = keras.Variable([[1.0], [2.0], [3.0]])
        gradient = tf.IndexedSlices(tf.constant([[1.0]]), tf.constant([1]), tf.constant([3, 1]))
        optimizer.apply([gradient], [table])
        return table.numpy()

    np.testing.assert_allclose(rows(FusedAdam(0.1)), rows(keras.optimizers.Adam(0.1)), rtol=1e-5)


def test_fused_adam_under_a_strategy():
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    results = []
    for kind in (FusedAdam, keras.optimizers.Adam):
        with strategy.scope():
            variable, optimizer = keras.Variable([1.0, -1.0]), kind(0.1)
            optimizer.build([variable])
        for _ in range(3):
            strategy.run(lambda o=optimizer, v=variable: o.apply([tf.constant([1.0, 2.0])], [v]))
        results.append(variable.numpy())
    np.testing.assert_array_equal(*results)
