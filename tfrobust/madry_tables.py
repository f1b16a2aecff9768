"""The tables of Madry et al. 2018 and of the challenges' leaderboards, with the published accuracies.

    suite = table1(threat, {"A'": surrogate, "B": another}, precision="auto")
    PUBLISHED["madry_table1"]["FGSM, source A'"]                  # 0.968

Black-box rows attack a source: A' has the architecture of the attacked model A and was trained the same way from
another seed; A_nat is A's architecture trained on natural images; B is another architecture. Rows whose source is not
given are left out.
"""

import math
from collections.abc import Callable, Mapping

import keras

from tfrobust import losses
from tfrobust.attacks.base import Attack, LogitsFn
from tfrobust.attacks.pgd import PGD, fgsm
from tfrobust.attacks.targets import TargetedPGD, runner_up
from tfrobust.attacks.transfer import Transfer, named
from tfrobust.precision import Precision
from tfrobust.threat_models import ThreatModel

A, A_PRIME, A_NATURAL, B = "A", "A'", "A_nat", "B"
Sources = Mapping[str, keras.Model | LogitsFn]

# Of table 1 (MNIST, epsilon 0.3), table 2 (CIFAR10, 8/255), and of the challenges' secret models, as their READMEs have
# them in rows that the authors submitted.
_TABLE1 = {
    "natural": 0.988,
    "FGSM": 0.956,
    "PGD 40x1": 0.932,
    "PGD 100x1": 0.918,
    "PGD 40x20": 0.904,
    "PGD 100x20": 0.893,
    "targeted 40x1 (runner-up class)": 0.927,
    "CW 40x1": 0.940,
    "CW+ 40x1": 0.939,
    "FGSM, source A'": 0.968,
    "PGD 40x1, source A'": 0.960,
    "PGD 100x20, source A'": 0.957,
    "CW 40x1, source A'": 0.970,
    "CW+ 40x1, source A'": 0.964,
    "FGSM, source B": 0.954,
    "PGD 40x1, source B": 0.964,
    "CW+ 40x1, source B": 0.957,
}
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "mnist_table1_whitebox": _TABLE1,
    "madry_table1": _TABLE1,
    "madry_table2": {
        "natural": 0.873,
        "FGSM": 0.561,
        "PGD 7x1": 0.500,
        "PGD 20x1": 0.458,
        "CW 30x1": 0.468,
        "FGSM, source A'": 0.670,
        "PGD 7x1, source A'": 0.642,
        "CW 30x1, source A'": 0.787,
        "FGSM, source A_nat": 0.856,
        "PGD 7x1, source A_nat": 0.860,
    },
    "leaderboard_mnist": {
        "FGSM-CW": 0.9640,
        "FGSM": 0.9636,
        "PGD-CW 100x1": 0.9304,
        "PGD 100x1": 0.9252,
        "PGD-CW 100x50": 0.8971,
        "PGD 100x50": 0.8962,
    },
    "leaderboard_cifar10": {
        "natural": 0.8714,
        "FGSM": 0.5555,
        "FGSM-CW": 0.5492,
        "PGD-CW 20x1": 0.4776,
        "PGD 20x1": 0.4704,
        "PGD 20x10": 0.4521,
    },
}

# The data and the ball of these numbers.
PUBLISHED_FOR: dict[str, tuple[str, ThreatModel]] = {
    "mnist_table1_whitebox": ("mnist", ThreatModel("linf", 0.3)),
    "madry_table1": ("mnist", ThreatModel("linf", 0.3)),
    "madry_table2": ("cifar10", ThreatModel("linf", 8 / 255)),
    "leaderboard_mnist": ("mnist", ThreatModel("linf", 0.3)),
    "leaderboard_cifar10": ("cifar10", ThreatModel("linf", 8 / 255)),
}


def published(suite: str, dataset: str, norm: str, epsilon: float) -> dict[str, float]:
    """The published accuracies of the rows of a suite; none where they are of other data or another threat model."""
    known_dataset, known_threat = PUBLISHED_FOR.get(suite, (None, None))
    if dataset != known_dataset or norm != known_threat.norm:
        return {}
    # 8/255 is often written with three digits.
    return dict(PUBLISHED[suite]) if math.isclose(epsilon, known_threat.epsilon, rel_tol=2e-3) else {}


def table1(
    threat: ThreatModel, sources: Sources | None = None, *, precision: Precision = "float32"
) -> dict[str, Attack]:
    """Table 1, MNIST. The step size is epsilon / 30: the paper's 0.01 at its epsilon of 0.3.

    The paper does not say how targets were chosen; here it is the likeliest wrong class of the clean image. It has no
    row with the source A_nat: those here are the ones that it has with B.

    Args:
      threat: of every row.
      sources: classifiers by `A_PRIME`, `A_NATURAL` and `B`.
      precision: of the sources' gradients where they are Keras models.

    Returns:
      The white-box rows, and those of the given sources.
    """

    def row(name):
        kind, _, counts = name.partition(" ")
        if kind == "FGSM":
            return fgsm(threat)
        steps, restarts = (int(count) for count in counts.split(" ")[0].split("x"))
        loss = {"CW": losses.CWMargin(kappa=0), "CW+": losses.CWMargin(kappa=50)}.get(kind, losses.cross_entropy)
        attack = PGD(threat, steps, threat.epsilon / 30, loss=loss, restarts=restarts)
        return TargetedPGD(attack, target=runner_up) if kind == "targeted" else attack

    white_box = [name for name in PUBLISHED["madry_table1"] if name != "natural" and "source" not in name]
    black_box = {
        A_PRIME: ["FGSM", "PGD 40x1", "PGD 100x20", "CW 40x1", "CW+ 40x1"],
        A_NATURAL: ["FGSM", "PGD 40x1", "CW+ 40x1"],
        B: ["FGSM", "PGD 40x1", "CW+ 40x1"],
    }
    return _table(row, white_box, black_box, sources, precision)


def table2(
    threat: ThreatModel, sources: Sources | None = None, *, precision: Precision = "float32"
) -> dict[str, Attack]:
    """Table 2, CIFAR10; see `table1`. The step size is epsilon / 4: the paper's 2 at its epsilon of 8.

    The rows with the source B, which the paper does not have, are those with A_nat.
    """

    def row(name):
        kind, _, counts = name.partition(" ")
        if kind == "FGSM":
            return fgsm(threat)
        loss = losses.CWMargin(kappa=50) if kind == "CW" else losses.cross_entropy
        return PGD(threat, int(counts.split("x")[0]), threat.epsilon / 4, loss=loss)

    black_box = {
        A_PRIME: ["FGSM", "PGD 7x1", "CW 30x1"],
        A_NATURAL: ["FGSM", "PGD 7x1"],
        B: ["FGSM", "PGD 7x1"],
    }
    return _table(row, ["FGSM", "PGD 7x1", "PGD 20x1", "CW 30x1"], black_box, sources, precision)


def leaderboard_mnist(threat: ThreatModel) -> dict[str, Attack]:
    """The authors' own rows of the MNIST challenge's white-box leaderboard: 100 steps of epsilon / 30, 50 restarts."""
    return _leaderboard(threat, 100, 30, {"PGD-CW 100x1": 1, "PGD 100x1": 1, "PGD-CW 100x50": 50, "PGD 100x50": 50})


def leaderboard_cifar10(threat: ThreatModel) -> dict[str, Attack]:
    """The authors' own rows of the CIFAR10 challenge's white-box leaderboard: 20 steps of epsilon / 8."""
    return _leaderboard(threat, 20, 8, {"PGD-CW 20x1": 1, "PGD 20x1": 1, "PGD 20x10": 10})


def _leaderboard(threat, steps, parts, restarts):
    margin = losses.CWMargin(kappa=50)
    rows = {"FGSM": fgsm(threat), "FGSM-CW": fgsm(threat, loss=margin)}
    for name, count in restarts.items():
        loss = margin if "CW" in name else losses.cross_entropy
        rows[name] = PGD(threat, steps, threat.epsilon / parts, loss=loss, restarts=count)
    return rows


def _table(
    row: Callable[[str], Attack],
    white_box: list[str],
    black_box: Mapping[str, list[str]],
    sources: Sources | None,
    precision: Precision,
):
    attacks = {name: row(name) for name in white_box}
    for source, names in black_box.items():
        if source in (sources or {}):
            surrogate = named(sources[source], source)
            attacks |= {f"{name}, source {source}": Transfer(row(name), surrogate, precision) for name in names}
    return attacks
