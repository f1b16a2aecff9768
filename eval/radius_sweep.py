"""A small sweep over epsilon with one attack of a table, for the page of a report.

found = radius_sweep.measure(classifier, test, report, rows)
found.accuracies                       # at epsilon 0 and at every part of it in PARTS
"""

import time
from typing import NamedTuple

import numpy as np
from absl import flags

from eval import common, tables
from tfrobust import datasets, reports
from tfrobust.attacks.base import scaled
from tfrobust.threat_models import ThreatModel

REPORT_EXAMPLES = flags.DEFINE_integer(
    "report_examples",
    500,
    "Examples on which --report measures accuracy at other epsilons, the first ones; 0 leaves that out.",
    lower_bound=0,
)

# Of the report's epsilon.
PARTS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


class Sweep(NamedTuple):
    """What one attack found at growing epsilons; its balls are inside of each other.

    Attributes:
      attack: name of its row.
      epsilons: 0, and those that were measured, [R].
      accuracies: fraction of the examples that stood at all epsilons up to each, [R].
      fell_at: of each example the smallest epsilon at which it was misclassified, infinite where it was not, [n].
      x_adv, predictions: the images of these falls and their classes, [n, H, W, C] and [n]; natural ones elsewhere.
      seconds: that all of it took.
    """

    attack: str
    epsilons: list[float]
    accuracies: list[float]
    fell_at: np.ndarray
    x_adv: np.ndarray
    predictions: np.ndarray
    seconds: float


def measure(classifier, test: datasets.Arrays, report: reports.Report, rows: common.Table) -> Sweep | None:
    """Attacks the first --report_examples with the table's strongest attack, at epsilon times each of PARTS.

    Prints what it will cost. None where there is nothing to measure: no examples are wanted, or epsilon is 0.
    """
    threat = report.threat_model
    parts = [part for part in PARTS if _exists(threat, part)]
    count = min(REPORT_EXAMPLES.value, report.num_examples)
    if not count or not threat.epsilon or not parts:
        return None
    row = strongest(report)
    expected = row.seconds / max(row.num_attacked, 1) * count * len(parts)
    print(
        f"report: {row.name} at {len(parts)} epsilons on {count} examples, about {expected:.0f} seconds "
        "(--report_examples)",
        flush=True,
    )
    start = time.perf_counter()
    some = datasets.Arrays(*(part[:count] for part in test))
    fell_at = np.where(report.clean_predictions[:count] == some.labels, np.inf, 0.0)
    x_adv, predictions = some.images.copy(), report.clean_predictions[:count].copy()
    epsilons, accuracies = [0.0], [float(np.mean(np.isinf(fell_at)))]
    for number, part in enumerate(parts, start=1):

        def progress(name, done, total, number=number):
            tables.show_progress(f"report, epsilon {number} of {len(parts)}, {name}", done, total)

        attack = scaled(rows.attacks[row.name], part)
        found = common.evaluate(
            classifier,
            some,
            common.Table({row.name: attack}, False),
            warn=False,
            precision=report.precision,
            relu_window=report.relu_window,
            on_progress=progress,
        )
        fallen = np.isinf(fell_at) & (found.predictions != some.labels)
        fell_at[fallen] = attack.threat.epsilon
        x_adv[fallen], predictions[fallen] = found.x_adv[fallen], found.predictions[fallen]
        epsilons.append(attack.threat.epsilon)
        accuracies.append(float(np.mean(np.isinf(fell_at))))
    tables.clear_progress()
    return Sweep(row.name, epsilons, accuracies, fell_at, x_adv, predictions, time.perf_counter() - start)


def strongest(report: reports.Report) -> reports.AttackResult:
    """The attack that alone leaves the fewest standing, of equals the one with the highest loss.

    It is one that attacked all that stood by nature: of others the accuracy alone is not known.
    """
    by_nature = round(report.clean_accuracy * report.num_examples)
    return min(
        (row for row in report.attacks if row.num_attacked >= by_nature),
        key=strength,
    )


def strength(row: reports.AttackResult) -> tuple[float, float]:
    """What sorts attacks from the strongest to the weakest: accuracies, and of equals the one with the higher loss."""
    return row.accuracy, -row.mean_loss


def _exists(threat: ThreatModel, part: float) -> bool:
    try:
        threat.scaled(part)
    except ValueError:
        # In linf no ball may be wider than the range of pixels.
        return False
    return True
