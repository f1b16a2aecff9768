"""The measures of Deep Defense's table, of one classifier."""

import dataclasses
import functools

import keras

from eval import common, tables
from tfrobust import datasets, losses, metrics, suites
from tfrobust.deep_defense_tables import PARTS, PGD_PARTS
from tfrobust.threat_models import ThreatModel


def rho_meter(classifier: keras.Model, center) -> metrics.RhoMeter:
    """What measures rho2, in the precision of the flags."""
    return metrics.RhoMeter(classifier, center=center, precision=common.PRECISION.value)


def measure(
    classifier: keras.Model,
    test: datasets.Arrays,
    meter: metrics.RhoMeter,
    epsilon: float | None = None,
    pgd: bool = False,
) -> dict:
    """Accuracy, rho2 after 50 and after 5 iterations of DeepFool, and its success rate after 50.

    `meter` is the classifier's `rho_meter`. With `epsilon`, also the accuracies under FGSM at `PARTS` of it; with `pgd`
    those under PGD at `PGD_PARTS`.
    """
    attack = metrics.SignAttack(classifier, test.images, test.labels)
    values = {"accuracy": attack.accuracy(0.0)}
    show = functools.partial(tables.show_progress, "rho2")
    for key, iterations in (("rho2", 50), ("rho2_5", 5)):
        found = meter(test.images, show, iterations=iterations)
        values[key] = found.value
        if iterations == 50:
            values["deepfool_success_rate"] = found.success_rate
    if epsilon is not None:
        values["fgsm_accuracies"] = [attack.accuracy(part * epsilon) for part in PARTS]
    if epsilon is not None and pgd:
        values["pgd_accuracies"] = [_pgd_accuracy(classifier, test, part * epsilon) for part in PGD_PARTS]
    tables.clear_progress()
    return values


def _pgd_accuracy(classifier, test, epsilon):
    # As in `metrics.SignAttack`, the direction of the cross-entropy without its rounding.
    attack = dataclasses.replace(suites.quick(ThreatModel("linf", epsilon))["PGD-40"], loss=losses.log_odds)
    rows = {"PGD": attack}
    report = common.evaluate(classifier, test, common.Table(rows, False), on_progress=tables.show_progress)
    return report.attacks[0].accuracy
