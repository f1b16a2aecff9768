"""train.deep_defense: every method on a small network of digits, its files, and bad input."""

import contextlib
import io
import json
import pathlib
import re
import signal
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver
from keras import layers

from eval import common, curve_files
from tfrobust import checkpoints, datasets
from train import deep_defense, stopping

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = [
    "--dataset=digits",
    "--epochs=2",
    "--training_batch_size=100",
    "--num_output_steps=7",
    "--num_summary_steps=7",
    "--num_checkpoint_steps=14",
    "--optimizer=momentum",
    "--learning_rate=0.01",
    "--learning_rate_halving=0.5",
    "--loss_reduction=mean",
    "--precision=float32",
    "--num_eval_examples=60",
    "--curve_examples=40",
    "--c=10",
    # The graph of a step grows with them, and so does the time to trace it.
    "--deepfool_iterations=2",
]


@flagsaver.flagsaver
def train(model_dir, *arguments):
    common.guarded(deep_defense.main, flags.FLAGS(["deep_defense", f"--model_dir={model_dir}", *SMALL, *arguments]))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    keras.utils.set_random_seed(0)
    stack = [layers.AveragePooling2D(2), layers.Flatten(), layers.Dense(20), layers.BatchNormalization(), layers.ReLU()]
    model = keras.Sequential([keras.Input((28, 28, 1)), *stack, layers.Dense(10, name="logits")])
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = datasets.load("digits", "train")
    model.fit(data.images, data.labels, epochs=10, batch_size=100, verbose=0)
    path = tmp_path_factory.mktemp("reference") / "reference.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def whole_run(reference, tmp_path_factory):
    """The folder of a whole run, and what it printed."""
    model_dir, printed = tmp_path_factory.mktemp("runs") / "whole", io.StringIO()
    with contextlib.redirect_stdout(printed):
        train(model_dir, f"--reference={reference}")
    return model_dir, printed.getvalue()


def test_deep_defense(reference, whole_run, tmp_path):
    model_dir, printed = whole_run
    # 1,437 images are 14 batches of 100.
    assert "step 28/28" in printed and "regulariser" in printed
    report = json.loads((model_dir / "report.json").read_text())
    assert report["method"] == "deep_defense" and report["num_examples"] == 60
    assert 0.9 < report["accuracy"] <= 1 and 0 < report["rho2_5"] <= report["rho2"] * 1.01
    assert report["deepfool_success_rate"] > 0.95
    assert f"accuracy {report['accuracy']:.2%}, rho2 {report['rho2']:.4g} (50 iterations)" in printed
    rows = curve_files.read(model_dir / "curve.csv")
    assert [(row["step"], row["epoch"]) for row in rows] == [(0, 0), (14, 1), (28, 2)]
    train(tmp_path / "clean", f"--reference={reference}", "--method=clean")
    clean = curve_files.read(tmp_path / "clean" / "curve.csv")
    assert clean[0] == rows[0] and rows[2]["rho2"] > 1.05 * clean[2]["rho2"] > 0
    tags = set()
    for path in model_dir.glob("events.out.tfevents*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags.update(value.tag for value in event.summary.value)
    assert {"test_accuracy", "test_rho2", "xent_adv"} <= tags
    before, after = keras.models.load_model(reference), keras.models.load_model(model_dir / "model.keras")
    for old, new in zip(before.layers, after.layers, strict=True):
        frozen = isinstance(old, layers.BatchNormalization)
        for one, two in zip(old.get_weights(), new.get_weights(), strict=True):
            assert np.array_equal(one, two) == frozen


def test_a_finished_run_is_not_trained_again_and_one_with_other_flags_is_refused(reference, tmp_path, capsys):
    train(tmp_path / "run", f"--reference={reference}", "--method=clean")
    train(tmp_path / "run", f"--reference={reference}", "--method=clean")
    assert "training is complete" in capsys.readouterr().out
    assert len(curve_files.read(tmp_path / "run" / "curve.csv")) == 3
    with pytest.raises(SystemExit):
        train(tmp_path / "run", f"--reference={reference}", "--method=parseval")
    assert "--method was clean and is parseval" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--method=clean"],
        ["--method=parseval", "--parseval_beta=0.01"],
        ["--method=adv_train_1"],
        ["--method=adv_train_2", "--clean_weight=0.5", "--epsilon=0.1"],
        ["--method=deep_defense", "--combine_adversarial", "--clean_weight=0.5", "--epsilon=0.1"],
        ["--method=deep_defense", "--regularized_layers=logits", "--deepfool_norm=linf"],
    ],
)
def test_every_method_trains(reference, tmp_path, arguments, capsys):
    train(tmp_path / "run", f"--reference={reference}", *arguments)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["accuracy"] > 0.85 and report["rho2"] > 0
    assert ("making 1437 images with DeepFool" in capsys.readouterr().out) == ("--method=adv_train_1" in arguments)


def test_the_fixed_set_is_what_deepfool_makes(reference):
    classifier = keras.models.load_model(reference)
    data = datasets.Arrays(*(part[:50] for part in datasets.load("digits", "train")))
    with flagsaver.flagsaver():
        flags.FLAGS(["deep_defense"])
        made = deep_defense.deepfool_set(classifier, data, batch_size=30)
    assert made.images.shape == data.images.shape and np.array_equal(made.labels, data.labels)
    before, after = (classifier.predict(images, verbose=0).argmax(axis=1) for images in (data.images, made.images))
    assert np.mean(before != after) > 0.9


def test_a_stopped_run_goes_on_to_the_same_weights_and_curve(reference, whole_run, tmp_path, capsys, monkeypatch):
    # Stopped in the middle of the second epoch, as by a signal.
    with monkeypatch.context() as patch:
        patch.setattr(stopping.StopOnSignal, "on_train_batch_end", _stop_at_step(20))
        with pytest.raises(SystemExit) as stopped:
            train(tmp_path / "run", f"--reference={reference}")
    assert stopped.value.code == 143 and not (tmp_path / "run" / "model.keras").exists()
    train(tmp_path / "run", f"--reference={reference}")
    assert "resumed at step 20" in capsys.readouterr().out
    assert curve_files.read(tmp_path / "run" / "curve.csv") == curve_files.read(whole_run[0] / "curve.csv")
    whole, resumed = (keras.models.load_model(path / "model.keras") for path in (whole_run[0], tmp_path / "run"))
    for one, two in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def _stop_at_step(step):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations == step:
            self.received = signal.SIGTERM
            self.model.stop_training = True

    return on_train_batch_end


def test_a_diverging_run_stops_and_names_the_term(reference, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path / "run", f"--reference={reference}", "--learning_rate=1e30", "--num_checkpoint_steps=1")
    errors = capsys.readouterr().err
    # The first update is as large as that, and the second step sees what it has made.
    assert stopped.value.code == 1 and re.search(r"training diverged: not finite at step [12]: the \w.*;", errors)
    assert not (tmp_path / "run" / "model.keras").exists()


def test_the_regulariser_is_named_and_the_last_good_checkpoint_stays(reference, tmp_path, capsys, monkeypatch):
    def fifth(self, batch, logs=None):
        if self._saved.step == 5:
            on_train_batch_end(self, batch, {**logs, "regularizer": float("nan"), "loss": float("nan")})

    on_train_batch_end = stopping.StopOnNonFinite.on_train_batch_end
    monkeypatch.setattr(stopping.StopOnNonFinite, "on_train_batch_end", fifth)
    with pytest.raises(SystemExit):
        train(tmp_path / "run", f"--reference={reference}", "--num_checkpoint_steps=2")
    assert "training diverged: not finite at step 5: the regulariser; " in capsys.readouterr().err
    assert checkpoints.newest(tmp_path / "run").endswith("checkpoint-4")
    assert all(np.isfinite(weight).all() for weight in checkpoints.load_classifier(tmp_path / "run").get_weights())


def test_all_terms_that_are_not_finite_are_named():
    stop = stopping.StopOnNonFinite(types.SimpleNamespace(step=3))
    stop.on_train_batch_end(0, {"xent": 1.0, "regularizer": 2.0, "loss": 3.0})
    nan = float("nan")
    with pytest.raises(stopping.DivergedError, match=r"step 3: the cross-entropy and the regulariser; "):
        stop.on_train_batch_end(0, {"xent": nan, "regularizer": nan, "loss": nan})
    with pytest.raises(stopping.DivergedError, match=r"step 3: the loss; "):
        stop.on_train_batch_end(0, {"xent": 1.0, "regularizer": 1.0, "loss": float("inf")})


@pytest.mark.parametrize("binary", ["train.deep_defense", "train.deep_defense_sweep"])
def test_the_loss_is_a_mean_by_default(reference, tmp_path, binary):
    # What is looked at after it is wrong.
    given = [f"--reference={reference}", f"--model_dir={tmp_path / 'run'}", "--dataset=digits", "--clean_weight=0.5"]
    done = subprocess.run([sys.executable, "-m", binary, *given], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stderr.startswith("error: clean_weight is for --method="), done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "reference must be given: --reference=FILE"),
        (["--reference=nowhere.keras"], "reference nowhere.keras does not exist"),
        (
            ["--reference={other}"],
            "reference must take images (28, 28, 1) and return 10 logits for digits, got (4, 4, 1)",
        ),
        (["--reference={reference}", "--architecture=lenet"], "architecture is not for train.deep_defense"),
        (["--reference={reference}", "--method=adv_train_2", "--k=7"], "k is not for train.deep_defense"),
        (["--reference={reference}", "--loss_reduction=sum"], "loss_reduction must be mean for Deep Defense"),
        (["--reference={reference}", "--method=adv_train_2"], "clean_weight must be above 0 beside FGSM"),
        (["--reference={reference}", "--clean_weight=0.5"], "clean_weight is for --method=adv_train_2 and"),
        (["--reference={reference}", "--relu_window_share=0.5"], "relu_window_share is for --method=adv_train_2 and"),
        (["--reference={reference}", "--regularized_layers=flatten"], "layers must be some of those with weights"),
        (["--reference={reference}", "--step_size_schedule=[[0, 0.1]]"], "exclude each other"),
    ],
)
def test_bad_input_gets_one_line_and_writes_nothing(reference, tmp_path, capsys, arguments, message):
    other = tmp_path / "other.keras"
    keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(10)]).save(other)
    arguments = [argument.format(reference=reference, other=other) for argument in arguments]
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path / "run", *arguments)
    errors = capsys.readouterr().err
    assert stopped.value.code == 1 and message in errors and errors.count("\n") == 1
    assert not (tmp_path / "run").exists()
