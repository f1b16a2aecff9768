"""The measures of Deep Defense's table, of one classifier."""

from eval import common, tables
from tfrobust import datasets, metrics
from tfrobust.deep_defense_tables import PARTS


def measure(classifier, test: datasets.Arrays, center, epsilon: float | None = None) -> dict:
    """Accuracy, rho2 after 50 and after 5 iterations of DeepFool, and its success rate after 50; with `epsilon`, also
    the accuracies under FGSM at `PARTS` of it."""
    attack = metrics.SignAttack(classifier, test.images, test.labels)
    values = {"accuracy": attack.accuracy(0.0)}
    for key, iterations in (("rho2", 50), ("rho2_5", 5)):
        meter = metrics.RhoMeter(classifier, iterations=iterations, center=center, precision=common.PRECISION.value)
        found = meter(test.images, lambda done, total: tables.show_progress("rho2", done, total))
        values[key] = found.value
        if iterations == 50:
            values["deepfool_success_rate"] = found.success_rate
    tables.clear_progress()
    if epsilon is not None:
        values["fgsm_accuracies"] = [attack.accuracy(part * epsilon) for part in PARTS]
    return values
