"""The evaluation binary as a user runs it."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from eval import attack_warnings, common, robust_accuracy
from tfrobust import datasets, export
from tfrobust.models import small

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "eval.robust_accuracy", "--dataset=digits", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def call(*arguments):
    """As `run`, but in this process, which spares TensorFlow's start."""
    with flagsaver.flagsaver():
        common.guarded(robust_accuracy.main, flags.FLAGS(["robust_accuracy", "--dataset=digits", *arguments]))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The same briefly trained classifier as .keras file and as SavedModel."""
    folder = tmp_path_factory.mktemp("models")
    classifier = small.capacity_cnn(seed=0, scale=4)
    train = datasets.load("digits", "train")
    classifier.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    classifier.fit(train.images, train.labels, epochs=1, batch_size=100, verbose=0)
    export.save_keras(classifier, folder / "model.keras")
    export.export_saved_model(classifier, folder / "saved_model")
    return folder


def test_keras_file_and_saved_model_give_the_same_report(models, tmp_path):
    arguments = ["--epsilon=0.1", "--num_examples=50", "--seed=3", "--precision=float32"]
    call(f"--model={models / 'model.keras'}", f"--output={tmp_path / 'first.json'}", *arguments)
    done = run(f"--model={models / 'saved_model'}", f"--output={tmp_path / 'second.json'}", *arguments)
    assert "robust accuracy" in done.stdout and done.stderr == ""
    first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("first", "second"))
    assert first["num_examples"] == 50 and first["seed"] == 3
    assert first["threat_model"] == {"norm": "linf", "epsilon": 0.1, "bounds": [0.0, 1.0]}
    assert [a["name"] for a in first["attacks"]] == ["FGSM", "PGD-40"]
    assert first["attacks"][1]["attack"].startswith("PGD(threat=ThreatModel(norm='linf', epsilon=0.1")
    assert first["clean_accuracy"] == second["clean_accuracy"] > 0.5
    # float32 sums in another order may tip an example on the boundary.
    assert abs(first["robust_accuracy"] - second["robust_accuracy"]) <= 0.02


def test_gradients_through_windows_are_told(models, tmp_path, capsys):
    arguments = [f"--model={models / 'model.keras'}", "--epsilon=0.1", "--num_examples=20", "--precision=float32"]
    output = tmp_path / "r.json"
    call(*arguments, "--relu_window=0.2", f"--output={output}", f"--markdown={tmp_path / 'r.md'}")
    assert "attack gradients in float32 through ReLU windows up to 0.2," in (tmp_path / "r.md").read_text()
    assert "attack gradients in float32 through ReLU windows up to 0.2, predictions" in capsys.readouterr().out
    report = json.loads(output.read_text())
    assert report["relu_window"] == 0.2
    call(*arguments, f"--output={output}")
    plain = json.loads(output.read_text())
    assert plain["relu_window"] == 0
    assert plain["attacks"][1]["mean_loss"] != report["attacks"][1]["mean_loss"]


def test_saves_the_worst_adversarial_examples(models, tmp_path):
    arguments = [f"--model={models / 'model.keras'}", "--epsilon=25/255", "--num_examples=30"]
    report = tmp_path / "report.json"
    call(*arguments, f"--save_adversarial={tmp_path / 'x.npz'}", f"--output={report}")
    saved = np.load(tmp_path / "x.npz")
    test = datasets.load("digits", "test", num_examples=30)
    assert np.abs(saved["x_adv"] - test.images).max() <= 25 / 255 + 1e-6
    logits = keras.models.load_model(models / "model.keras").predict(saved["x_adv"], verbose=0)
    accuracy = float(np.mean(logits.argmax(axis=1) == test.labels))
    assert accuracy == json.loads(report.read_text())["robust_accuracy"]


def fails(capsys, *arguments):
    """The one line that the binary prints before it exits with code 1, run in this process."""
    with pytest.raises(SystemExit) as stopped:
        call(*arguments)
    errors = capsys.readouterr().err
    assert stopped.value.code == 1 and errors.startswith("error: ") and errors.count("\n") == 1
    return errors


def test_bad_input_gets_one_clear_line(models, tmp_path, capsys):
    model, output = f"--model={models / 'model.keras'}", f"--output={tmp_path / 'r.json'}"
    assert "/nonexistent.keras" in fails(capsys, "--model=/nonexistent.keras", output)
    assert "num_examples" in fails(capsys, model, output, "--num_examples=1000")
    assert "cannot be written" in fails(capsys, model, f"--output={tmp_path}")
    assert ".npz" in fails(capsys, model, output, "--save_adversarial=x.png")
    assert "output and state must be different files" in fails(capsys, model, output, f"--state={tmp_path / 'r.json'}")
    assert "model and output must be" in fails(capsys, model, f"--output={models / '..' / models.name / 'model.keras'}")
    assert "relu_window is for norm-bounded" in fails(capsys, model, output, "--suite=min_norm", "--relu_window=0.6")
    saved_model = f"--model={models / 'saved_model'}"
    assert "relu_window needs a keras.Model" in fails(capsys, saved_model, output, "--relu_window=0.6")
    assert not list(tmp_path.iterdir())
    for wrong in ("--suite=everything", "--num_examples=0", "--relu_window=-1"):
        with flagsaver.flagsaver(), pytest.raises(flags.IllegalFlagValueError):
            flags.FLAGS(["robust_accuracy", model, wrong])


def test_a_model_of_other_shape_or_with_softmax_is_named(tmp_path, capsys):
    layers = keras.layers
    cases = {
        "shape": (
            [keras.Input((32, 32, 3)), layers.Flatten(), layers.Dense(10)],
            "must take images of shape (28, 28, 1)",
        ),
        "classes": ([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(5)], "10 classes, got 5"),
        "too many": ([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(12)], "10 classes, got 12"),
        "softmax": ([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10, "softmax")], "softmax"),
    }
    for name, (stack, words) in cases.items():
        path = tmp_path / f"{name}.keras"
        keras.Sequential(stack).save(path)
        assert words in fails(capsys, f"--model={path}")


def test_a_run_on_other_data_is_told(tmp_path, caplog):
    (tmp_path / "flags.txt").write_text("--dataset=digits\n--epsilon=0.15\n")
    for dataset in ("digits", "mnist"):
        with flagsaver.flagsaver():
            flags.FLAGS(["robust_accuracy", f"--dataset={dataset}"])
            saved_model = tmp_path / "saved_model" / "1"
            for model in (tmp_path, tmp_path / "model.keras", saved_model, saved_model.parent):
                caplog.clear()
                attack_warnings.warn_of_other_data(str(model))
                assert ("was trained on digits and is evaluated on mnist" in caplog.text) == (dataset == "mnist")
