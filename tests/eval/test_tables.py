"""Tables beside published numbers, as text and as Markdown."""

import re

import pytest
from absl import flags
from absl.testing import flagsaver

from eval import common, robust_accuracy
from tfrobust import madry_tables
from tfrobust.threat_models import ThreatModel

QUICK = ["--dataset=digits", "--num_eval_examples=20", "--epsilon=0.1", "--nored_flags", "--precision=float32"]


@flagsaver.flagsaver
def call(*arguments):
    common.guarded(robust_accuracy.main, flags.FLAGS(["robust_accuracy", *QUICK, *arguments]))


def test_table_2_with_one_source(digits_model, tmp_path, capsys, monkeypatch):
    path = tmp_path / "table.md"
    monkeypatch.setitem(madry_tables.PUBLISHED_FOR, "madry_table2", ("digits", ThreatModel("linf", 0.1)))
    call(f"--model={digits_model}", "--suite=madry_table2", f"--source_aprime={digits_model}", f"--markdown={path}")
    printed = capsys.readouterr().out.splitlines()
    assert "without the rows of --source_anat, --source_b, which are not given" in printed
    lines = [re.split(r"\s{2,}", line) for line in printed if "%" in line]
    rows = {name: columns for name, *columns in lines}
    # The paper's 56.1 % under FGSM, and how far ours are from it.
    accuracy, published, difference, *_ = rows["FGSM"]
    assert published == "56.10%" and float(difference) == pytest.approx(float(accuracy[:-1]) - 56.1, abs=0.01)
    # A model as its own source is the white-box attack.
    assert rows["FGSM, source A'"][0] == accuracy and rows["FGSM, source A'"][1] == "67.00%"
    assert "FGSM, source A_nat" not in rows
    text = path.read_text()
    assert f"| FGSM | {accuracy} | 56.10% | {difference} |" in text
    assert text.splitlines()[-1].startswith("Made by `python ") and " cores of " in text
    assert "20 test examples of digits, linf epsilon 0.1, seed" in text and "- CW 30x1: `PGD(" in text


def test_a_table_without_published_numbers(digits_model, tmp_path, capsys):
    path = tmp_path / "table.md"
    call(f"--model={digits_model}", "--attacks=fgsm", f"--markdown={path}")
    assert "published" not in capsys.readouterr().out
    assert "| attack | accuracy | seconds |\n|---|---|---|\n| natural | " in path.read_text()


def test_some_rows_of_a_suite_on_other_data(digits_model, capsys):
    call(f"--model={digits_model}", "--suite=madry_table2", "--rows=PGD 7*", "--rows=FGSM")
    printed = capsys.readouterr().out
    assert "published" not in printed
    assert re.findall(r"^(FGSM|PGD|CW)", printed, re.M) == ["FGSM", "PGD"] and "\nPGD 7x1 " in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite=quick", "--rows=*x7"], "rows must match some of 'FGSM', 'PGD-40', got ['*x7']"),
        (["--suite=quick", "--source_b=b.keras"], "sources of black-box rows are for --suite=madry_table1 or"),
        (["--suite=madry_table1", "--source_b=b.keras"], "model b.keras does not exist"),
    ],
)
def test_sources_that_do_not_fit(digits_model, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        call(f"--model={digits_model}", *arguments)
    errors = capsys.readouterr().err
    assert stopped.value.code == 1 and message in errors and errors.count("\n") == 1
