"""Tests, and benchmarks (`python -m tests.benchmarks.pgd --help`), run from a checkout."""

from eval import quiet_tensorflow

# Before any other import of TensorFlow: its kernels as in the binaries, and none of its greetings in a report.
quiet_tensorflow.load()

import tensorflow as tf  # noqa: E402

# As the binaries do before they begin, which they cannot once a test has used the GPU.
for gpu in tf.config.list_physical_devices("GPU"):
    tf.config.experimental.set_memory_growth(gpu, True)
