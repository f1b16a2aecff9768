"""Trains a robust classifier of handwritten digits, and tells how robust it is.

    python -m train.mnist --flagfile=train/flags/quickstart.flags

A run that was stopped goes on where it was when the same command is given again.
"""

from absl import flags

from eval import common as eval_common
from tfrobust import datasets
from train import architectures, common, robustness, session

flags.adopt_module_key_flags(common)


def main() -> None:
    """Trains, saves, evaluates."""
    data = datasets.spec(eval_common.DATASET.value)
    if data.name == "cifar10":
        raise ValueError("dataset must be mnist or digits here, got 'cifar10', which python -m train.cifar10 is for")
    build = architectures.builder(architectures.MNIST, data, eval_common.SEED.value)
    session.run(robustness.RobustnessTask(build))


if __name__ == "__main__":
    eval_common.run(main)
