"""Trains a robust classifier of handwritten digits, and tells how robust it is.

    python -m train.mnist --flagfile=train/flags/quickstart.flags

A run that was stopped goes on where it was when the same command is given again.
"""

from absl import flags

from eval import common as eval_common
from eval import data_flags
from train import architectures, common, robustness, session

flags.adopt_module_key_flags(common)


def main() -> None:
    """Trains, saves, evaluates."""
    name = data_flags.DATASET.value
    if name not in ("mnist", "digits"):
        other = {"cifar10": "train.cifar10"}.get(name, "train.imagenet")
        raise ValueError(f"dataset must be mnist or digits here, got {name!r}, which python -m {other} is for")
    data = data_flags.dataset_spec()
    build = architectures.builder(architectures.MNIST, data, eval_common.SEED.value)
    session.run(robustness.RobustnessTask(build))


if __name__ == "__main__":
    eval_common.run(main)
