"""eval.evaluate: the newest checkpoint of a training folder, once or as training goes on."""

import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver

from eval import common, evaluate
from tfrobust import checkpoints, tf1_checkpoints
from tfrobust.models import mnist
from train import mnist as train_mnist

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUICK = ["--dataset=digits", "--num_eval_examples=20", "--k=2", "--a=0.05", "--epsilon=0.1"]
# The index last: it is what makes the others a checkpoint.
ENDINGS = ("data-00000-of-00001", "index")
NUMBER = r"\d+\.\d+"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished training run of four steps with checkpoints at 2 and 4."""
    folder = tmp_path_factory.mktemp("run") / "run"
    arguments = [
        *("train", f"--model_dir={folder}", *QUICK, "--initializer=he_normal", "--attacks=fgsm"),
        *("--max_num_training_steps=4", "--num_checkpoint_steps=2", "--num_summary_steps=1", "--num_output_steps=1"),
    ]
    with flagsaver.flagsaver():
        common.guarded(train_mnist.main, flags.FLAGS(arguments))
    return folder


def scalars(folder):
    """Values by (tag, step) of a folder's event files."""
    found = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.tensor.dtype == tf.float32.as_datatype_enum:
                    found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    return found


@flagsaver.flagsaver
def call(folder, *arguments):
    common.guarded(evaluate.main, flags.FLAGS(["evaluate", f"--model_dir={folder}", *QUICK, *arguments]))


def test_the_newest_checkpoint_once(run, capsys):
    call(run)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(f"Checkpoint {run}/checkpoint-4, evaluating ...")
    for line, pattern in zip(
        lines[2:],
        [f"natural: {NUMBER}%", f"adversarial: {NUMBER}%", f"avg nat loss: {NUMBER}", f"avg adv loss: {NUMBER}"],
        strict=True,
    ):
        assert re.fullmatch(pattern, line)
    written = scalars(run / "eval")
    assert written["accuracy_nat", 4] == pytest.approx(float(lines[2][9:-1]) / 100, abs=1e-4)
    assert written["xent_adv", 4] == pytest.approx(float(lines[5][14:]), abs=1e-4)
    # TensorBoard draws curves of one tag in one chart: these are those of the training.
    in_training = {tag for tag, _ in scalars(run)}
    assert {"accuracy_adv", "accuracy_nat", "xent_adv"} <= in_training & {tag for tag, _ in written}


def test_a_checkpoint_of_the_original(tmp_path, capsys):
    tf1_checkpoints.save(mnist.challenge_cnn(seed=0), tmp_path / "checkpoint", global_step=99900)
    call(tmp_path)
    assert "natural: " in capsys.readouterr().out and ("accuracy_adv", 99900) in scalars(tmp_path / "eval")


def test_watching(run, tmp_path):
    # Started before there is any checkpoint; a second one comes while it waits.
    command = [sys.executable, "-u", "-m", "eval.evaluate", f"--model_dir={tmp_path}", *QUICK, "--watch"]
    command.append("--poll_seconds=0.5")
    watcher = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output = ""
        for step in (2, 4):
            wanted = "No checkpoint yet, waiting ..." if step == 2 else "Waiting for the next checkpoint ..."
            while wanted not in output:
                output += watcher.stdout.read(1)
            for name in (checkpoints.ARCHITECTURE, *(f"checkpoint-{step}.{end}" for end in ENDINGS)):
                (tmp_path / f".{name}").write_bytes((run / name).read_bytes())
                (tmp_path / f".{name}").replace(tmp_path / name)
        end = time.monotonic() + 120
        while output.count("Waiting for the next checkpoint ...") < 2 and time.monotonic() < end:
            output += watcher.stdout.read(1)
        watcher.send_signal(signal.SIGTERM)  # SIGINT may be ignored by whoever runs the tests
        output += watcher.communicate(timeout=60)[0]
    finally:
        watcher.kill()
    assert watcher.returncode == 143 and "checkpoint-2, evaluating" in output and "checkpoint-4, evaluating" in output
    assert output.count("avg adv loss") == 2 and "Traceback" not in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model_dir="], "model_dir must be given"),
        ([], "model_dir must hold a checkpoint"),
        (["--a=-1"], "step_size must be"),
    ],
)
def test_bad_input_gets_one_line(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        call(tmp_path, *arguments)
    errors = capsys.readouterr().err
    assert stopped.value.code == 1 and message in errors and errors.count("\n") == 1
    assert not list(tmp_path.iterdir())
