"""eval.transfer: the matrix of sources and targets."""

import csv
import json

import keras
import pytest
from absl import flags
from absl.testing import flagsaver

from eval import common, transfer
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


def test_matrix(digits_model, other_model, tmp_path, capsys):
    output = tmp_path / "matrix"
    page = tmp_path / "matrix.html"
    call(f"--models=first={digits_model},{other_model}", f"--output={output}", f"--report={page}")
    printed = capsys.readouterr().out
    found = json.loads(output.with_suffix(".json").read_text())
    assert found["models"] == {"first": f"first={digits_model}", "linear": str(other_model)}
    (first, to_linear), (to_first, linear) = found["accuracy"]
    # A model's own images fool it most, and none better than natural ones.
    assert first < to_first <= found["natural"][0] and linear < to_linear <= found["natural"][1]
    rows = list(csv.reader(output.with_suffix(".csv").open()))
    assert rows[0] == ["source", "first", "linear"] and [row[0] for row in rows[1:]] == ["natural", "first", "linear"]
    assert float(rows[2][2]) == pytest.approx(to_linear) and f"{to_linear:.2%}" in printed
    assert output.with_suffix(".png").stat().st_size > 5000
    matrix = [row for row in Page(page).rows if len(row) == 3][1:]
    assert matrix[0] == ["natural images", *(f"{value:.2%}" for value in found["natural"])]
    assert matrix[1] == ["first", f"{first:.2%}", f"{to_linear:.2%}"]


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
