"""Accuracy by class on a page."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from eval import html_page
from eval.html_page import Html

# Classes in a table; of more, those that fare worst.
MOST = 20


def by_class(
    labels: np.ndarray,
    clean_predictions: np.ndarray,
    predictions: np.ndarray,
    standing: np.ndarray,
    class_names: Sequence[str],
) -> list[Html]:
    """A table of natural and robust accuracy by class.

    Args:
      labels, clean_predictions: int [N].
      predictions: int [N], the classes of the adversarial images.
      standing: bool [N], which examples nothing fooled.
      class_names: by label.
    """
    rows = []
    for label in np.unique(labels):
        of_class = labels == label
        natural = float(np.mean(clean_predictions[of_class] == label))
        robust = float(np.mean(standing[of_class]))
        fallen = predictions[of_class & ~standing]
        rows.append((robust, natural, int(np.sum(of_class)), class_names[label], _commonest(fallen, class_names)))
    shown = sorted(rows, key=lambda row: row[:2])[:MOST] if len(rows) > MOST else rows
    cells = [
        (name, f"{count:,}", html_page.share(robust, 1), html_page.share(natural, 1, "natural"), taken_for)
        for robust, natural, count, name, taken_for in shown
    ]
    caption = "Share of each class that is classified correctly, under attack and as it is"
    if len(shown) < len(rows):
        caption += f"; of {len(rows)} classes the {MOST} with the lowest robust accuracy"
    header = ("class", "examples", "robust", "natural", "when wrong, most often taken for")
    parts = [html_page.table(caption, header, cells, words=(4,))]
    least = min(row[2] for row in rows)
    if least < 100:
        parts.append(
            html_page.paragraph(
                f"Some class has only {least} examples here: differences of a few of them between classes are chance.",
                class_="faint",
            )
        )
    return parts


def _commonest(predictions, class_names):
    if not len(predictions):
        return ""
    label, count = Counter(predictions.tolist()).most_common(1)[0]
    return f"{class_names[label]} ({count} of {len(predictions)})"
