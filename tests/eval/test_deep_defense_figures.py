"""The figures of Deep Defense: what their CSV files hold, and that the pictures show it."""

import csv

import matplotlib.image
import numpy as np
import pytest

from eval import curve_files, deep_defense_figures

CURVE = [{"step": 10 * i, "epoch": i, "accuracy": 0.9 + 0.01 * i, "rho2": 0.1 * i} for i in range(3)]
RUNS = [
    {"layers": layers, "lambda": 15.0, "c": c, "accuracy": 0.9 + c / 1000, "rho2": 0.3 - c / 1000}
    for layers in ("all", "fc1")
    for c in (5.0, 25.0)
]


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


def is_drawn(path):
    picture = matplotlib.image.imread(path)[..., :3]
    coloured = np.ptp(picture, axis=-1) > 0.3
    return min(picture.shape[:2]) > 300 and coloured.mean() > 1e-4


def test_convergence(tmp_path):
    output = tmp_path / "new" / "curves"
    deep_defense_figures.write_convergence(str(output), {"deep_defense": CURVE, "clean": CURVE[:1]}, "digits")
    header, *rows = rows_of(f"{output}.csv")
    assert header == ["method", "step", "epoch", "accuracy", "rho2"]
    assert rows == [
        ["deep_defense", "0", "0", "0.9", "0"],
        ["deep_defense", "10", "1", "0.91", "0.1"],
        ["deep_defense", "20", "2", "0.92", "0.2"],
        ["clean", "0", "0", "0.9", "0"],
    ]
    assert is_drawn(f"{output}.png")


def test_sweep(tmp_path):
    output = tmp_path / "sweep"
    deep_defense_figures.write_sweep(str(output), RUNS, {"accuracy": 0.89, "rho2": 0.1}, "digits")
    header, *rows = rows_of(f"{output}.csv")
    assert header == ["lambda", "c", "layers", "accuracy", "rho2"]
    assert rows[0] == ["15", "5", "all", "0.905", "0.295"]
    assert rows[-1] == ["", "", "reference", "0.89", "0.1"] and len(rows) == 5
    assert is_drawn(f"{output}.png")


def test_a_curve_is_read_as_it_was_written(tmp_path):
    path = tmp_path / curve_files.FILE
    assert curve_files.read(path) == []
    path.write_text(curve_files.text(CURVE))
    for read, written in zip(curve_files.read(path), CURVE, strict=True):
        assert read == pytest.approx(written)


@pytest.mark.parametrize("rows", ["a,b\n1,2", "step,epoch,accuracy,rho2\n1,2,x,4", "step,epoch,accuracy,rho2\n1"])
def test_what_is_no_curve_is_refused(tmp_path, rows):
    path = tmp_path / curve_files.FILE
    path.write_text(f"{rows}\n")
    with pytest.raises(ValueError, match=r"curve\.csv must be a CSV file with the columns step, epoch"):
        curve_files.read(path)
