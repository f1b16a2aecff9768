"""Accuracy against epsilon: how a study measures it, row by row, and draws it."""

from collections.abc import Mapping, Sequence

import numpy as np

from eval import common, figures, study, tables
from tfrobust import datasets
from tfrobust.attacks import catalogue
from tfrobust.threat_models import ThreatModel

# Behind the column that names the network.
COLUMNS = {"attack": str, "epsilon": float, "accuracy": float, "seconds": float}

Curves = Mapping[tuple[object, str], Sequence[tuple[float, float]]]


def check_attacks(attacks: str, epsilons: Sequence[float]) -> list[str]:
    """The attacks' names; asked before anything is computed.

    Raises:
      ValueError: for what is wrong with an attack, or with the threat model of an epsilon.
    """
    suites = [catalogue.parse(attacks, ThreatModel(common.NORM.value, epsilon)) for epsilon in epsilons]
    return list(suites[0])


def measure(
    found: study.Study, key: Mapping[str, object], classifier, test: datasets.Arrays, attacks: str, epsilon, **arguments
):
    """The rows of one network and epsilon, computed unless they are there.

    Args:
      found: has `key` and COLUMNS as columns; its key is `key`'s, attack and epsilon.
      key: the column that names the network, and its name.
      attacks: as --attacks.
      arguments: of `common.evaluate`.
    """
    suite = catalogue.parse(attacks, ThreatModel(common.NORM.value, epsilon))
    missing = {name: attack for name, attack in suite.items() if not found.has(*key.values(), name, epsilon)}
    if missing:

        def keep(result):
            row = {**key, "attack": result.name, "epsilon": epsilon}
            found.add({**row, "accuracy": result.accuracy, "seconds": round(result.seconds, 1)})

        common.evaluate(
            classifier,
            test,
            common.Table(missing, False),
            on_result=keep,
            on_skip=tables.refuse_skipped,
            on_progress=tables.show_progress,
            **arguments,
        )
        tables.clear_progress()
    return [found.get(*key.values(), name, epsilon) for name in suite]


def curves(rows, network: str = "model") -> Curves:
    """Points (epsilon, accuracy) in the order of epsilon, by the column `network` and attack."""
    found = {}
    for row in rows:
        found.setdefault((row[network], row["attack"]), []).append((row["epsilon"], row["accuracy"]))
    return {key: sorted(points) for key, points in found.items()}


def draw(path: str, caption: str, found: Curves, settings: Mapping[str, object], marked: float | None = None) -> None:
    """The curves as PNG: a colour for each network, a style for each attack.

    Args:
      settings: of the study, with `chance`, the accuracy of guessing, and `norm`.
      marked: an epsilon with a vertical line, that of the training.
    """
    figure, (axes,) = figures.new(1, caption, width=6.5)
    networks, attacks = (list(dict.fromkeys(key[part] for key in found)) for part in (0, 1))
    for (network, attack), points in found.items():
        epsilons, accuracies = np.array(points).T
        index = networks.index(network)
        style = {"color": f"C{index}", "linestyle": ("-", "--", ":", "-.")[attacks.index(attack) % 4]}
        marker = figures.MARKERS[index % len(figures.MARKERS)]
        axes.plot(epsilons, 100 * accuracies, marker=marker, markersize=4, label=f"{network}, {attack}", **style)
    axes.axhline(100 * settings["chance"], color="grey", linewidth=1, label="guessing")
    if marked is not None:
        axes.axvline(marked, color="black", linewidth=1, label="epsilon of the training")
    axes.set(
        xlabel=f"epsilon ({settings['norm']}, pixels in [0, 1])", ylabel="accuracy (%)", ylim=(0, 100), xlim=(0, None)
    )
    figures.legend_below(figure, axes, columns=3)
    figures.save(figure, path)
