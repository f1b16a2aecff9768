"""eval.epsilon_sweep: its curves, that it goes on, that it draws without computing."""

import csv
import json

import keras
import pytest
from absl import flags
from absl.testing import flagsaver

from eval import common, epsilon_sweep
from tests.eval.pages import Page

QUICK = ["--dataset=digits", "--num_eval_examples=50", "--attacks=fgsm,pgd:steps=5", "--precision=float32"]


@flagsaver.flagsaver
def call(*arguments):
    common.guarded(epsilon_sweep.main, flags.FLAGS(["epsilon_sweep", *QUICK, *arguments]))


def test_curves(digits_model, tmp_path, capsys, killed_at):
    output = tmp_path / "sweep"
    arguments = [f"--models=first={digits_model}", "--epsilons=0,8/255,0.6", f"--output={output}"]
    measured = killed_at(
        common, "evaluate", 3, lambda _, test, rows, **options: next(iter(rows.attacks.values())).threat.epsilon
    )
    with pytest.raises(SystemExit):
        call(*arguments)
    call(*arguments)
    assert measured == [0, 8 / 255, 0.6, 0.6]
    printed = capsys.readouterr().out
    with open(f"{output}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    accuracy = {(row["attack"], float(row["epsilon"])): float(row["accuracy"]) for row in rows}
    assert len(rows) == 6 and list(rows[0]) == list(epsilon_sweep.COLUMNS)
    for attack in ("fgsm", "pgd:steps=5"):
        assert accuracy[attack, 0] > 0.8 and accuracy[attack, 0] >= accuracy[attack, 8 / 255] > accuracy[attack, 0.6]
    assert f"{accuracy['fgsm', 8 / 255]:.2%}" in printed and "under pgd:steps=5 is at chance from epsilon 0." in printed
    picture = output.with_suffix(".png")
    size = picture.stat().st_size
    picture.unlink()
    page = tmp_path / "sweep.html"
    call("--redraw", f"--output={output}", f"--report={page}")
    assert picture.stat().st_size == size > 5000 and len(measured) == 4
    found = Page(page)
    assert [row[:3] for row in found.rows if row[0] == "first"] == [
        ["first", row["attack"], f"{float(row['epsilon']):.4g}"] for row in rows
    ]
    assert len(found.images) == 1 and "50 test examples of digits, linf, attacks fgsm,pgd:steps=5" in found.text
    assert json.loads(output.with_suffix(".json").read_text())["command"] in found.text


def test_gradients_through_windows(tmp_path, monkeypatch, capsys):
    layers = keras.layers
    stack = [layers.Conv2D(2, 5, activation="relu"), layers.Flatten(), layers.Dense(10)]
    keras.Sequential([keras.Input((28, 28, 1)), *stack]).save(tmp_path / "model.keras")
    windows = []
    original = common.evaluate

    def evaluate(*arguments, **options):
        windows.append(options["relu_window"])
        return original(*arguments, **options)

    monkeypatch.setattr(common, "evaluate", evaluate)
    output = tmp_path / "sweep"
    arguments = [f"--models={tmp_path / 'model.keras'}", "--epsilons=0,0.1", f"--output={output}"]
    call(*arguments, "--relu_window=0.2")
    assert windows == [0.2, 0.2]
    assert json.loads(output.with_suffix(".json").read_text())["settings"]["relu_window"] == 0.2
    assert "seed 4557077, gradients through ReLU windows up to 0.2" in capsys.readouterr().out
    # Rows of other gradients do not belong in the same curve.
    with pytest.raises(SystemExit):
        call(*arguments)
    assert "relu_window" in capsys.readouterr().err and windows == [0.2, 0.2]


def test_chance_is_where_the_curve_crosses_it():
    rows = [
        {"model": "m", "attack": attack, "epsilon": epsilon, "accuracy": accuracy}
        for attack, accuracies in {
            "falls": (0.9, 0.2, 0.0),
            "rises": (0.9, 0.1, 0.5),
            "stays": (0.9, 0.8, 0.7),
            "is": (0.1, 0.0, 0.3),
        }.items()
        for epsilon, accuracy in zip((0.0, 0.1, 0.2), accuracies, strict=True)
    ]
    found = epsilon_sweep.chance_epsilons({"chance": 0.1}, rows)
    # From 0.2 to 0 between epsilon 0.1 and 0.2: half of it.
    assert found["m", "falls"] == pytest.approx(0.15)
    assert found["m", "rises"] == pytest.approx(0.1) and found["m", "stays"] is None
    assert found["m", "is"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "models must be one or more paths"),
        (["--models=a.keras"], "epsilons must be two or more: --epsilons=0,0.1,0.2, got None"),
        (["--models=a.keras", "--epsilons=0,x"], "epsilons must be a number or a fraction such as 8/255, got 'x'"),
        (["--models=a.keras", "--epsilons=0,8"], "epsilon must be at most 1 for pixels in [0.0, 1.0], got 8.0"),
        (["--models=a.keras,b/a.keras", "--epsilons=0,0.1"], "models must have different names, got 'a' twice"),
        (["--models=a.keras", "--epsilons=0,0.1"], "model a.keras does not exist"),
        (["--models=a.keras", "--epsilons=-0.1,0.1"], "epsilon must be a finite number from 0 up, got -0.1"),
        (["--models=a.keras", "--epsilons=0,0.1", "--epsilon=0.1"], "epsilon is --epsilons here"),
        (["--models=a.keras,", "--epsilons=0,0.1"], "models must be paths or name=path, separated by commas"),
        (["--report=sweep"], "report must be a file that ends in .html, got 'sweep'"),
        (["--redraw"], "output must be given with --redraw"),
        (["--redraw", "--output=nothing"], "output nothing must have the .csv and the .json"),
    ],
)
def test_bad_input(refuses, arguments, message):
    refuses(call, arguments, message)
