"""What training flags stand for, where no run of a binary would show it."""

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from tfrobust import datasets
from tfrobust.augmentation import Augmentation
from train import augmentation_flags, common, mnist, optimizer_flags, recorded_flags, session

assert mnist  # its import defines the flags


@pytest.fixture(autouse=True)
def own_flags():
    with flagsaver.flagsaver():
        yield


def test_augmentation_of_the_flags():
    turned = ["--random_rotation=10", "--random_zoom=0.2", "--random_elastic=0.5", "--random_interpolation=nearest"]
    flags.FLAGS(["train.mnist", *turned, "--random_shift=3", "--random_flip"])
    expected = Augmentation(rotation=10, zoom=0.2, elastic=0.5, shift=3, flip=True, interpolation="nearest")
    assert augmentation_flags.augmentation() == expected


@pytest.mark.parametrize(
    "flag", ["--random_rotation=30", "--random_zoom=0.5", "--random_elastic=3", "--random_shift=2", "--random_flip"]
)
def test_training_batches_are_augmented(flag):
    flags.FLAGS(["train.mnist", "--training_batch_size=8", "--max_num_training_steps=1", flag])
    train = datasets.Arrays(np.random.default_rng(0).random((8, 6, 6, 1), np.float32), np.arange(8))
    ((x, y),) = session.training_batches(train, 0)
    assert np.abs(x - train.images[y.numpy()]).max() > 0.1


def test_a_schedule_of_one_rate():
    flags.FLAGS(["train.mnist", "--step_size_schedule=[[0, 0.1]]"])
    assert float(optimizer_flags.optimizer(10).learning_rate) == pytest.approx(0.1)


def test_a_study_records_flags_that_are_not_at_their_default():
    flags.FLAGS(["train.mnist", "--random_shift=2", "--step_decay=1.0", "--precision=float32"])
    lines = recorded_flags.flag_lines(changed_only=True)
    assert "--random_shift=2" in lines and "--precision=float32" in lines
    assert {"--step_decay=1.0", "--random_zoom=0.0"} <= set(recorded_flags.flag_lines()) and len(lines) < 5


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        (["--epochs=4"], 8),
        (["--epochs=4", "--drop_tail"], 4),
        (["--epochs=0.001"], 1),
        (["--epochs=4", "--max_num_training_steps=3"], 3),
        (["--max_num_training_steps=3", "--epochs=4"], 8),
    ],
)
def test_the_last_of_epochs_and_steps_counts_and_is_recorded_as_steps(arguments, steps):
    flags.FLAGS(["train.mnist", "--training_batch_size=1000", *arguments])
    common.resolve_epochs(1637)
    assert common.MAX_STEPS.value == steps
    lines = recorded_flags.flag_lines()
    assert f"--max_num_training_steps={steps}" in lines and not any("epochs" in line for line in lines)


def test_a_replay_does_not_write_the_examples_of_the_run_again():
    flags.FLAGS(["train.mnist", "--store_adv_path=attack.npz"])
    assert not any("attack.npz" in line for line in recorded_flags.flag_lines())
