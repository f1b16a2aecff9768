"""The export binary: every kind of stored classifier gets to a .keras file and a SavedModel of the same function."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from eval import common, export
from tfrobust import export as export_library
from tfrobust import loading, tf1_checkpoints
from tfrobust.models import cifar10

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def classifier():
    return cifar10.challenge_resnet(seed=0, filters=(4, 4, 8, 12), units=1)


@pytest.fixture(scope="module")
def checkpoint(classifier, tmp_path_factory):
    return tf1_checkpoints.save(classifier, tmp_path_factory.mktemp("secret") / "checkpoint", global_step=70000)


def images():
    return np.random.default_rng(0).random((3, 32, 32, 3), np.float32)


def run(*arguments):
    with flagsaver.flagsaver():
        common.guarded(export.main, flags.FLAGS(["export", *arguments]))


def fails(capsys, *arguments):
    """The one line that the binary prints before it exits with code 1."""
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    errors = capsys.readouterr().err
    assert stopped.value.code == 1 and errors.startswith("error: ") and errors.count("\n") == 1
    return errors


def test_checkpoint_of_a_challenge_to_a_folder(classifier, checkpoint, tmp_path):
    command = [sys.executable, "-m", "eval.export", f"--model={checkpoint}", f"--output={tmp_path / 'served'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    first, *written = done.stdout.splitlines()
    count = f"{classifier.count_params():,} parameters"
    assert first == f"cifar10_challenge_resnet, {count}, 32x32x3 pixels in [0, 1] to logits, written to"
    expected = classifier(images(), training=False)
    assert len(written) == 2
    for line in written:
        loaded = loading.load_classifier(line.strip())
        np.testing.assert_allclose(loaded(images()), expected, atol=1e-5)
    assert isinstance(loading.load_classifier(tmp_path / "served"), keras.Model)


def test_folder_to_keras_file(classifier, checkpoint, tmp_path, capsys):
    run(f"--model_dir={pathlib.Path(checkpoint).parent}", f"--output={tmp_path / 'secret.keras'}")
    assert capsys.readouterr().out.endswith(f"written to\n  {tmp_path / 'secret.keras'}\n")
    loaded = keras.models.load_model(tmp_path / "secret.keras")
    np.testing.assert_allclose(loaded(images()), classifier(images(), training=False), atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.keras"]


def test_a_saved_model_is_refused(classifier, tmp_path, capsys):
    export_library.export_saved_model(classifier, tmp_path / "1")
    message = fails(capsys, f"--model={tmp_path / '1'}", f"--output={tmp_path / 'a.keras'}")
    assert "is a SavedModel, which has a function and no layers" in message
    assert not (tmp_path / "a.keras").exists()


def test_a_softmax_is_refused(tmp_path, capsys):
    keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10), keras.layers.Softmax()]
    ).save(tmp_path / "softmax.keras")
    for output in ("served", "out.keras"):
        message = fails(capsys, f"--model={tmp_path / 'softmax.keras'}", f"--output={tmp_path / output}")
        assert "classifier must return logits" in message
    assert [path.name for path in tmp_path.iterdir()] == ["softmax.keras"]


def test_bad_input_gets_one_clear_line(checkpoint, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert "output must be given" in fails(capsys, f"--model={checkpoint}")
    assert "model must be given" in fails(capsys, f"--output={tmp_path / 'a.keras'}")
    assert "cannot be written" in fails(capsys, f"--model={checkpoint}", f"--output={tmp_path / 'file' / 'a.keras'}")
    assert "none does not exist" in fails(capsys, f"--model={tmp_path / 'none'}", f"--output={tmp_path}")
