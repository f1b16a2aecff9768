"""eval.transfer: the matrices of sources and targets, that it goes on, that it draws again, and bad input."""

import csv
import json

import keras
import pytest
from absl import flags
from absl.testing import flagsaver

from eval import attack_warnings, common, transfer
from tests.eval.pages import Page
from tfrobust import datasets

QUICK = ["--dataset=digits", "--num_eval_examples=60", "--epsilon=0.1", "--attack=pgd:steps=5:step_size=0.03"]


@flagsaver.flagsaver
def call(*arguments):
    common.guarded(transfer.main, flags.FLAGS(["transfer", *QUICK, *arguments]))


@pytest.fixture(scope="module")
def other_model(tmp_path_factory):
    keras.utils.set_random_seed(0)
    train = datasets.load("digits", "train")
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(train.images, train.labels, epochs=3, verbose=0)
    path = tmp_path_factory.mktemp("other") / "linear.keras"
    model.save(path)
    return path


def test_matrix(digits_model, other_model, tmp_path, capsys, killed_at):
    output = tmp_path / "matrix"
    arguments = [f"--models=first={digits_model},{other_model}", f"--output={output}"]
    tried = killed_at(common, "evaluate", 2, lambda _, test, table, **options: list(table.attacks))
    with pytest.raises(SystemExit):
        call(*arguments)
    call(*arguments)
    assert tried == [["first", "linear"]] * 3
    printed = capsys.readouterr().out
    found = json.loads(output.with_suffix(".json").read_text())
    assert found["models"] == {"first": str(digits_model), "linear": str(other_model)}
    (first, to_linear), (to_first, linear) = found["accuracy"]
    # A model's own images fool it most, and none better than natural ones.
    assert first < to_first <= found["natural"][0] and linear < to_linear <= found["natural"][1]
    with output.with_suffix(".csv").open(newline="") as file:
        rows = {(row["source"], row["target"]): row for row in csv.DictReader(file)}
    assert list(rows) == [("first", "first"), ("linear", "first"), ("first", "linear"), ("linear", "linear")]
    assert float(rows["first", "linear"]["accuracy"]) == to_linear and f"{to_linear:.2%}" in printed
    assert float(rows["first", "linear"]["natural_accuracy"]) == found["natural"][1]
    cosines = {key: float(row["cosine"]) for key, row in rows.items()}
    assert cosines["first", "first"] == pytest.approx(1) and cosines["linear", "linear"] == pytest.approx(1)
    # Gradients of two classifiers of the same digits have something in common.
    assert 0.05 < cosines["first", "linear"] < 0.95 and cosines["first", "linear"] == cosines["linear", "first"]
    assert cosines["first", "linear"] <= float(rows["first", "linear"]["absolute_cosine"]) < 1
    assert f"{cosines['first', 'linear']:.3f}" in printed
    picture = output.with_suffix(".png")
    size = picture.stat().st_size
    picture.unlink()
    page = tmp_path / "matrix.html"
    call("--redraw", f"--output={output}", f"--report={page}")
    assert picture.stat().st_size == size > 5000 and len(tried) == 3
    assert ["first", "linear", f"{to_linear:.4g}"] in [row[:3] for row in Page(page).rows]


def test_short_steps_are_told(digits_model, caplog, monkeypatch):
    monkeypatch.setattr(attack_warnings, "_warned", [])
    call(f"--models=a={digits_model},b={digits_model}", "--attack=pgd:steps=2:step_size=0.01", "--num_eval_examples=5")
    assert [record.getMessage().split(",")[0] for record in caplog.records] == ["2 steps of 0.01 reach 0.02"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models=a.keras"], "models must be two or more paths"),
        (["--models=a.keras,b.keras", "--attack=pgd,fgsm"], "attack must be a single one"),
        (["--models=a.keras,b.keras"], "model a.keras does not exist"),
    ],
)
def test_bad_input_gets_one_line(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        call(*arguments)
    errors = capsys.readouterr().err
    assert stopped.value.code == 1 and message in errors and errors.count("\n") == 1


def test_two_models_of_one_name(digits_model, capsys):
    with pytest.raises(SystemExit):
        call(f"--models={digits_model},{digits_model}")
    assert "models must have different names, got 'first' twice: write name=path" in capsys.readouterr().err
