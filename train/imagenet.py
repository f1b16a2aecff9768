"""Trains a classifier of your own images, kept as ImageNet is, and tells how robust it is.

    python -m train.imagenet --data_dir=/data/imagenet --architecture=resnet18 --model_dir=models/resnet18

--data_dir holds train and val, each with a folder for every class. Images are decoded as they are needed; what is
evaluated, --num_eval_examples of val, is held in memory. A run that was stopped goes on where it was when the same
command is given again.
"""

from absl import flags

from eval import common as eval_common
from eval import data_flags
from tfrobust import image_folders
from train import architectures, common, robustness, session

flags.adopt_module_key_flags(common)


def main() -> None:
    """Trains, saves, evaluates."""
    if data_flags.DATASET.value != image_folders.NAME:
        raise ValueError(f"dataset must be {image_folders.NAME} here, got {data_flags.DATASET.value!r}")
    data = data_flags.dataset_spec()
    build = architectures.builder(architectures.IMAGENET, data, eval_common.SEED.value)
    session.run(robustness.RobustnessTask(build))


if __name__ == "__main__":
    flags.FLAGS.set_default("dataset", image_folders.NAME)
    eval_common.run(main)
