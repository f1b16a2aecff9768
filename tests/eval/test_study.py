"""The files of a study: what is kept, what is gone on with, what is refused."""

import json
import resource

import pytest

from eval import provenance, study

COLUMNS = {"model": str, "epsilon": float, "accuracy": float}
SETTINGS = {"seed": 0, "models": {"a": "a.keras"}}
ROW = {"model": "a", "epsilon": 8 / 255, "accuracy": 1 / 3}


def new(output, settings=SETTINGS):
    return study.Study(output, settings, COLUMNS, ("model", "epsilon"))


def test_rows_are_kept_to_the_last_digit(tmp_path):
    output = str(tmp_path / "new" / "study")
    first = new(output)
    assert not first.has("a", 8 / 255)
    first.add(ROW)
    again = new(output)
    assert again.rows == [ROW] and again.get("a", 8 / 255) == ROW and not again.has("a", 0.03)
    again.add({**ROW, "model": "b, with a comma"})
    assert study.read(output, COLUMNS) == (SETTINGS, [ROW, {**ROW, "model": "b, with a comma"}])


def test_the_commands_that_made_it(tmp_path, monkeypatch):
    output = str(tmp_path / "study")
    monkeypatch.setattr(provenance, "command", lambda: "first")
    first = new(output)
    first.add(ROW)
    first.keep(mean=0.5)
    monkeypatch.setattr(provenance, "command", lambda: "second")
    new(output)
    assert study.made_by(output)["command"] == "first"
    new(output).add({**ROW, "model": "b"})
    new(output).add({**ROW, "model": "c"})
    assert study.made_by(output)["command"] == "first\nsecond"
    content = json.loads((tmp_path / "study.json").read_text())
    assert content["mean"] == 0.5 and content["settings"] == SETTINGS


def test_a_torn_line_is_computed_again(tmp_path):
    output = str(tmp_path / "study")
    new(output).add(ROW, {**ROW, "model": "b"})
    path = tmp_path / "study.csv"
    path.write_bytes(path.read_bytes()[:-5])
    again = new(output)
    assert again.rows == [ROW]
    again.add({**ROW, "model": "c"})
    assert [row["model"] for row in new(output).rows] == ["a", "c"]


def test_rows_on_a_full_disk_are_written_whole_or_not(tmp_path):
    output = str(tmp_path / "study")
    found = new(output)
    found.add(ROW)
    before = (tmp_path / "study.csv").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As on a full disk: a part is written, and no more.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 1000, hard))
    try:
        with pytest.raises(OSError):
            found.add(*({**ROW, "model": f"model {i}"} for i in range(100)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "study.csv").read_bytes() == before
    assert new(output).rows == [ROW]


def test_a_table_of_something_else_is_not_written_over(tmp_path):
    (tmp_path / "study.csv").write_text("epsilon,accuracy\n0.1,0.9\n")
    with pytest.raises(ValueError, match=r"study.csv is no study's, which has its settings beside it"):
        new(str(tmp_path / "study"))
    assert [path.name for path in tmp_path.iterdir()] == ["study.csv"]


def test_a_study_without_rows_is_no_study(tmp_path):
    output = str(tmp_path / "study")
    new(output)
    new(output, {**SETTINGS, "seed": 1}).add(ROW)
    assert study.read(output, COLUMNS)[0]["seed"] == 1


def test_without_output_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = new(None)
    found.add(ROW)
    assert found.has("a", 8 / 255) and list(tmp_path.iterdir()) == []


def test_another_study_is_not_written_over(tmp_path):
    output = str(tmp_path / "study")
    new(output).add(ROW)
    with pytest.raises(ValueError, match=r"holds a study with other settings \(seed was 0 and is 1\): take another"):
        new(output, {**SETTINGS, "seed": 1})
    with pytest.raises(ValueError, match=r"\(models: a was 'a.keras' and is None\)"):
        new(output, {**SETTINGS, "models": {"b" * 200: "b.keras"}})
    assert new(output).rows == [ROW]
    output = str(tmp_path / "listed")
    new(output, {"flags": ["--a=1", "--b=2"]}).add(ROW)
    with pytest.raises(ValueError, match=r"\(flags was \['--b=2'\] and is \['--b=3', '--c=4'\]\)"):
        new(output, {"flags": ["--a=1", "--b=3", "--c=4"]})
    with pytest.raises(ValueError, match=r"\(flags was \['--a=1', '--b=2'\] and is \['--b=2', '--a=1'\]\)"):
        new(output, {"flags": ["--b=2", "--a=1"]})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("study.json", "{}"),
        ("study.json", "no json"),
        ("study.csv", "a,b\n1,2\n"),
        ("study.csv", "model,epsilon,accuracy\na,b,c\n"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, content):
    output = str(tmp_path / "study")
    new(output).add(ROW)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=r"study must have the .csv and the .json of this study"):
        new(output)


def test_nothing_to_read(tmp_path):
    with pytest.raises(ValueError, match=r"must have the .csv and the .json"):
        study.read(str(tmp_path / "none"), COLUMNS)
