"""curve.csv: accuracy and rho2 over the epochs of a training run."""

import csv
import io
import pathlib
from collections.abc import Mapping, Sequence

FILE = "curve.csv"
COLUMNS = ("step", "epoch", "accuracy", "rho2")

Row = Mapping[str, float]


def read(path) -> list[dict[str, float]]:
    """The rows of a curve; none if there is no file.

    Raises:
      ValueError: if it is no curve.
    """
    try:
        text = pathlib.Path(path).read_text()
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        return [{name: float(row[name]) for name in COLUMNS} for row in csv.DictReader(text.splitlines())]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must be a CSV file with the columns {', '.join(COLUMNS)}") from error


def text(rows: Sequence[Row]) -> str:
    """The file's content."""
    return table(COLUMNS, ([f"{row[name]:.6g}" for name in COLUMNS] for row in rows))


def table(header: Sequence[str], rows) -> str:
    """A CSV file of a header and rows of cells."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return content.getvalue()
