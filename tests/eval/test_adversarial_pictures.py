"""eval.adversarial_pictures: which images, their rows, that it goes on, that it draws again, and bad input."""

import csv

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from eval import adversarial_pictures, common
from tfrobust import datasets, loading

QUICK = ["--dataset=digits", "--num_eval_examples=60", "--precision=float32", "--attacks=pgd:steps=5"]


@flagsaver.flagsaver
def call(*arguments):
    common.guarded(adversarial_pictures.main, flags.FLAGS(["adversarial_pictures", *QUICK, *arguments]))


def test_pictures(digits_model, tmp_path, capsys, killed_at):
    output = tmp_path / "pictures"
    arguments = [f"--model={digits_model}", "--epsilons=0.1,0.4", "--classes=3", f"--output={output}"]
    attacked = killed_at(
        common, "evaluate", 2, lambda _, test, table, **options: table.attacks["attack"].threat.epsilon
    )
    with pytest.raises(SystemExit):
        call(*arguments)
    call(*arguments)
    assert attacked == [0.1, 0.4, 0.4]
    with open(f"{output}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["epsilon"]) for row in rows] == [0] * 3 + [0.1] * 3 + [0.4] * 3
    natural, _, last = rows[:3], rows[3:6], rows[6:]
    test = datasets.load("digits", "test", num_examples=60)
    logits = np.asarray(loading.load_classifier(digits_model)(test.images))
    correct = logits.argmax(axis=1) == test.labels
    assert [int(row["image"]) for row in natural] == [np.flatnonzero(correct & (test.labels == y))[0] for y in range(3)]
    assert all(row["label"] == row["prediction"] and float(row["distance"]) == 0 for row in natural)
    image = int(natural[0]["image"])
    odds = np.exp(logits[image] - logits[image].max())
    assert float(natural[0]["confidence"]) == pytest.approx(odds.max() / odds.sum(), rel=1e-4)
    assert all(float(row["distance"]) == pytest.approx(0.4, abs=1e-5) for row in last)
    assert any(row["label"] != row["prediction"] for row in last)
    with np.load(f"{output}.npz") as file:
        assert file["epsilons"].tolist() == [0, 0.1, 0.4] and file["x_adv"].shape == (3, 3, 28, 28, 1)
        np.testing.assert_array_equal(file["x_adv"][0, 0], test.images[image])
    assert f"{last[0]['prediction']} {float(last[0]['confidence']):.0%}" in capsys.readouterr().out
    picture = output.with_suffix(".png")
    size = picture.stat().st_size
    picture.unlink()
    call("--redraw", f"--output={output}")
    assert picture.stat().st_size == size > 5000 and len(attacked) == 3
    output.with_suffix(".npz").unlink()
    with pytest.raises(SystemExit):
        call("--redraw", f"--output={output}")
    assert "must have this study's pictures" in capsys.readouterr().err


def test_images_of_ones_own(digits_model, capsys):
    call(f"--model={digits_model}", "--epsilons=0,0.1", "--images=7,2")
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[:2] for line in lines] == [["7", "0"], ["2", "0"], ["7", "0.1"], ["2", "0.1"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epsilons=0,0.1"], "model must be given"),
        (["--epsilons=0,0.1", "--model=a.keras"], "model a.keras does not exist"),
        (["--model=a.keras"], "epsilons must be two or more"),
        (["--model=a.keras", "--epsilons=0,0.1", "--attacks=fgsm,pgd"], "attacks must be a single one, got 'fgsm,pgd'"),
        (["--model=a.keras", "--epsilons=0,0.1", "--epsilon=0.1"], "epsilon is --epsilons here"),
        (["--redraw"], "output must be given with --redraw"),
        (["--redraw", "--output=nothing"], "output nothing must have the .csv and the .json"),
    ],
)
def test_bad_input(refuses, arguments, message):
    refuses(call, arguments, message)


@pytest.mark.parametrize("images", ["60", "-1", "x", "3,3"])
def test_images_that_are_not_there(refuses, digits_model, images):
    message = "images must be different numbers from 0 to 59, separated by commas"
    refuses(call, [f"--model={digits_model}", "--epsilons=0,0.1", f"--images={images}"], message)
