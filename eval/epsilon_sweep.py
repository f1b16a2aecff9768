"""Accuracy against epsilon: several models, several attacks, one plot.

    python -m eval.epsilon_sweep --models=robust=models/mnist_fast,natural=models/mnist_natural \\
        --attacks=fgsm,pgd:steps=40 --epsilons=0,0.05,0.1,0.15,0.2,0.25,0.3,0.35,0.4 --output=reports/sweep

--output=reports/sweep writes reports/sweep.csv, .json and .png; the same command goes on where it was stopped, and
--redraw draws again what is there. --report=sweep.html writes a page for a browser. Attacks have the parameters of
eval.robust_accuracy; step sizes that are not given follow epsilon. In the end it says at which epsilon each accuracy
falls to that of guessing.
"""

import itertools

import numpy as np
from absl import flags

from eval import (
    common,
    data_flags,
    figures,
    fraction_flag,
    html_page,
    html_study,
    named_models,
    output_files,
    study,
    tables,
)
from tfrobust import datasets, precision
from tfrobust.attacks import catalogue
from tfrobust.threat_models import ThreatModel

EPSILONS = flags.DEFINE_list("epsilons", None, "Radii of the ball, separated by commas: 0,0.1,0.2 or 0,2/255,4/255.")
TRAINED_EPSILON = fraction_flag.define_fraction("trained_epsilon", None, "Mark this epsilon, that of the training.")
flags.adopt_module_key_flags(common)
flags.adopt_module_key_flags(named_models)
flags.adopt_module_key_flags(output_files)
flags.adopt_module_key_flags(study)
flags.adopt_module_key_flags(html_page)

COLUMNS = {"model": str, "attack": str, "epsilon": float, "accuracy": float, "seconds": float}
_DEFAULT_ATTACKS = "fgsm,pgd"


def main() -> None:
    """Measures what is missing, prints the curves, draws them."""
    output = output_files.OUTPUT.value
    html_page.check_report_path()
    if study.redrawn(COLUMNS, draw, page):
        return
    if not named_models.MODELS.value:
        raise ValueError("models must be one or more paths, separated by commas: --models=name=PATH,...")
    epsilons = _epsilons()
    attacks = common.ATTACKS.value or _DEFAULT_ATTACKS
    if common.EPSILON.value is not None:
        raise ValueError("epsilon is --epsilons here, several of them")
    # Now and not after the first hour: what is wrong with an attack or a threat model.
    for epsilon in epsilons:
        names = list(catalogue.parse(attacks, ThreatModel(common.NORM.value, epsilon)))
    paths = named_models.paths()
    models = named_models.load()
    settings = {
        "models": paths,
        "weights": named_models.fingerprints(models),
        "attacks": attacks,
        "norm": common.NORM.value,
        **data_flags.identity(),
        "num_examples": data_flags.NUM_EVAL_EXAMPLES.value,
        "seed": common.SEED.value,
        "precision": precision.resolve(common.PRECISION.value),
        "chance": 1 / data_flags.dataset_spec().num_classes,
    }
    test = data_flags.load_test_set()
    settings["num_examples"] = len(test.labels)
    found = study.Study(output, settings, COLUMNS, ("model", "attack", "epsilon"))
    print(caption(settings), flush=True)
    width = max(map(len, [*models, "model"]))
    attack_width = max(map(len, [*names, "attack"]))
    print(f"{'model':{width}}  {'attack':{attack_width}}  {'epsilon':>9}  {'accuracy':>9}  {'seconds':>8}")
    for model, classifier in models.items():
        for epsilon in epsilons:
            rows = _measure(found, model, classifier, test, attacks, epsilon)
            for row in rows:
                print(
                    f"{model:{width}}  {row['attack']:{attack_width}}  {epsilon:>9.4g}  {row['accuracy']:>9.2%}  "
                    f"{row['seconds']:>8.1f}",
                    flush=True,
                )
    for (model, attack), epsilon in chance_epsilons(found.settings, found.rows).items():
        words = f"is at chance from epsilon {epsilon:.4g} on" if epsilon is not None else "stays above chance"
        print(f"{model} under {attack} {words}")
    if output:
        draw(f"{output}.png", found.settings, found.rows)
        print(f"saved {output}.csv, {output}.json and {output}.png")
    page(found.settings, found.rows)


def _epsilons():
    parser = fraction_flag.FractionParser()
    try:
        values = sorted({parser.parse(text) for text in EPSILONS.value or ()})
    except ValueError as error:
        raise ValueError(f"epsilons {error}") from error
    if len(values) < 2:
        raise ValueError(f"epsilons must be two or more: --epsilons=0,0.1,0.2, got {EPSILONS.value}")
    return values


def _measure(found, model, classifier, test: datasets.Arrays, attacks: str, epsilon: float):
    """The rows of one model and epsilon, computed unless they are there."""
    suite = catalogue.parse(attacks, ThreatModel(common.NORM.value, epsilon))
    missing = {name: attack for name, attack in suite.items() if not found.has(model, name, epsilon)}
    if missing:
        report = common.evaluate(classifier, test, common.Table(missing, False), on_progress=tables.show_progress)
        tables.clear_progress()
        for result in report.attacks:
            row = {"model": model, "attack": result.name, "epsilon": epsilon}
            found.add({**row, "accuracy": result.accuracy, "seconds": round(result.seconds, 1)})
    return [found.get(model, name, epsilon) for name in suite]


def chance_epsilons(settings, rows) -> dict[tuple[str, str], float | None]:
    """By model and attack the epsilon at which the accuracy falls to chance, on straight lines between those measured.

    None where it does not. It is the first one: under an attack of one step accuracy may rise again.
    """
    found = {}
    for key, curve in curves(rows).items():
        found[key] = curve[0][0] if curve[0][1] <= settings["chance"] else None
        for (low, above), (high, below) in itertools.pairwise(curve):
            if found[key] is None and above > settings["chance"] >= below:
                found[key] = low + (high - low) * (above - settings["chance"]) / (above - below)
    return found


def curves(rows) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Points (epsilon, accuracy) in the order of epsilon, by model and attack."""
    found = {}
    for row in rows:
        found.setdefault((row["model"], row["attack"]), []).append((row["epsilon"], row["accuracy"]))
    return {key: sorted(points) for key, points in found.items()}


def caption(settings) -> str:
    """What was measured, in a line."""
    return (
        f"{settings['num_examples']:,} test examples of {settings['dataset']}, {settings['norm']}, attacks "
        f"{settings['attacks']}, seed {settings['seed']}"
    )


def page(settings, rows) -> None:
    """The curves and their numbers as --report, where it is asked for."""
    shown = {"Accuracy against epsilon, by model and attack": lambda path: draw(path, settings, rows)}
    made_by = study.made_by(output_files.OUTPUT.value)
    html_study.write("Accuracy against epsilon", f"{caption(settings)}.", settings, rows, shown, made_by)


def draw(path: str, settings, rows) -> None:
    """The curves as PNG: a colour for each model, a style for each attack."""
    figure, (axes,) = figures.new(1, caption(settings), width=6.5)
    found = curves(rows)
    models, attacks = (list(dict.fromkeys(key[part] for key in found)) for part in (0, 1))
    for (model, attack), points in found.items():
        epsilons, accuracies = np.array(points).T
        style = {"color": f"C{models.index(model)}", "linestyle": ("-", "--", ":", "-.")[attacks.index(attack) % 4]}
        marker = figures.MARKERS[models.index(model) % len(figures.MARKERS)]
        axes.plot(epsilons, 100 * accuracies, marker=marker, markersize=4, label=f"{model}, {attack}", **style)
    axes.axhline(100 * settings["chance"], color="grey", linewidth=1, label="guessing")
    if TRAINED_EPSILON.value is not None:
        axes.axvline(TRAINED_EPSILON.value, color="black", linewidth=1, label="epsilon of the training")
    axes.set(
        xlabel=f"epsilon ({settings['norm']}, pixels in [0, 1])", ylabel="accuracy (%)", ylim=(0, 100), xlim=(0, None)
    )
    figures.legend_below(figure, axes, columns=3)
    figures.save(figure, path)


if __name__ == "__main__":
    common.run(main)
