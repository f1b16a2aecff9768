"""What training runs write as they go: training.csv; and of Deep Defense curve.csv, accuracy and rho2 by epoch."""

import csv
import io
import math
import pathlib
from collections.abc import Mapping, Sequence

FILE = "curve.csv"
COLUMNS = ("step", "epoch", "accuracy", "rho2")
TRAINING_FILE = "training.csv"
TRAINING_COLUMNS = tuple(
    ["step", "loss", "xent", "regularizer", "adversarial_accuracy", "natural_accuracy", "learning_rate", "seconds"]
)
# Files of earlier versions do not have it.
_OPTIONAL = "seconds"

# A number that was not measured is NaN here, and nothing in the file.
Row = Mapping[str, float]


def read(path, columns: Sequence[str] = COLUMNS) -> list[dict[str, float]]:
    """The rows of a curve; none if there is no file.

    Raises:
      ValueError: if it is no curve.
    """
    try:
        text = pathlib.Path(path).read_text()
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        return [{name: _number(row, name) for name in columns} for row in csv.DictReader(text.splitlines())]
    except (KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} must be a CSV file with the columns {', '.join(columns)}") from error


def text(rows: Sequence[Row], columns: Sequence[str] = COLUMNS) -> str:
    """The file's content."""
    return table(columns, ([_cell(row[name]) for name in columns] for row in rows))


def _number(row, name):
    return float((row.get(name, "") if name == _OPTIONAL else row[name]).strip() or "nan")


def _cell(value):
    return "" if math.isnan(value) else f"{value:.6g}"


def table(header: Sequence[str], rows) -> str:
    """A CSV file of a header and rows of cells."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return content.getvalue()
