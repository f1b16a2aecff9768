"""Trains a robust classifier of CIFAR-10, and tells how robust it is.

    python -m train.cifar10 --flagfile=train/flags/cifar10_cpu.flags
    python -m train.cifar10 --flagfile=train/flags/cifar10_paper.flags

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
    if name not in ("cifar10",):
        other = {"imagefolder": "train.imagenet"}.get(name, "train.mnist")
        raise ValueError(f"dataset must be cifar10 here, got {name!r}, which python -m {other} is for")
    data = data_flags.dataset_spec()
    build = architectures.builder(architectures.CIFAR10, data, eval_common.SEED.value)
    session.run(robustness.RobustnessTask(build))


if __name__ == "__main__":
    flags.FLAGS.set_default("dataset", "cifar10")
    eval_common.run(main)
