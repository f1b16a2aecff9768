"""eval.step_budget: its grid, that it goes on, that it draws without computing, and bad input."""

import csv

import pytest
from absl import flags
from absl.testing import flagsaver

from eval import common, step_budget

QUICK = ["--dataset=digits", "--num_eval_examples=60", "--epsilon=0.2", "--precision=float32"]


@flagsaver.flagsaver
def call(*arguments):
    common.guarded(step_budget.main, flags.FLAGS(["step_budget", *QUICK, *arguments]))


def rows_of(output):
    with open(f"{output}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {(int(row["iterations"]), float(row["step_size"])): row for row in rows}


def test_grid(digits_model, tmp_path, capsys, caplog, monkeypatch):
    output = tmp_path / "budget"
    arguments = [f"--model={digits_model}", "--iterations=1,4", "--step_sizes=0.02,0.05,0.2", f"--output={output}"]
    measured, evaluate = [], common.evaluate

    def counted(classifier, test, table, *, on_result, **options):
        def kept(result):
            if len(measured) == 2:
                measured.append(None)
                raise ValueError("killed")
            measured.append(result.name)
            on_result(result)

        return evaluate(classifier, test, table, on_result=kept, **options)

    monkeypatch.setattr(common, "evaluate", counted)
    with pytest.raises(SystemExit):
        call(*arguments)
    call(*arguments)
    assert measured == ["1 x 0.02", "1 x 0.05", None, "1 x 0.2", "4 x 0.02", "4 x 0.05", "4 x 0.2"]
    rows = rows_of(output)
    assert list(rows) == [(0, 0), (1, 0.02), (1, 0.05), (1, 0.2), (4, 0.02), (4, 0.05), (4, 0.2)]
    reach, accuracy, distance = (
        {key: float(row[name]) for key, row in rows.items()} for name in ("reach", "accuracy", "distance")
    )
    assert reach[4, 0.02] == pytest.approx(0.4) and reach[4, 0.05] == pytest.approx(1)
    # One step goes as far as it is long, four go no farther than four steps and epsilon.
    assert distance[1, 0.02] == pytest.approx(0.02) and distance[1, 0.2] == pytest.approx(0.2)
    assert 0.02 < distance[4, 0.02] <= 0.08 + 1e-6 and distance[4, 0.2] <= 0.2 + 1e-6
    assert accuracy[0, 0] > 0.8 and accuracy[0, 0] >= accuracy[4, 0.02] > accuracy[4, 0.05]
    assert f"{accuracy[4, 0.02]:.2%}" in capsys.readouterr().out and not caplog.records
    picture = output.with_suffix(".png")
    size = picture.stat().st_size
    picture.unlink()
    call("--redraw", f"--output={output}")
    assert picture.stat().st_size == size > 5000 and len(measured) == 7


def test_steps_that_reach_as_far_with_any_number_of_iterations(digits_model, tmp_path, monkeypatch):
    output = tmp_path / "budget"
    monkeypatch.setattr(step_budget, "REACHES", (0.5, 1.0))
    call(f"--model={digits_model}", "--iterations=2,1,2", f"--output={output}")
    assert list(rows_of(output)) == [(0, 0), (1, 0.1), (1, 0.2), (2, 0.05), (2, 0.1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "model must be given"),
        (["--model=a.keras"], "model a.keras does not exist"),
        (["--iterations=0"], "iterations must be integers of 1 or more, separated by commas, got ['0']"),
        (["--iterations=2,x"], "iterations must be integers of 1 or more"),
        (["--step_sizes=0,1"], "step_sizes must be above 0, got ['0', '1']"),
        (["--step_sizes=x"], "step_sizes must be a number or a fraction such as 8/255, got 'x'"),
        (["--epsilon=0"], "epsilon must be above 0"),
        (["--redraw"], "output must be given with --redraw"),
        (["--redraw", "--output=nothing"], "output nothing must have the .csv and the .json"),
    ],
)
def test_bad_input(refuses, arguments, message):
    refuses(call, arguments, message)
