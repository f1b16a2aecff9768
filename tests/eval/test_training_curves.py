"""eval.training_curves: what runs wrote, in one plot."""

import csv

import pytest
from absl import flags
from absl.testing import flagsaver

from eval import common, curve_files, training_curves
from tests.eval.pages import Page


@flagsaver.flagsaver
def call(*arguments):
    common.guarded(training_curves.main, flags.FLAGS(["training_curves", *arguments]))


def write(folder, count, regularizer):
    folder.mkdir()
    rows = [
        {
            **{"step": 10.0 * i, "loss": 2.0 / i, "xent": 1.0 / i, "regularizer": regularizer, "learning_rate": 0.1},
            **{"adversarial_accuracy": 0.5, "natural_accuracy": 0.25 * i, "seconds": 1.5 * i},
        }
        for i in range(1, count + 1)
    ]
    (folder / curve_files.TRAINING_FILE).write_text(curve_files.text(rows, curve_files.TRAINING_COLUMNS))


def test_runs_in_one_plot(tmp_path, capsys):
    write(tmp_path / "a", 3, float("nan"))
    write(tmp_path / "b", 2, 0.5)
    output = tmp_path / "new" / "training"
    page = tmp_path / "training.html"
    call(f"--models={tmp_path / 'a'},second={tmp_path / 'b'}", f"--output={output}", f"--report={page}")
    rows = {row[0]: row for row in Page(page).rows}
    assert rows["a"][1:5] == ["30", "0.6667", "0.3333", ""] and rows["second"][1] == "20"
    printed = capsys.readouterr().out
    assert "a       step      30  cross-entropy 0.3333  natural 75.00%  trained on 50.00%" in printed
    with open(f"{output}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["step"], row["regularizer"]) for row in rows] == [
        *(("a", "10", ""), ("a", "20", ""), ("a", "30", "")),
        *(("second", "10", "0.5"), ("second", "20", "0.5")),
    ]
    assert output.with_suffix(".png").stat().st_size > 5000


def test_a_last_row_without_natural_accuracy(tmp_path, capsys):
    write(tmp_path / "a", 2, 0.5)
    with open(tmp_path / "a" / curve_files.TRAINING_FILE, "a") as file:
        file.write("23,0.5,0.5,,0.5,,0.1,4\n")
    call(f"--models={tmp_path / 'a'}")
    assert "step      23  cross-entropy 0.5000  trained on 50.00%" in capsys.readouterr().out


def test_a_run_of_an_earlier_version_without_seconds(tmp_path, capsys):
    write(tmp_path / "a", 2, 0.5)
    file = tmp_path / "a" / curve_files.TRAINING_FILE
    file.write_text("\n".join(line.rpartition(",")[0] for line in file.read_text().splitlines()))
    assert "seconds" not in file.read_text()
    call(f"--models={tmp_path / 'a'}")
    assert "step      20" in capsys.readouterr().out


def test_a_run_s_own_file_is_not_written_over(tmp_path, capsys):
    write(tmp_path / "a", 2, 0.5)
    before = (tmp_path / "a" / curve_files.TRAINING_FILE).read_bytes()
    with pytest.raises(SystemExit):
        call(f"--models={tmp_path / 'a'}", f"--output={tmp_path / 'a' / 'training'}")
    assert "output must not be a run's own training.csv" in capsys.readouterr().err
    assert (tmp_path / "a" / curve_files.TRAINING_FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "models must be one or more folders of training"),
        (["--models={folder}"], "models must be folders of training with training.csv, got"),
        (["--models={folder}/none"], "models must be folders of training with training.csv, got"),
    ],
)
def test_bad_input(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        call(*(argument.format(folder=tmp_path) for argument in arguments))
    errors = capsys.readouterr().err
    assert stopped.value.code == 1 and message in errors and errors.count("\n") == 1
