"""eval.deep_defense: the paper's table for models of one's own."""

import json
import shutil

import keras
import pytest
from absl import flags
from absl.testing import flagsaver

from eval import common, curve_files, deep_defense
from tfrobust import deep_defense_tables

QUICK = ["--dataset=digits", "--num_eval_examples=60", "--precision=float32"]


@flagsaver.flagsaver
def call(*arguments):
    common.guarded(deep_defense.main, flags.FLAGS(["deep_defense", *QUICK, *arguments]))


def test_the_table(digits_model, tmp_path, capsys):
    # The other model has twice the logits: the same classes, and the same boundaries.
    model = keras.models.load_model(digits_model)
    model.layers[-1].set_weights([2 * weight for weight in model.layers[-1].get_weights()])
    other = tmp_path / "other.keras"
    model.save(other)
    output, text = tmp_path / "table.json", tmp_path / "table.md"
    models = [f"--reference={other}", f"--deep_defense={digits_model}"]
    call(*models, "--paper=mnist_lenet", f"--output={output}", f"--markdown={text}")
    printed = capsys.readouterr().out
    found = json.loads(output.read_text())
    assert 0 < found["eps_ref"] < 0.5 and found["num_examples"] == 60
    row, same = found["rows"]["deep_defense"], found["rows"]["reference"]
    assert list(found["rows"]) == ["reference", "deep_defense"]
    # eps_ref is where half of the images are misclassified.
    assert row["fgsm_accuracies"][2] == pytest.approx(0.5, abs=1 / 60)
    assert row["accuracy"] >= row["fgsm_accuracies"][0] >= row["fgsm_accuracies"][1] > 0.5
    assert 0 < row["rho2_5"] <= row["rho2"] * 1.01 and row["deepfool_success_rate"] > 0.95
    # PGD is the stronger attack, and the stronger the farther it may go.
    assert row["fgsm_accuracies"][1] + 2 / 60 > row["pgd_accuracies"][0] > row["pgd_accuracies"][1]
    for name in ("accuracy", "rho2", "rho2_5"):
        assert same[name] == pytest.approx(row[name], rel=1e-3)
    assert f"{row['accuracy']:.2%}" in printed and "99.34%" in printed and "the paper" in printed
    lines = text.read_text()
    assert f"| deep_defense | {row['accuracy']:.2%} | {row['rho2']:.4g} |" in lines
    assert "| deep_defense, the paper's | 99.34% | 0.284 |  |  | 96.51% | 88.93% | 50.00% |  |  |" in lines
    assert "| FGSM at 1 eps_ref | PGD at 0.5 eps_ref | PGD at 1 eps_ref |" in lines


def test_convergence_is_drawn_from_the_runs(digits_model, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(digits_model, run / "model.keras")
    rows = [{"step": 7 * i, "epoch": i, "accuracy": 0.9, "rho2": 0.1 * i} for i in range(3)]
    (run / curve_files.FILE).write_text(curve_files.text(rows))
    models = [f"--reference={digits_model}", f"--deep_defense={run}", f"--clean={digits_model}"]
    call(*models, f"--convergence={tmp_path / 'curves'}")
    lines = (tmp_path / "curves.csv").read_text().splitlines()
    assert lines[1:] == [f"deep_defense,{7 * i},{i},0.9,{0.1 * i:.6g}" for i in range(3)]
    assert (tmp_path / "curves.png").stat().st_size > 5000
    (run / curve_files.FILE).unlink()
    with pytest.raises(SystemExit):
        call(*models, f"--convergence={tmp_path / 'more'}")
    assert "convergence needs a model that is a folder with curve.csv" in capsys.readouterr().err


def test_published_numbers():
    # The paper's text: an absolute 46.69 % and 19.24 % at eps_ref for the perceptron, rho2 about twice as large.
    table = deep_defense_tables.PUBLISHED["mnist_mlp"]
    at_eps_ref = {method: row.accuracies[-1] for method, row in table.items()}
    assert at_eps_ref["deep_defense"] - at_eps_ref["reference"] == pytest.approx(0.4669)
    assert at_eps_ref["adv_train_1"] - at_eps_ref["reference"] == pytest.approx(0.1924)
    assert table["deep_defense"].rho2 / table["reference"].rho2 > 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--deep_defense=x.keras"], "reference must be given"),
        (["--reference={model}"], "deep_defense must be given: --deep_defense=MODEL"),
        (["--reference={model}", "--deep_defense=nowhere.keras"], "model nowhere.keras does not exist"),
    ],
)
def test_bad_input(digits_model, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        call(*(argument.format(model=digits_model) for argument in arguments))
    errors = capsys.readouterr().err
    assert stopped.value.code == 1 and message in errors and errors.count("\n") == 1
