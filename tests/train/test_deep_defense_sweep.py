"""train.deep_defense_sweep: its runs, its files, that it goes on, and bad input."""

import csv
import json

import keras
import pytest
from absl import flags
from absl.testing import flagsaver

from eval import common
from train import deep_defense_sweep
from train.deep_defense import DeepDefenseTask

QUICK = [
    "--dataset=digits",
    "--epochs=1",
    "--training_batch_size=200",
    "--optimizer=momentum",
    "--learning_rate=0.01",
    "--loss_reduction=mean",
    "--precision=float32",
    "--num_eval_examples=40",
    "--curve_examples=20",
    "--deepfool_iterations=2",
]


@flagsaver.flagsaver
def sweep(folder, *arguments):
    arguments = ["deep_defense_sweep", f"--model_dir={folder}", *QUICK, *arguments]
    common.guarded(deep_defense_sweep.main, flags.FLAGS(arguments))


def test_a_sweep_goes_on_where_it_was(digits_model, tmp_path, capsys, monkeypatch):
    layer = _first_layer(digits_model)
    arguments = [f"--reference={digits_model}", "--c_values=5,25", f"--layer_values={layer}"]
    trained = []
    finish = DeepDefenseTask.finish

    def counted(self, *rest):
        trained.append(rest[-1].model_dir.name)
        if len(trained) == 2:
            raise ValueError("killed")
        return finish(self, *rest)

    monkeypatch.setattr(DeepDefenseTask, "finish", counted)
    with pytest.raises(SystemExit):
        sweep(tmp_path, *arguments)
    assert "killed" in capsys.readouterr().err
    sweep(tmp_path, *arguments)
    names = [f"{layer}_lambda15_c5", f"{layer}_lambda15_c25"]
    assert trained == [*names, names[1]]
    assert capsys.readouterr().out.count("finished before") == 1
    with open(tmp_path / "sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in names]
    assert [row["rho2"] for row in rows[:-1]] == [f"{report['rho2']:.6g}" for report in reports]
    assert [row["layers"] for row in rows] == [layer, layer, "reference"]
    assert [row["c"] for row in rows[:-1]] == ["5", "25"]
    assert len({row["rho2"] for row in rows}) == 3
    assert (tmp_path / "sweep.png").stat().st_size > 5000
    # Other test examples: measured again, not trained again.
    sweep(tmp_path, *arguments, "--num_eval_examples=30")
    printed = capsys.readouterr().out
    assert printed.count("training is complete") == 2 and "finished before" not in printed
    assert json.loads((tmp_path / names[0] / "report.json").read_text())["num_examples"] == 30
    # Another length, and another reference under the same name, are other runs.
    for change, message in (
        (["--epochs=2"], "model_dir holds a run of 7 steps in"),
        ([f"--reference={_other(digits_model, tmp_path)}"], "holds runs from another reference than"),
    ):
        with pytest.raises(SystemExit):
            sweep(tmp_path, *arguments, *change)
        assert message in capsys.readouterr().err


def _other(path, folder):
    model = keras.models.load_model(path)
    model.layers[-1].set_weights([2 * weight for weight in model.layers[-1].get_weights()])
    model.save(folder / "other.keras")
    return folder / "other.keras"


def _first_layer(path):
    return next(layer.name for layer in keras.models.load_model(path).layers if layer.trainable_variables)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--c_values=5,x", "c_values must be numbers of 0 or more, separated by commas, got ['5', 'x']"),
        ("--lambda_values=-1", "lambda_values must be numbers of 0 or more"),
        ("--layer_values=all,fc9", "layer_values must be some of all, "),
        ("--layer_values=", "layer_values must be some of all, "),
        ("--c_values=5,nan", "c_values must be numbers of 0 or more"),
        ("--method=clean", "method must be deep_defense in a sweep, got clean"),
        ("--loss_reduction=sum", "loss_reduction must be mean for Deep Defense"),
        ("--regularized_layers=fc1", "regularized_layers is what a sweep varies: --layer_values=fc1"),
    ],
)
def test_bad_input(digits_model, tmp_path, capsys, argument, message):
    with pytest.raises(SystemExit):
        sweep(tmp_path / "none", f"--reference={digits_model}", argument)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
