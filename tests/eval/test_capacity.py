"""eval.capacity: its runs, its rows, that it goes on, and bad input."""

import csv

import pytest
from absl import flags
from absl.testing import flagsaver

from eval import capacity, common
from tests.eval.pages import Page

QUICK = [
    "--dataset=digits",
    "--architecture=capacity",
    "--max_num_training_steps=120",
    "--num_summary_steps=20",
    "--training_batch_size=50",
    "--learning_rate=0.003",
    "--loss_reduction=mean",
    "--epsilon=0.05",
    "--k=3",
    "--a=0.03",
    "--num_eval_examples=100",
    "--precision=float32",
    "--random_seed=0",
]


@flagsaver.flagsaver
def call(*arguments):
    common.guarded(capacity.main, flags.FLAGS(["capacity", *QUICK, *arguments]))


def test_capacity(tmp_path, capsys, killed_at):
    output = tmp_path / "capacity"
    arguments = [f"--model_dir={tmp_path / 'runs'}", f"--output={output}", "--scales=1,4", "--adversaries=natural,pgd"]
    made = killed_at(capacity, "_run", 4, lambda _, adversary, scale, attack: (adversary, scale))
    with pytest.raises(SystemExit):
        call(*arguments)
    call(*arguments)
    assert made == [("natural", "1"), ("natural", "4"), ("pgd", "1"), ("pgd", "4"), ("pgd", "4")]
    with open(f"{output}.csv", newline="") as file:
        rows = {(row["adversary"], row["scale"]): row for row in csv.DictReader(file)}
    assert list(rows) == [("natural", "1"), ("natural", "4"), ("pgd", "1"), ("pgd", "4")]
    for row in rows.values():
        assert 0 <= float(row["pgd"]) <= float(row["fgsm"]) + 0.02 and 0 < float(row["training_loss"]) < 3
    # More capacity learns more, and a small network nothing at all against PGD in so few steps.
    assert float(rows["natural", "4"]["natural"]) > 0.8
    adversaries = ("natural", "pgd")
    for adversary in adversaries:
        assert float(rows[adversary, "4"]["training_loss"]) < 0.9 * float(rows[adversary, "1"]["training_loss"])
    assert f"scale 4, trained on PGD: natural {float(rows['pgd', '4']['natural']):.2%}" in capsys.readouterr().out
    records = (tmp_path / "runs" / f"{adversary}_4" / "flags.txt" for adversary in adversaries)
    natural, pgd = (set(record.read_text().splitlines()) for record in records)
    assert "--noadversarial" in natural and {"--adversarial", "--capacity=4", "--k=3", "--a=0.03"} <= pgd
    picture = output.with_suffix(".png")
    size = picture.stat().st_size
    picture.unlink()
    page = tmp_path / "capacity.html"
    call("--redraw", f"--output={output}", f"--report={page}")
    assert [row[:2] for row in Page(page).rows if row[0] == "pgd"] == [["pgd", "1"], ["pgd", "4"]]
    assert picture.stat().st_size == size > 5000


def test_networks_by_name(tmp_path, capsys):
    output = tmp_path / "networks"
    arguments = ["--architecture=tramer_d", "--scales=tramer_d,mlp", "--adversaries=natural"]
    arguments += ["--max_num_training_steps=20", f"--model_dir={tmp_path / 'runs'}", f"--output={output}"]
    call(*arguments)
    call(*arguments)
    assert [path.name for path in sorted((tmp_path / "runs").iterdir())] == ["natural_mlp", "natural_tramer_d"]
    said = capsys.readouterr().out
    assert said.count("scale mlp, trained on natural images: natural") == 2 and said.count("run 2 of 2") == 1
    assert output.with_suffix(".png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scales=1,x"], "each once and separated by commas, got ['1', 'x']"),
        (["--scales=1,mlp"], "scales must be integers of 1 or more, or some of challenge, thresholds, tramer_a"),
        (["--scales=2,2"], "each once"),
        (["--scales=0"], "scales must be integers of 1 or more"),
        (["--adversaries=cw"], "adversaries must be some of natural, fgsm, pgd, got 'cw'"),
        (["--architecture=challenge"], "architecture must be capacity for scales"),
        ([], "model_dir must be given"),
        (["--redraw"], "output must be given with --redraw"),
    ],
)
def test_bad_input(refuses, arguments, message):
    refuses(call, arguments, message)
