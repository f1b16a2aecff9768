"""Table 1 of Deep Defense (Yan, Guo and Zhang 2018): published numbers by network and method."""

from collections.abc import Mapping
from typing import NamedTuple

METHODS = ("reference", "parseval", "adv_train_1", "deep_defense")
# Parts of eps_ref, the epsilon at which Deep Defense has an accuracy of 50 % under FGSM.
PARTS = (0.2, 0.5, 1.0)
# Those at which we add PGD, which the paper has not: training against FGSM can hide the gradient from FGSM alone.
PGD_PARTS = (0.5, 1.0)


class Measures(NamedTuple):
    """Accuracy, rho2 and the accuracies under FGSM at `PARTS` of eps_ref."""

    accuracy: float
    rho2: float
    accuracies: tuple[float, ...]


def _rows(*rows, methods=METHODS):
    return {
        method: Measures(row[0] / 100, row[1], tuple(value / 100 for value in row[2:]))
        for method, row in zip(methods, rows, strict=True)
    }


PUBLISHED: Mapping[str, Mapping[str, Measures]] = {
    "mnist_mlp": _rows(
        (98.31, 1.11e-1, 72.76, 29.08, 3.31),
        (98.32, 1.11e-1, 77.44, 28.95, 2.96),
        (98.49, 1.62e-1, 87.70, 59.69, 22.55),
        (98.65, 2.25e-1, 95.04, 88.93, 50.00),
    ),
    "mnist_lenet": _rows(
        (99.02, 2.05e-1, 90.95, 53.88, 19.75),
        (99.10, 2.03e-1, 91.68, 66.48, 19.64),
        (99.18, 2.63e-1, 95.20, 74.82, 41.40),
        (99.34, 2.84e-1, 96.51, 88.93, 50.00),
    ),
    "cifar10_convnet": _rows(
        (79.74, 2.59e-2, 61.62, 37.84, 23.85),
        (80.48, 3.42e-2, 69.19, 50.43, 22.13),
        (80.65, 3.05e-2, 65.16, 45.03, 35.53),
        (81.70, 5.32e-2, 72.15, 59.02, 50.00),
    ),
    "cifar10_nin": _rows(
        (89.64, 4.20e-2, 75.61, 49.22, 33.56),
        (88.20, 4.33e-2, 75.39, 49.75, 17.74),
        (89.87, 5.25e-2, 78.87, 58.85, 45.90),
        (89.96, 5.58e-2, 80.70, 70.73, 50.00),
    ),
    "imagenet_alexnet": _rows(
        (56.91, 2.98e-3, 54.62, 51.39, 46.05),
        (57.11, 4.54e-3, 55.79, 53.50, 50.00),
        methods=("reference", "deep_defense"),
    ),
    "imagenet_resnet18": _rows(
        (69.64, 1.63e-3, 63.39, 54.45, 41.70),
        (69.66, 2.43e-3, 65.53, 59.46, 50.00),
        methods=("reference", "deep_defense"),
    ),
}
