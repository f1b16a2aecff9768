"""What replicas of a training must agree on."""

from collections.abc import Sequence

import keras
import tensorflow as tf


def average_over_replicas(variables: Sequence[keras.Variable]) -> None:
    """Sets those of `variables` that are floating point numbers to their mean over all replicas; does nothing of one.

    Keras leaves each replica the moving statistics of its own part of the batches, and saves those of the first:
    replicas would attack different classifiers, and a resumed run would not be the one that was stopped.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return
    for variable in variables:
        if tf.as_dtype(variable.dtype).is_floating:
            variable.assign(context.all_reduce(tf.distribute.ReduceOp.MEAN, tf.convert_to_tensor(variable.value)))
