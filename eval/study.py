"""A study: rows that are computed one after the other, kept as CSV, and drawn.

study = Study("reports/sweep", settings, {"model": str, "epsilon": float, "accuracy": float}, key=("model", "epsilon"))
for model, epsilon in ...:
    if not study.has(model, epsilon):
        study.add({"model": model, "epsilon": epsilon, "accuracy": ...})
"""

import contextlib
import csv
import json
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from eval import curve_files, output_files, provenance

REDRAW = flags.DEFINE_bool("redraw", False, "Compute nothing: draw the figure again from the files of --output.")

Row = Mapping[str, Any]


class Study:
    """The rows of a study, saved after each; a study that was stopped goes on behind the last one.

    Args:
      output: path without suffix of the .csv with the rows and the .json with `settings`; None keeps them in memory.
      settings: all that decides the rows, as plain values.
      columns: the type of each column, by name.
      key: the columns that name a row.

    Attributes:
      settings, rows: of the study.

    Raises:
      ValueError: if the files have rows of a study with other settings, or are none.
    """

    def __init__(
        self, output: str | None, settings: Mapping[str, Any], columns: Mapping[str, type], key: Sequence[str]
    ):
        self.settings, self.rows = json.loads(json.dumps(settings)), []
        self._output, self._columns, self._key = output, columns, key
        self._content = {"settings": self.settings, **provenance.made_by()}
        if output is None:
            return
        output_files.check_output_path(f"{output}.csv")
        before, self.rows = read(output, columns) if pathlib.Path(f"{output}.json").exists() else ({}, [])
        if self.rows:
            if before != self.settings:
                raise ValueError(
                    f"output {output} holds a study with other settings ({_difference(before, self.settings)}): "
                    "take another --output or delete it"
                )
            self._cut_torn_line()
            self._content = _content(output)
            return
        self._refuse_strangers()
        # Rows first: a study without them may be written over.
        with output_files.whole_file(f"{output}.csv") as file:
            file.write(curve_files.table(list(columns), []).encode())
        self.keep()

    def _refuse_strangers(self):
        path = pathlib.Path(f"{self._output}.csv")
        if path.exists() and path.read_bytes().count(b"\n") > 1 and not pathlib.Path(f"{self._output}.json").exists():
            raise ValueError(
                f"output {path} is no study's, which has its settings beside it, {self._output}.json: take another "
                "--output or delete it"
            )

    def _cut_torn_line(self):
        path = pathlib.Path(f"{self._output}.csv")
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            with output_files.whole_file(str(path)) as file:
                file.write(content[: content.rfind(b"\n") + 1])

    def has(self, *key) -> bool:
        """Whether the row of this key has been computed."""
        return self.get(*key) is not None

    def get(self, *key) -> Row | None:
        """The row of this key, or None."""
        return next((row for row in self.rows if tuple(row[name] for name in self._key) == key), None)

    def add(self, *rows: Row) -> None:
        """Keeps rows and saves them."""
        self.rows += rows
        if self._output is not None:
            command = provenance.command()
            extended_by = self._content.get("extended_by", [])
            if command not in (self._content.get("command"), *extended_by):
                self.keep(extended_by=[*extended_by, command])
            lines = [[cell(row[name]) for name in self._columns] for row in rows]
            _append(f"{self._output}.csv", curve_files.table(lines[0], lines[1:]).encode() if lines else b"")

    def keep(self, **content) -> None:
        """Saves `content` beside the settings."""
        self._content |= content
        if self._output is not None:
            output_files.write_json(f"{self._output}.json", self._content)


def _append(path, content):
    """Writes behind what is there, for a study may have many rows: all of `content`, or nothing where the disk is full.
    A kill may leave a line that is not whole, which `read` leaves out."""
    with open(path, "ab", buffering=0) as file:
        before = file.tell()
        try:
            while content:
                content = content[file.write(content) :]
        except OSError:
            file.truncate(before)
            raise


def output_to_redraw() -> str | None:
    """--output with --redraw, and None without it.

    Raises:
      ValueError: if there is no --output to draw.
    """
    if not REDRAW.value:
        return None
    if not output_files.OUTPUT.value:
        raise ValueError("output must be given with --redraw: --output=PATH, without .csv")
    return output_files.OUTPUT.value


def redrawn(columns: Mapping[str, type], draw, page=None) -> bool:
    """With --redraw, calls `draw(path, settings, rows)` for --output's PNG, and `page(settings, rows)` if there is one.

    `draw` may return the names of other files that it wrote instead.

    Returns:
      Whether it did.
    """
    output = output_to_redraw()
    if output:
        settings, rows = read(output, columns)
        if not rows:
            raise ValueError(f"output {output} has no rows yet")
        drawn = draw(f"{output}.png", settings, rows)
        print(f"saved {drawn or f'{output}.png'}")
        if page:
            page(settings, rows)
    return output is not None


@contextlib.contextmanager
def kept_pictures(path: str):
    """The arrays of a .npz file with a study's pictures, open while they are taken out of it.

    Raises:
      ValueError: if it is missing, damaged, or another.
    """
    try:
        with np.load(path) as file:
            yield file
    except Exception as error:  # damage shows as anything from zipfile.BadZipFile to KeyError
        raise ValueError(f"output must have this study's pictures, {path} cannot be read: {error}") from error


def made_by(output: str | None) -> dict[str, str]:
    """The commands, a line each, and the machine that made the study at `output`, or else those of this process."""
    found = provenance.made_by()
    if output is not None:
        before = _content(output)
        found |= {name: before[name] for name in found if name in before}
        found["command"] = "\n".join([found["command"], *before.get("extended_by", ())])
    return found


def _content(output):
    return json.loads(pathlib.Path(f"{output}.json").read_text(encoding="utf-8"))


def _difference(before, now):
    """The first setting, or part of one, that differs, with its values."""
    name = next(name for name in {**before, **now} if before.get(name) != now.get(name))
    was, now = before.get(name), now.get(name)
    if isinstance(was, dict) and isinstance(now, dict):
        return f"{name}: {_difference(was, now)}"
    if isinstance(was, list) and isinstance(now, list):
        parts = [[item for item in these if item not in others] for these, others in ((was, now), (now, was))]
        # Without any, the lists differ in their order.
        was, now = parts if any(parts) else (was, now)
    was, now = (textwrap.shorten(repr(value), 80) for value in (was, now))
    return f"{name} was {was} and is {now}"


def cell(value) -> str:
    """A value in a CSV file; floats keep their value."""
    return repr(value) if isinstance(value, float) else str(value)


def read(output: str, columns: Mapping[str, type]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Settings and rows of the study at `output`.

    Raises:
      ValueError: if there is none, or if its files are damaged.
    """
    try:
        settings = _content(output)["settings"]
        text = pathlib.Path(f"{output}.csv").read_text(encoding="utf-8")
        text = text[: text.rfind("\n") + 1]
        rows = [{name: columns[name](row[name]) for name in columns} for row in csv.DictReader(text.splitlines())]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"output {output} must have the .csv and the .json of this study: {error}") from error
    return settings, rows
