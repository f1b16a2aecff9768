"""The page of a study: its settings, its pictures and its rows."""

import math
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eval import html_page, output_files, study
from eval.html_page import Html

Draw = Callable[[str, Mapping[str, Any], Sequence[Mapping[str, Any]]], None]

# Rows in a page; of more the first ones, for all of them are in the CSV file.
MOST_ROWS = 500


def write(
    title: str,
    caption: str,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    figures: Mapping[str, Callable[[str], None]],
    made_by: Mapping[str, str],
) -> None:
    """Writes --report; does nothing without it.

    Args:
      caption: what was measured, in a line or two.
      settings: all that decides the rows.
      rows: by column.
      figures: what draws each picture into the PNG file whose path it gets, by what the picture shows.
      made_by: as of `provenance.made_by`.
    """
    if not html_page.REPORT.value:
        return
    pictures = [html_page.plot(_png(draw), words, words) for words, draw in figures.items()]
    sections = {
        "Pictures" if len(pictures) > 1 else "Picture": pictures,
        "Rows": _table(rows),
        "Settings": [_settings(settings)],
        "How to repeat it": html_page.reproduction(made_by),
    }
    html_page.write(html_page.REPORT.value, title, title, html_page.paragraph(caption), sections)


def write_study(
    title: str, caption: str, shown: str, draw: Draw, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> None:
    """The same for a `study.Study` at --output that is drawn as one picture, which shows `shown`."""
    figure = {shown: lambda path: draw(path, settings, rows)}
    write(title, caption, settings, rows, figure, study.made_by(output_files.OUTPUT.value))


def _png(draw):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "figure.png"
        draw(str(path))
        return path.read_bytes()


def _table(rows) -> list[Html]:
    if not rows:
        return [html_page.paragraph("None yet.")]
    caption = f"{len(rows):,} rows"
    if len(rows) > MOST_ROWS:
        caption = f"The first {MOST_ROWS:,} of {len(rows):,} rows"
    header = [name.replace("_", " ") for name in rows[0]]
    words = [column for column, value in enumerate(rows[0].values()) if isinstance(value, str) and column]
    cells = [[_cell(value) for value in row.values()] for row in rows[:MOST_ROWS]]
    return [html_page.table(caption, header, cells, words=words)]


def _settings(settings):
    rows = [(name.replace("_", " "), _words(value)) for name, value in settings.items()]
    return html_page.table("All that decides the rows", ("setting", "value"), rows, words=(1,))


def _words(value):
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_words(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value))
    return "none" if value is None else _cell(value)


def _cell(value):
    if isinstance(value, float):
        # A number that was not measured.
        if math.isnan(value):
            return ""
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    return str(value)
