"""Trains a robust classifier of handwritten digits, and tells how robust it is.

    python -m train.mnist --flagfile=train/flags/quickstart.flags

A run that was stopped goes on where it was when the same command is given again.
"""

from absl import flags

from eval import common as eval_common
from tfrobust import datasets
from tfrobust.models import mnist
from train import common, session

flags.adopt_module_key_flags(common)


def main() -> None:
    """Trains, saves, evaluates."""
    spec = datasets.spec(eval_common.DATASET.value)

    def build():
        return mnist.challenge_cnn(
            seed=eval_common.SEED.value,
            input_shape=spec.image_shape,
            num_classes=spec.num_classes,
            initializer=common.INITIALIZER.value,
        )

    session.run(build)


if __name__ == "__main__":
    eval_common.run(main)
