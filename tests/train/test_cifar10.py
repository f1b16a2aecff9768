"""CIFAR-10's training binary: the original's recipe in small, and what it refuses."""

import json
import pathlib

import keras
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from eval import common
from tfrobust.models.small import small_cnn
from train import cifar10, mnist

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_papers_recipe_in_small(tmp_path, tfds_data_dir):
    # The flagfile itself, on the narrow network and for three updates.
    arguments = [
        *("train", f"--flagfile={ROOT / 'train/flags/cifar10_paper.flags'}", f"--model_dir={tmp_path}"),
        *("--architecture=narrow", "--max_num_training_steps=3", "--training_batch_size=8", "--num_output_steps=1"),
        *("--k=2", "--num_eval_examples=8", "--step_size_schedule=[[0, 0.1], [2, 0.01]]", "--num_summary_steps=1"),
        *("--attacks=fgsm", f"--data_dir={tfds_data_dir}"),
    ]
    with flagsaver.flagsaver():
        common.guarded(cifar10.main, flags.FLAGS(arguments))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["threat_model"]["epsilon"] == pytest.approx(8 / 255) and report["num_examples"] == 8
    recorded = (tmp_path / "flags.txt").read_text()
    assert "--step_size_schedule=[[0, 0.1], [2, 0.01]]" in recorded and "--attack_batch_norm=batch" in recorded
    model = keras.models.load_model(tmp_path / "model.keras")
    assert model.count_params() < 500_000
    # Three updates of a moving average with 0.9, and those that each gradient of the attack makes.
    moved = [v.numpy() for v in model.variables if v.path.endswith("moving_variance")]
    assert moved and all(np.isfinite(value).all() and np.abs(value - 1).max() > 1e-3 for value in moved)


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (cifar10.main, ["--dataset=mnist"], "dataset must be cifar10 here, got 'mnist'"),
        (mnist.main, ["--dataset=cifar10"], "dataset must be mnist or digits here, got 'cifar10'"),
        (mnist.main, ["--dataset=mnist", "--architecture=mlp", "--dropout=0.5"], "dropout must be 0 with"),
        (cifar10.main, ["--dataset=cifar10", "--architecture=vgg"], "architecture must be one of wide, narrow, small"),
        (mnist.main, ["--dataset=digits"], "model_dir must be given"),
    ],
)
@flagsaver.flagsaver
def test_what_does_not_fit_is_refused(capsys, main, arguments, message):
    with pytest.raises(SystemExit) as exit_:
        common.guarded(main, flags.FLAGS(["binary", *arguments]))
    assert exit_.value.code == 1 and message in capsys.readouterr().err


def test_small_cnn():
    model = small_cnn(seed=0)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == 391_466
    x = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(small_cnn(seed=0)(x), model(x))
    assert model(x).shape == (2, 10) and not np.allclose(small_cnn(seed=1)(x), model(x))
    with pytest.raises(ValueError, match="filters must be one or more numbers, got"):
        small_cnn(seed=0, filters=())
