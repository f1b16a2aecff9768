"""When the graphs of an evaluation's attacks have the weights as constants.

What is made of weights alone is then made once, not at every step of an attack, and oneDNN lays weights out once (see
`packed_dense`). On the challenge CNN in bfloat16 a step of 50 images takes a tenth less time, one of 100 a
twentieth, one of 200 hardly any. It costs up to half a second for each attack, whose graph is traced and optimised
with them, and several times the weights in memory.
"""

import math

import keras

BATCH_SIZE, NUM_EXAMPLES = 100, 1000
MOST_BYTES = 16 * 2**20


def pay(batch_size: int, num_examples: int) -> bool:
    """Whether an evaluation of so many images, so many at a time, is faster with them."""
    return batch_size <= BATCH_SIZE and num_examples >= NUM_EXAMPLES


def are_small(classifier: keras.Model) -> bool:
    """Whether constants have at most `MOST_BYTES`: all weights and, transposed, dense kernels, 2 bytes a number."""
    dense = [layer for layer in classifier.layers if isinstance(layer, keras.layers.Dense) and layer.built]
    variables = [*classifier.variables, *(layer.kernel for layer in dense)]
    return sum(2 * math.prod(variable.shape) for variable in variables) <= MOST_BYTES
