"""Evaluation binaries, run from a checkout: `python -m eval.robust_accuracy --help`."""

from eval import quiet_tensorflow

quiet_tensorflow.load()
