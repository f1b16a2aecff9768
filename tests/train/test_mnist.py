"""The training binary as a user runs it: what it leaves, and what it refuses."""

import csv
import json
import re
import shutil
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver

from eval import common
from tests.train.small_runs import ROOT, call, command, fails, logged_steps, run, weights
from tfrobust import precision
from train import mnist, recorded_flags, run_folder


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
    assert logged_steps(model_dir) == [2, 4, 6, 8, 10, 12]


def test_is_reproducible_from_its_recorded_flags(finished, tmp_path):
    model_dir, _ = finished
    # In this process there are flags of other programs too.
    recorded = {flag.partition("=")[0].removeprefix("--") for flag in (model_dir / "flags.txt").read_text().split("\n")}
    known = {flag.name for flag in flags.FLAGS.get_key_flags_for_module(mnist)}
    assert {name for name in recorded - known if name.removeprefix("no") not in known} == {""}
    again = tmp_path / "again"
    with flagsaver.flagsaver():
        common.guarded(
            mnist.main, flags.FLAGS(["train", f"--flagfile={model_dir / 'flags.txt'}", f"--model_dir={again}"])
        )
    for ours, theirs in zip(weights(again), weights(model_dir), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epsilon=-1"], "epsilon must be"),
        (["--epsilon=8"], "8/255"),
        (["--training_epsilon=-0.1"], "training_epsilon must be a finite number from 0 up, got -0.1"),
        (["--dataset=mnist", "--data_dir=/nonexistent"], "--dataset=digits"),
        (["--num_eval_examples=361"], "num_examples must be"),
        (["--held_out=2000"], "held_out must"),
        (["--drop_tail", "--training_batch_size=2000"], "training_batch_size must be at most the 1437 examples"),
        (["--random_rotation=nan"], "rotation must be"),
        (["--epochs=0"], "epochs must be a number above 0, got 0.0"),
        (["--epochs=nan"], "epochs must be a finite number, got nan"),
        (["--epochs=1e30"], "epochs must make fewer than 2^31 steps, got 1e+30"),
        (["--weight_average=nan"], "weight_average must be a finite number, got nan"),
        (["--learning_rate=0"], "learning_rate must be above 0"),
        (["--learning_rate_warmup=0.6"], "learning_rate_warmup and learning_rate_decay must sum to at most 1, got 0.6"),
        (["--store_adv_path=x.png"], ".npz"),
        (["--architecture=mlp", "--dropout=0", "--capacity=4"], "capacity must be 1 with --architecture=mlp, got 4"),
        (["--checkpoint=elsewhere/checkpoint-3"], "checkpoint must be one in"),
        (["--suite=min_norm"], "suite must be one of"),
        (["--attacks=fgsn"], "did you mean 'fgsm'?"),
    ],
)
def test_bad_input_gets_one_clear_line_and_writes_nothing(tmp_path, capsys, arguments, words):
    model_dir = tmp_path / "nothing"
    error = fails(model_dir, capsys, "--max_num_training_steps=2", *arguments)
    assert error.startswith("error: ") and words in error and not model_dir.exists()


@pytest.mark.parametrize("argument", ["--no_such_flag", "--epsilon=lots", "--dataset=imagenet"])
def test_wrong_flags_are_named(tmp_path, argument):
    with pytest.raises(flags.Error, match=argument.strip("-").partition("=")[0]):
        call(tmp_path / "nothing", argument)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epsilonn=0.3"], "Unknown command line flag 'epsilonn'"),
        (["--a=0.05", "--steps=0"], "flag --steps=0: 0 is not a positive integer"),
        (["--k=0"], "flag --k=0: 0 is not a positive integer"),
        (["--epsilon", "0.3", "0.4"], "unexpected argument '0.4': flags are written --name=value"),
    ],
)
def test_a_wrong_command_line_ends_the_program_with_one_line(tmp_path, arguments, words):
    done = run(tmp_path / "nothing", *arguments, code=1)
    assert done.stderr.startswith(f"error: {words}") and done.stderr.count("\n") == 1 and not done.stdout
    assert not list(tmp_path.iterdir())


def test_mirrored_on_a_single_device_is_told(tmp_path, caplog):
    call(tmp_path / "run", "--max_num_training_steps=1", "--attacks=fgsm", "--distribution=mirrored")
    assert "mirrored on a single device, /device:CPU:0: there is no other one" in caplog.text


@pytest.mark.parametrize(("given", "measured"), [("bfloat16", "auto"), ("float32", "float32")])
def test_the_table_is_measured_in_a_precision_that_is_not_weaker(tmp_path, monkeypatch, given, measured):
    asked, evaluate = [], common.evaluation.evaluate

    def counted(*arguments, precision, **options):
        asked.append(precision)
        return evaluate(*arguments, precision=precision, **options)

    monkeypatch.setattr(common.evaluation, "evaluate", counted)
    call(tmp_path / "run", "--architecture=mlp", "--dropout=0", "--max_num_training_steps=1", f"--precision={given}")
    assert asked == [measured]


def test_the_threshold_network_trains_through_windows_on_deformed_images(tmp_path):
    flagged = ["--architecture=thresholds", "--dropout=0", "--relu_window_share=0.5", "--random_elastic=0.8"]
    call(tmp_path / "run", *flagged, "--max_num_training_steps=2")
    saved = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert saved.name == "threshold_cnn" and saved.count_params() == 1_677_162


def test_a_run_is_not_continued_with_other_flags(finished, capsys):
    error = fails(finished[0], capsys, "--max_num_training_steps=12", "--a=0.05")
    assert "--a was 0.1 and is 0.05" in error


def test_what_the_data_decides_may_be_written_out_later(tmp_path):
    written = ["--dataset=digits", "--epsilon=0.3", "--k=40", "--a=0.01"]
    for before, after in (
        (written[:1], written),
        (written, written[:1]),
        (written, ["--dataset=digits", "--steps=40"]),
    ):
        with flagsaver.flagsaver():
            flags.FLAGS(["train.mnist", *before])
            lines = recorded_flags.flag_lines()
        with flagsaver.flagsaver():
            flags.FLAGS(["train.mnist", *after])
            recorded_flags.check_same_run(tmp_path, lines)
            flags.FLAGS.k = 7
            with pytest.raises(ValueError, match="--k was 40 and is 7"):
                recorded_flags.check_same_run(tmp_path, lines)


def test_a_run_is_not_cut(finished, capsys):
    record = (finished[0] / "flags.txt").read_text()
    assert f"--precision={precision.resolve('auto')}" in record
    error = fails(finished[0], capsys, "--max_num_training_steps=6")
    assert "max_num_training_steps must be at least 12" in error
    assert (finished[0] / "flags.txt").read_text() == record and (finished[0] / "model.keras").exists()


def test_a_record_of_what_auto_was_not_known_to_be(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "old")
    record = tmp_path / "old" / "flags.txt"
    record.write_text(re.sub("--precision=.*", "--precision=auto", record.read_text()))
    with flagsaver.flagsaver():
        flags.FLAGS(command(tmp_path / "old", "--max_num_training_steps=12")[2:])
        run_folder.check(tmp_path / "old")
        other = {"bfloat16": "float32", "float32": "bfloat16"}[precision.resolve("auto")]
        flags.FLAGS.precision = other
        with pytest.raises(ValueError, match=rf"--precision was \w+ and is {other}"):
            run_folder.check(finished[0])


def test_an_undefended_twin_is_a_run_of_its_own(tmp_path, capsys):
    model_dir, twin_dir = tmp_path / "run", tmp_path / "run" / "undefended"
    shared = ["--architecture=mlp", "--dropout=0", "--max_num_training_steps=4", "--num_checkpoint_steps=2"]
    arguments = [*shared, "--compare_undefended", "--clean_weight=0.5", f"--store_adv_path={tmp_path / 'x.npz'}"]

    def train(*more):
        call(model_dir, *arguments, *more)
        return capsys.readouterr().out, weights(twin_dir)

    output, trained = train()
    assert re.search(r"^PGD-40 +\d+\.\d\d% +\d+\.\d\d%$", output.partition("undefended\n")[2], re.M)
    reports = [json.loads((folder / "report.json").read_text()) for folder in (model_dir, twin_dir)]
    assert all(report["steps"] == 4 and report["training_seconds"] > 0 for report in reports)
    recorded = (twin_dir / "flags.txt").read_text().splitlines()
    assert {"--noadversarial", "--nocompare_undefended", f"--model_dir={twin_dir}"} <= set(recorded)
    with np.load(tmp_path / "x.npz") as saved:
        assert np.mean(saved["predictions"] == saved["labels"]) == pytest.approx(reports[0]["robust_accuracy"])
    # What a run without the attack gives.
    call(tmp_path / "plain", *shared, "--noadversarial", "--attacks=fgsm")
    for ours, theirs in zip(trained, weights(tmp_path / "plain"), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(trained[0], weights(model_dir)[0])

    for path in twin_dir.glob("checkpoint-4*"):
        path.unlink()
    output, again = train(f"--checkpoint={model_dir / 'checkpoint-4'}")
    assert "step 4 of 4: training is complete" in output and "resumed at step 2" in output
    for ours, theirs in zip(again, trained, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # Measured once more, it took as long as it took.
    again = json.loads((model_dir / "report.json").read_text())
    assert again["training_seconds"] == pytest.approx(reports[0]["training_seconds"], abs=0.5)
    # Before the robust network is trained, it is said that the twin is longer than that.
    again = ["--max_num_training_steps=3", f"--checkpoint={model_dir / 'checkpoint-2'}"]
    error = fails(model_dir, capsys, *arguments, *again)
    assert (
        f"max_num_training_steps must be at least 4, which the undefended twin in {twin_dir} has made, got 3" in error
    )
    assert (model_dir / "model.keras").exists()


# Trains, and once more without the last checkpoint; logical devices must be made before anything else.
MIRRORED = """
    import pathlib, shutil, sys
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    from tests.train import small_runs

    model_dir, *arguments = sys.argv[1:]
    small_runs.call(model_dir, *arguments)
    shutil.copytree(model_dir, model_dir + "_first")
    for path in pathlib.Path(model_dir).glob("checkpoint-4*"):
        path.unlink()
    small_runs.call(model_dir, *arguments)
    # Without a schedule the learning rate is a variable of both devices.
    constant = ["--learning_rate_warmup=0", "--learning_rate_decay=0"]
    small_runs.call(model_dir + "_constant", *arguments, *constant, "--max_num_training_steps=3")
    # Another network in the same program, as studies of capacity make them.
    small_runs.call(model_dir + "_small", *arguments, "--architecture=capacity", "--dropout=0")
"""


def test_mirrored_training_on_two_devices(tmp_path):
    model_dir = tmp_path / "mirrored"
    few = ["--attacks=fgsm", "--max_num_training_steps=4", "--num_checkpoint_steps=2"]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MIRRORED), str(model_dir), *few, "--distribution=mirrored"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 replicas") == 4 and done.stdout.count("resumed at step 2") == 1
    trained, again = weights(tmp_path / "mirrored_first"), weights(model_dir)
    # Two devices add up in any order.
    for ours, theirs in zip(again, trained, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    with open(tmp_path / "mirrored_constant" / "training.csv", newline="") as file:
        assert [float(row["learning_rate"]) for row in csv.DictReader(file)] == pytest.approx([1e-3, 1e-3])
