"""Short runs of train.mnist, as a process and in this one, and what they leave."""

import pathlib
import subprocess
import sys

import keras
import pytest
from absl import flags
from absl.testing import flagsaver

from eval import common, curve_files
from train import mnist

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Small enough to take seconds, with every part that has a state: schedules, warm-up, weight average.
SMALL = [
    "--dataset=digits",
    "--k=2",
    "--a=0.1",
    "--epsilon=0.2",
    "--training_batch_size=16",
    "--num_output_steps=3",
    "--num_summary_steps=2",
    "--initializer=he_normal",
    "--dropout=0.2",
    "--learning_rate=1e-3",
    "--learning_rate_warmup=0.3",
    "--learning_rate_decay=0.5",
    "--epsilon_warmup=0.4",
    "--weight_average=0.9",
    "--num_eval_examples=20",
]


def command(model_dir, *arguments):
    return [sys.executable, "-m", "train.mnist", f"--model_dir={model_dir}", *SMALL, *arguments]


def run(model_dir, *arguments, code=0):
    done = subprocess.run(command(model_dir, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def call(model_dir, *arguments):
    """As `run`, but in this process, which spares TensorFlow's start."""
    with flagsaver.flagsaver():
        common.guarded(mnist.main, flags.FLAGS(command(model_dir, *arguments)[2:]))


def fails(model_dir, capsys, *arguments):
    """The one line that such a call ends with."""
    with pytest.raises(SystemExit) as stopped:
        call(model_dir, *arguments)
    errors = capsys.readouterr().err
    assert stopped.value.code == 1 and errors.count("\n") == 1
    return errors


def weights(model_dir):
    return keras.models.load_model(model_dir / "model.keras").get_weights()


def logged_steps(model_dir):
    """The steps of training.csv, whose numbers make sense."""
    rows = curve_files.read(model_dir / curve_files.TRAINING_FILE, curve_files.TRAINING_COLUMNS)
    assert all(row["xent"] > 0 and 0 <= row["adversarial_accuracy"] <= 1 and row["learning_rate"] >= 0 for row in rows)
    seconds = [row["seconds"] for row in rows]
    assert seconds[0] > 0 and seconds == sorted(seconds)
    return [row["step"] for row in rows]
