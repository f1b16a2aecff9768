"""What stops a run of the training binary, and how the same command goes on."""

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from tests.train.small_runs import ROOT, call, command, fails, logged_steps, run, weights
from tfrobust import checkpoints
from train import run_folder


def test_a_stopped_run_goes_on_to_the_same_weights(finished, tmp_path, capsys, monkeypatch):
    model_dir = tmp_path / "stopped"
    arguments = ("--max_num_training_steps=12", "--num_checkpoint_steps=3", "--attacks=fgsm")
    with subprocess.Popen(
        command(model_dir, *arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        for line in process.stdout:
            if line.startswith(b"step 3/12"):
                process.send_signal(signal.SIGINT)
                break
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGINT, errors
    assert b"stopped by SIGINT at step" in errors
    first = _newest_step(model_dir)
    assert 3 <= first < 12 and not (model_dir / "model.keras").exists()

    # Where it goes on, the signal comes at the end of the first step, and is heard at that of the second.
    with _terminated_after_a_step(monkeypatch), pytest.raises(SystemExit) as stopped:
        call(model_dir, *arguments)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM at step" in capsys.readouterr().err
    second = _newest_step(model_dir)
    assert second == min(first + 2, 12) and not (model_dir / "model.keras").exists()

    call(model_dir, *arguments)
    assert f"at step {second}" in capsys.readouterr().out.replace("step 12 of 12:", "at step 12")
    assert logged_steps(model_dir) == sorted({first, second, 2, 4, 6, 8, 10, 12})
    for ours, theirs in zip(weights(model_dir), weights(finished[0]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@contextlib.contextmanager
def _terminated_after_a_step(monkeypatch):
    save = run_folder.Save.on_train_batch_end
    with monkeypatch.context() as patch:
        patch.setattr(
            *(run_folder.Save, "on_train_batch_end"),
            lambda *rest, **more: (save(*rest, **more), os.kill(os.getpid(), signal.SIGTERM)),
        )
        yield


def _newest_step(model_dir):
    return checkpoints.step_of(checkpoints.newest(model_dir))


def test_a_killed_run_loses_only_the_steps_since_its_checkpoint(finished, tmp_path, capsys):
    model_dir = tmp_path / "killed"
    arguments = ("--max_num_training_steps=12", "--num_checkpoint_steps=1", "--attacks=fgsm")
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
    call(model_dir, *arguments)
    assert f"at step {steps[-1]}" in capsys.readouterr().out.replace("step 12 of 12:", "at step 12")
    for ours, theirs in zip(weights(model_dir), weights(finished[0]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_offered(finished, tmp_path, capsys, monkeypatch):
    model_dir = tmp_path / "damaged"
    shutil.copytree(finished[0], model_dir)
    data = model_dir / "checkpoint-12.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 255
    data.write_bytes(content)
    arguments = ("--max_num_training_steps=12", "--num_checkpoint_steps=3", "--attacks=fgsm")
    # As a process: TensorFlow's own warnings come when it ends.
    error = run(model_dir, *arguments, code=1).stderr
    assert "checkpoint-12 cannot be read" in error and error.count("\n") == 1
    offered = re.search(r": --checkpoint=(\S+checkpoint-9)$", error.strip())[1]
    # Stopped before it has replaced the damaged one, it says that it must go around it once more.
    with _terminated_after_a_step(monkeypatch), pytest.raises(SystemExit):
        call(model_dir, *arguments, f"--checkpoint={offered}")
    said = capsys.readouterr()
    assert "resumed at step 9" in said.out and (model_dir / "checkpoint-12.index").exists()
    offered = re.search(r"at step (\d+), which is saved: the same command with (\S+-\1) goes on", said.err)
    call(model_dir, *arguments, offered[2])
    for ours, theirs in zip(weights(model_dir), weights(finished[0]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_a_killed_save_left_is_removed(tmp_path):
    model_dir = tmp_path / "killed"
    arguments = ("--architecture=mlp", "--dropout=0", "--num_checkpoint_steps=1", "--attacks=fgsm")
    call(model_dir, "--max_num_training_steps=2", *arguments)
    orphan = model_dir / "checkpoint-1.data-00000-of-00001"
    (model_dir / "checkpoint-1.index").unlink()
    assert orphan.exists()
    call(model_dir, "--max_num_training_steps=3", *arguments)
    assert sorted(path.name for path in model_dir.glob("checkpoint-*.data*")) == [
        f"checkpoint-{step}.data-00000-of-00001" for step in (2, 3)
    ]


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path, capsys):
    model_dir = tmp_path / "full"
    call(model_dir, "--max_num_training_steps=2", "--num_checkpoint_steps=2", "--attacks=fgsm")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A file may not grow beyond 20 MB, and a checkpoint has 50: the write fails as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, hard))
    try:
        error = fails(model_dir, capsys, "--max_num_training_steps=4", "--num_checkpoint_steps=2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "checkpoint-4 cannot be written" in error and "checkpoint-2, is intact" in error
    assert not list(model_dir.glob("checkpoint-4*"))
    assert checkpoints.load_classifier(model_dir).count_params() == 3_274_634
