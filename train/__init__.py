"""Training binaries, run from a checkout: `python -m train.mnist --help`."""

from eval import quiet_tensorflow

quiet_tensorflow.load()
