"""Benchmarks, run from a checkout: `python -m tests.benchmarks.pgd --help`."""

from eval import quiet_tensorflow

quiet_tensorflow.load()
