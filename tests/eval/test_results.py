"""The page of results is what its files say."""

import json
import pathlib
import re

import pytest

from eval import markdown, results

FOLDER = pathlib.Path(__file__).parents[2] / "docs" / "results"
REPORT = {
    "clean_accuracy": 0.9,
    "robust_accuracy": 0.4,
    "num_examples": 100,
    "seed": 3,
    "precision": "float32",
    "threat_model": {"norm": "linf", "epsilon": 0.3, "bounds": [0.0, 1.0]},
    "attacks": [{"name": "FGSM", "attack": "PGD(...)", "accuracy": 0.5, "seconds": 1.6}],
    "flags": {"dataset": "mnist", "suite": "quick", "attacks": None},
    "command": "python -m eval.robust_accuracy",
    "machine": "a machine",
}


def test_the_committed_page_is_up_to_date():
    assert results.render(FOLDER) == FOLDER.with_suffix(".md").read_text()


def test_every_file_beside_the_page_is_used():
    page = (FOLDER / "page.md").read_text()
    files = [*FOLDER.iterdir(), *(FOLDER.parent / "figures").iterdir()]
    assert not [path.name for path in files if path.name != "page.md" and path.name not in page]
    linked = re.findall(r"\((\w+/[\w.]+)\)", page)
    assert linked and all((FOLDER.parent / path).is_file() for path in linked)


def test_one_report():
    text = markdown.robustness([REPORT])
    assert "| attack | accuracy | seconds |\n|---|---|---|\n| natural | 90.00% |  |\n| FGSM | 50.00% | 2 |\n" in text
    assert f"| {markdown.WORST} | 40.00% |  |" in text
    assert "100 test examples of mnist, linf epsilon 0.3, seed 3," in text
    assert text.endswith("Made by `python -m eval.robust_accuracy` on a machine.\n")


def test_reports_on_different_numbers_of_images_beside_published_ones():
    table = {**REPORT, "flags": {**REPORT["flags"], "suite": "madry_table1"}}
    lines = markdown.robustness([table, {**REPORT, "num_examples": 20}]).splitlines()
    # The second report is of a suite that has none.
    assert lines[0] == "| attack | accuracy | published | difference | images | seconds |"
    # The paper's FGSM row of table 1 is 95.6 %.
    assert lines[3] == "| FGSM | 50.00% | 95.60% | -45.60 | 100 | 2 |"
    assert lines[6] == "| FGSM | 50.00% |  |  | 20 | 2 |"


@pytest.mark.parametrize("other", [{"flags": {**REPORT["flags"], "dataset": "cifar10"}}, {"threat_model": {}}])
def test_reports_that_do_not_belong_together(other):
    with pytest.raises(ValueError, match="reports must be of one model"):
        markdown.robustness([REPORT, {**REPORT, **other}])


def test_placeholders(tmp_path):
    content = {"models": {"a": "x", "b": "y"}, "natural": [0.9, 0.8], "accuracy": [[0.1, 0.2], [0.3, 0.4]]}
    (tmp_path / "t.json").write_text(json.dumps({**content, "command": "this", "machine": "that"}))
    (tmp_path / "o.txt").write_text("printed\n")
    (tmp_path / "page.md").write_text("# Title\n\n{{ transfer t.json }}\n\n{{ output o.txt }}\n")
    text = results.render(tmp_path)
    assert "| natural | 90.00% | 80.00% |\n| a | 10.00% | 20.00% |\n| b | 30.00% | 40.00% |\n" in text
    assert text.endswith("Made by `this` on that.\n\n```\nprinted\n```\n") and "# Title\n" in text


def test_rows_of_a_study(tmp_path):
    (tmp_path / "s.csv").write_text("model,mean_loss,image\nfirst,0.123456789,0\nnan,1e-07,12345\n")
    (tmp_path / "s.json").write_text(json.dumps({"settings": {}, "command": "this", "machine": "that"}))
    (tmp_path / "page.md").write_text("{{ study s.csv s.json }}\n")
    text = results.render(tmp_path)
    assert "| model | mean loss | image |\n|---|---|---|\n| first | 0.1235 | 0 |\n| nan | 1e-07 | 12345 |\n" in text
    assert text.endswith("Made by `this` on that.\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{{ picture x.json }}", "placeholders must be one of"),
        ("{{ output missing.txt }}", "cannot be rendered: FileNotFoundError"),
        ("{{ robustness bad.json }}", "cannot be rendered: KeyError"),
    ],
)
def test_faults(tmp_path, line, message):
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "page.md").write_text(line)
    with pytest.raises(ValueError, match=message):
        results.render(tmp_path)


def test_no_page(tmp_path):
    with pytest.raises(ValueError, match=r"results must be a folder with a page\.md"):
        results.render(tmp_path)
