"""Which examples of an evaluation are worth a look: those that fell first, and those that never fell."""

from collections.abc import Sequence

import numpy as np

from eval.html_examples import Example
from eval.html_words import radius
from eval.radius_sweep import Sweep
from tfrobust import datasets, reports

# Of each kind.
SHOWN = 6


def fell_first(report: reports.Report, test: datasets.Arrays, sweep: Sweep | None) -> tuple[str, list[Example]]:
    """The first of those that fell, in words and as examples; what is misclassified without an attack is none of them.

    With a sweep these are the ones that fell at its smallest epsilons, up to that of the report, and else those that
    fell to the attack that stands first in the table.
    """
    order = _table_order(report)
    if sweep is not None:
        fell_at = np.where(sweep.fell_at > report.threat_model.epsilon, 0.0, sweep.fell_at)
        (candidates,) = np.nonzero(fell_at)
        if len(candidates):
            candidates = sorted(candidates, key=lambda i: (fell_at[i], order[i], i))[:SHOWN]
            words = (
                f"Of the {len(fell_at):,} examples of the sweep those that fell to {sweep.attack} at the smallest "
                "epsilon, and of equals those that fell to the earlier attack of the table. Shown is the image that "
                "fooled the model at that epsilon."
            )
            images = (sweep.x_adv, sweep.predictions)
            found = [_example(report, test, i, *images, f"Fell at epsilon {radius(fell_at[i])}.") for i in candidates]
            return words, found
    (candidates,) = np.nonzero((report.fell_to != reports.NATURAL) & (report.fell_to != reports.STANDING))
    candidates = sorted(candidates, key=lambda i: (order[i], i))[:SHOWN]
    words = "Those that fell to the earliest attack in the order in which they were run, and of equals the first ones."
    images = (report.x_adv, report.predictions)
    return words, [_example(report, test, i, *images, f"Fell to {_fell_to(report, i)}.") for i in candidates]


def never_fell(report: reports.Report, test: datasets.Arrays, sweep: Sweep | None) -> tuple[str, list[Example]]:
    """The first of those that nothing fooled, in words and as examples; with a sweep first those that stood at its
    largest epsilon. The images are the attempts with the highest loss."""
    standing = report.fell_to == reports.STANDING
    rank = np.zeros(len(standing))
    words = "The first of those that no attack fooled. "
    if sweep is not None:
        rank[len(sweep.fell_at) :] = 1
        rank[: len(sweep.fell_at)] = np.isfinite(sweep.fell_at)
        standing[: len(sweep.fell_at)] &= sweep.fell_at > report.threat_model.epsilon
        words = (
            f"The first of those that no attack fooled, before others those that stood at epsilon "
            f"{sweep.epsilons[-1]:.4g} too. "
        )
    (candidates,) = np.nonzero(standing)
    candidates = sorted(candidates, key=lambda i: (rank[i], i))[:SHOWN]
    words += "Shown is the attempt with the highest loss."
    found = []
    for i in candidates:
        largest = sweep is not None and not rank[i]
        said = f"Stood at epsilon {sweep.epsilons[-1]:.4g} too." if largest else "Stood."
        found.append(_example(report, test, i, report.x_adv, report.predictions, said))
    return words, found


def _table_order(report) -> Sequence[int]:
    """For each example when it fell, in the order of the attacks; what stands, and what is not known, last."""
    last = len(report.attacks)
    return np.where(report.fell_to >= 0, report.fell_to, last)


def _fell_to(report, index):
    position = report.fell_to[index]
    return report.attacks[position].name if position >= 0 else "an attack of the part that was resumed"


def _example(report, test, index, x_adv, predictions, words):
    return Example(
        index=int(index),
        label=int(test.labels[index]),
        prediction=int(report.clean_predictions[index]),
        x=test.images[index],
        x_adv=x_adv[index],
        adversarial_prediction=int(predictions[index]),
        words=words,
    )
