"""TensorFlow 1's momentum."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust.optimizers import Momentum

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
