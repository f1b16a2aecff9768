"""eval.landscape: its files and pictures, that it goes on, and bad input."""

import csv
import itertools

import pytest
from absl import flags
from absl.testing import flagsaver

from eval import common, figures, landscape, landscape_figures
from tests.eval.pages import Page

QUICK = ["--dataset=digits", "--num_eval_examples=2", "--k=5", "--a=0.05", "--epsilon=0.1", "--surface_points=5"]


@flagsaver.flagsaver
def call(*arguments):
    common.guarded(landscape.main, flags.FLAGS(["landscape", *QUICK, *arguments]))


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_landscape(digits_model, tmp_path, capsys, monkeypatch, killed_at):
    output = tmp_path / "new" / "landscape"
    arguments = [f"--models=first={digits_model},second={digits_model}", "--restarts=230", f"--output={output}"]
    monkeypatch.setattr(landscape, "CHUNK", 20)
    killed_at(landscape.Landscape, "surface", 2)
    with pytest.raises(SystemExit):
        call(*arguments)
    before = rows_of(f"{output}.csv")
    assert len(before) == 2 * 230
    call(*arguments)
    rows = rows_of(f"{output}.csv")
    assert rows[: len(before)] == before
    keys = [(row["model"], row["image"], int(row["restart"])) for row in rows]
    assert keys == list(itertools.product(("first", "second"), ("0", "1"), range(230)))
    # The same model and seed: the same maxima.
    assert [row["loss"] for row in rows[:460]] == [row["loss"] for row in rows[460:]]
    assert len({row["loss"] for row in rows[:230]}) > 100
    traces = rows_of(f"{output}_traces.csv")
    assert len(traces) == 4 * 20 * 6 and traces[5]["loss"] == rows[0]["loss"]
    assert len(rows_of(f"{output}_surface.csv")) == 4 * 25
    found = rows_of(f"{output}_geometry.csv")
    assert len(found) == 4 and all(row["maxima"] == "200" for row in found)
    assert all(float(row["distance"]) > 0 and 0 < float(row["angle"]) < 100 for row in found)
    assert all(float(row["lowest_loss"]) <= float(row["median_loss"]) <= float(row["highest_loss"]) for row in found)
    assert f"{float(found[0]['angle']):.4g}" in capsys.readouterr().out
    pictures = [output.parent / f"landscape_{name}.png" for name in ("maxima", "traces", "surface")]
    assert all(picture.stat().st_size > 5000 for picture in pictures)
    pictures[0].unlink()
    page = output.parent / "landscape.html"
    call("--redraw", f"--output={output}", f"--report={page}")
    assert pictures[0].exists()
    found = Page(page)
    assert len(found.images) == 3 and "cosine with gradient" in found.text


def test_it_goes_on_within_the_restarts_of_an_image(digits_model, tmp_path, monkeypatch, killed_at):
    arguments = [f"--models={digits_model}", "--num_eval_examples=1", "--restarts=230"]
    monkeypatch.setattr(landscape, "CHUNK", 10)
    call(*arguments, f"--output={tmp_path}/whole")
    killed_at(landscape.Landscape, "maxima", 3)
    with pytest.raises(SystemExit):
        call(*arguments, f"--output={tmp_path}/parts")
    assert len(rows_of(tmp_path / "parts.csv")) == 210
    call(*arguments, f"--output={tmp_path}/parts")
    assert rows_of(tmp_path / "parts.csv") == rows_of(tmp_path / "whole.csv")


@pytest.mark.parametrize("sign", [1, -1])
def test_all_losses_are_in_the_picture(monkeypatch, sign):
    """Margins up to kappa are below 0, and may reach it."""
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.append(figure))
    settings = {
        "restarts": 1,
        "epsilon": 0.3,
        "steps": 2,
        "step_size": 0.1,
        "dataset": "digits",
        "norm": "linf",
        "seed": 0,
    }
    one = {"model": "m", "image": 0, "restart": 0}
    rows = [{**one, "step": step, "loss": sign * loss} for step, loss in enumerate((20, 5, 0))]
    landscape_figures.draw_traces("traces.png", settings, rows)
    low, high = drawn[0].axes[0].get_ylim()
    assert low <= min(0, 20 * sign) and high >= max(0, 20 * sign)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "models must be one or more paths"),
        (["--models=a.keras"], "model a.keras does not exist"),
        (["--models=a.keras", "--norm=l2"], "norm must be linf, epsilon above 0 and random_start true"),
        (["--models=a.keras", "--norandom_start"], "norm must be linf, epsilon above 0 and random_start true"),
        (["--models=a.keras", "--attacks=fgsm"], "attacks is not for eval.landscape, whose attack is PGD"),
        (["--models=a.keras", "--precision=bfloat16"], "precision must be float32 in eval.landscape"),
        (["--redraw"], "output must be given with --redraw"),
        (["--redraw", "--output=nothing"], "output nothing must have the .csv and the .json"),
    ],
)
def test_bad_input(refuses, arguments, message):
    refuses(call, arguments, message)
