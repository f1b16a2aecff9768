"""Functions compiled once for batches of any size, which spares tests the graphs of each."""

import tensorflow as tf


def for_any_batch(function, *examples):
    """`function` of tensors [B, ...] as one graph; `examples` tell its arguments' types and the sizes behind B."""
    examples = [tf.convert_to_tensor(example) for example in examples]
    signature = [tf.TensorSpec([None, *example.shape[1:]], example.dtype) for example in examples]
    return tf.function(function, input_signature=signature, autograph=False)
