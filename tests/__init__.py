"""Tests, and benchmarks (`python -m tests.benchmarks.pgd --help`), run from a checkout."""

from eval import quiet_tensorflow

# Before any other import of TensorFlow: its kernels as in the binaries, and none of its greetings in a report.
quiet_tensorflow.load()
