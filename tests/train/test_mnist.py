"""The training binary as a user runs it: processes, signals, files."""

import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from absl import app, flags
from absl.testing import flagsaver

from eval import common, curve_files
from tfrobust import checkpoints, precision
from train import mnist, session

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Small enough to take seconds, with every part that has a state: schedules, warm-up, weight average.
SMALL = [
    "--dataset=digits",
    "--k=2",
    "--a=0.1",
    "--epsilon=0.2",
    "--training_batch_size=16",
    "--num_output_steps=2",
    "--num_summary_steps=2",
    "--initializer=he_normal",
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


def weights(model_dir):
    import keras

    return keras.models.load_model(model_dir / "model.keras").get_weights()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder and output of a whole run of 12 steps."""
    model_dir = tmp_path_factory.mktemp("runs") / "whole"
    return model_dir, run(model_dir, "--max_num_training_steps=12", "--num_checkpoint_steps=3")


def test_leaves_what_the_readme_promises(finished):
    model_dir, done = finished
    names = {path.name for path in model_dir.iterdir()}
    assert {"flags.txt", "model.keras", "saved_model", "report.json", "adversarial_examples.png"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    # The newest three checkpoints, the final one among them.
    assert sorted(n for n in names if n.endswith(".index")) == [f"checkpoint-{n}.index" for n in (12, 6, 9)]
    report = json.loads((model_dir / "report.json").read_text())
    assert report["num_examples"] == 20 and 0 <= report["robust_accuracy"] <= report["clean_accuracy"] <= 1
    assert re.search(r"^PGD-40 +\d+\.\d\d%", done.stdout, re.M)
    assert re.search(r"^step 12/12  loss \d.* natural \d.* adversarial \d.* examples/s", done.stdout, re.M)
    assert re.search(r"^trained 12 steps in \d+:\d\d minutes$", done.stdout, re.M)
    assert done.stderr == ""


def test_writes_scalars_and_pictures_for_tensorboard(finished):
    model_dir, _ = finished
    tags = {}
    for path in model_dir.glob("events.out.tfevents*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                tags.setdefault(value.tag, []).append(event.step)
    assert tags["accuracy_adv"] == tags["xent_adv"] == [2, 4, 6, 8, 10, 12]
    assert tags["natural_adversarial_difference"] == [3, 6, 9, 12]
    assert _logged_steps(model_dir) == [2, 4, 6, 8, 10, 12]


def _logged_steps(model_dir):
    rows = curve_files.read(model_dir / curve_files.TRAINING_FILE, curve_files.TRAINING_COLUMNS)
    assert all(row["xent"] > 0 and 0 <= row["adversarial_accuracy"] <= 1 and row["learning_rate"] >= 0 for row in rows)
    seconds = [row["seconds"] for row in rows]
    assert seconds[0] > 0 and seconds == sorted(seconds)
    return [row["step"] for row in rows]


def test_is_reproducible_from_its_recorded_flags(finished, tmp_path):
    model_dir, _ = finished
    again = tmp_path / "again"
    arguments = [f"--flagfile={model_dir / 'flags.txt'}", f"--model_dir={again}"]
    done = subprocess.run(
        [sys.executable, "-m", "train.mnist", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for ours, theirs in zip(weights(again), weights(model_dir), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_goes_on_to_the_same_weights(finished, tmp_path, number):
    model_dir = tmp_path / "stopped"
    arguments = ("--max_num_training_steps=12", "--num_checkpoint_steps=3")
    with subprocess.Popen(
        command(model_dir, *arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        for line in process.stdout:
            if line.startswith(b"step 2/12"):
                process.send_signal(number)
                break
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 128 + number, errors
    assert f"stopped by {signal.Signals(number).name} at step".encode() in errors
    stopped_at = max(int(p.stem.split("-")[1]) for p in model_dir.glob("checkpoint-*.index"))
    assert 2 <= stopped_at < 12 and not (model_dir / "model.keras").exists()

    done = run(model_dir, *arguments)
    assert f"resumed at step {stopped_at}" in done.stdout
    assert _logged_steps(model_dir) == [2, 4, 6, 8, 10, 12]
    for ours, theirs in zip(weights(model_dir), weights(finished[0]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_killed_run_loses_only_the_steps_since_its_checkpoint(finished, tmp_path):
    model_dir = tmp_path / "killed"
    arguments = ("--max_num_training_steps=12", "--num_checkpoint_steps=1")
    with subprocess.Popen(
        command(model_dir, *arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        deadline = time.time() + 120
        while not (model_dir / "checkpoint-2.index").exists() and time.time() < deadline:
            time.sleep(0.05)
        process.kill()
    steps = sorted(int(p.stem.split("-")[1]) for p in model_dir.glob("checkpoint-*.index"))
    assert steps and len(steps) <= 4
    assert checkpoints.load_classifier(model_dir).count_params() == 3_274_634
    assert f"at step {steps[-1]}" in run(model_dir, *arguments).stdout.replace("step 12 of 12:", "at step 12")
    for ours, theirs in zip(weights(model_dir), weights(finished[0]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_offered(finished, tmp_path):
    model_dir = tmp_path / "damaged"
    shutil.copytree(finished[0], model_dir)
    data = model_dir / "checkpoint-12.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    arguments = ("--max_num_training_steps=12", "--num_checkpoint_steps=3")
    done = run(model_dir, *arguments, code=1)
    assert done.stderr.count("\n") == 1 and "checkpoint-12 cannot be read" in done.stderr
    offered = re.search(r"--checkpoint=(\S+checkpoint-9)$", done.stderr.strip())[1]
    done = run(model_dir, *arguments, f"--checkpoint={offered}")
    assert "resumed at step 9" in done.stdout
    for ours, theirs in zip(weights(model_dir), weights(finished[0]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epsilon=-1"], "epsilon must be"),
        (["--epsilon=8"], "8/255"),
        (["--dataset=mnist", "--data_dir=/nonexistent"], "--dataset=digits"),
        (["--num_eval_examples=361"], "num_examples must be"),
        (["--held_out=2000"], "held_out must"),
        (["--epochs=0"], "epochs must be a number above 0, got 0.0"),
        (["--epochs=nan"], "epochs must be a number above 0, got nan"),
        (["--epochs=inf"], "epochs must be a number above 0, got inf"),
        (["--store_adv_path=x.png"], ".npz"),
        (["--checkpoint=elsewhere/checkpoint-3"], "checkpoint must be one in"),
        (["--suite=min_norm"], "suite must be one of"),
        (["--attacks=fgsn"], "did you mean 'fgsm'?"),
    ],
)
def test_bad_input_gets_one_clear_line_and_writes_nothing(tmp_path, capsys, arguments, words):
    model_dir = tmp_path / "nothing"
    argv = command(model_dir, "--max_num_training_steps=2", *arguments)[2:]
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
        common.guarded(mnist.main, flags.FLAGS(argv))
    errors = capsys.readouterr().err
    assert stopped.value.code == 1 and errors.startswith("error: ") and errors.count("\n") == 1 and words in errors
    assert not model_dir.exists()


@pytest.mark.parametrize("argument", ["--no_such_flag", "--epsilon=lots", "--dataset=imagenet", "surplus"])
def test_wrong_flags_are_named(tmp_path, argument):
    with (
        flagsaver.flagsaver(),
        pytest.raises((flags.Error, app.UsageError), match=argument.strip("-").partition("=")[0]),
    ):
        common.guarded(mnist.main, flags.FLAGS(command(tmp_path / "nothing", argument)[2:]))


def test_a_wrong_flag_ends_the_program_without_a_traceback(tmp_path):
    done = run(tmp_path / "nothing", "--epsilonn=0.3", code=1)
    assert done.stderr.startswith("error: Unknown command line flag 'epsilonn'") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path):
    model_dir = tmp_path / "full"
    arguments = ("--max_num_training_steps=2", "--num_checkpoint_steps=2")
    run(model_dir, *arguments)
    done = subprocess.run(
        command(model_dir, "--max_num_training_steps=4", "--num_checkpoint_steps=2"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        # A file may not grow beyond 20 MB, and a checkpoint has 50: the write fails as on a full disk.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, 20_000_000)),
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "checkpoint-4 cannot be written" in last and "checkpoint-2, is intact" in last
    assert not list(model_dir.glob("checkpoint-4*"))
    assert checkpoints.load_classifier(model_dir).count_params() == 3_274_634


def test_a_run_is_not_continued_with_other_flags(finished):
    done = run(finished[0], "--max_num_training_steps=12", "--a=0.05", code=1)
    assert "--a was 0.1 and is 0.05" in done.stderr


def test_a_run_is_not_cut(finished, capsys):
    record = (finished[0] / "flags.txt").read_text()
    assert f"--precision={precision.resolve('auto')}" in record
    with flagsaver.flagsaver(), pytest.raises(SystemExit):
        common.guarded(mnist.main, flags.FLAGS(command(finished[0], "--max_num_training_steps=6")[2:]))
    assert "max_num_training_steps must be at least 12" in capsys.readouterr().err
    assert (finished[0] / "flags.txt").read_text() == record and (finished[0] / "model.keras").exists()


def test_a_record_of_what_auto_was_not_known_to_be(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "old")
    record = tmp_path / "old" / "flags.txt"
    record.write_text(re.sub("--precision=.*", "--precision=auto", record.read_text()))
    with flagsaver.flagsaver():
        flags.FLAGS(command(tmp_path / "old", "--max_num_training_steps=12")[2:])
        session.check_model_dir(tmp_path / "old")
        other = {"bfloat16": "float32", "float32": "bfloat16"}[precision.resolve("auto")]
        flags.FLAGS.precision = other
        with pytest.raises(ValueError, match=rf"--precision was \w+ and is {other}"):
            session.check_model_dir(finished[0])


def test_mirrored_training_on_two_devices(tmp_path):
    script = (
        "import sys, tensorflow as tf\n"
        "cpu = tf.config.list_physical_devices('CPU')[0]\n"
        "tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)\n"
        "from eval import common\nfrom train import mnist\n"
        "common.run(mnist.main)\n"
    )
    model_dir = tmp_path / "mirrored"
    arguments = command(model_dir, "--max_num_training_steps=4", "--num_checkpoint_steps=2", "--distribution=mirrored")[
        3:
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def train():
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, weights(model_dir)

    output, trained = train()
    assert "2 replicas" in output
    for path in model_dir.glob("checkpoint-4*"):
        path.unlink()
    output, again = train()
    assert "resumed at step 2" in output
    # Two devices add up in any order.
    for ours, theirs in zip(again, trained, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
