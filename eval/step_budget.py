"""What PGD's step size and iterations must be: alpha x iterations >= epsilon, or images are not disturbed enough.

    python -m eval.step_budget --model=models/cifar10_naive --dataset=cifar10 --epsilon=0.02 \\
        --iterations=1,5,10,20,40 --num_examples=1000 --output=reports/step_budget

For every number of --iterations and every one of --step_sizes PGD starts at the image itself (Preaut, Quemada and Durat
2022, Quick-Attacks, equation 2): accuracy, and how far it went on average. --output=reports/step_budget writes
reports/step_budget.csv, .json and .png; the same command goes on where it was stopped, --redraw draws again what is
there, and --report=FILE.html writes a page for a browser. Without --step_sizes they are such that all steps together
are from a tenth of epsilon to five of it.
"""

import numpy as np
from absl import flags

from eval import (
    classifiers,
    common,
    data_flags,
    figures,
    foreign_flags,
    fraction_flag,
    html_page,
    html_study,
    output_files,
    study,
    tables,
)
from tfrobust import loading
from tfrobust.attacks import PGD

ITERATIONS = flags.DEFINE_list("iterations", ["1", "5", "10", "40"], "Numbers of PGD's steps, separated by commas.")
STEP_SIZES = flags.DEFINE_list(
    "step_sizes", None, "Lengths of a step in pixel units, separated by commas: 0.001,0.01 or 1/255,2/255."
)
flags.adopt_module_key_flags(common)
flags.adopt_module_key_flags(output_files)
flags.adopt_module_key_flags(study)
flags.adopt_module_key_flags(html_page)

COLUMNS = {"iterations": int, "step_size": float, "reach": float, "accuracy": float, "distance": float}
# What iterations x step size are without --step_sizes, in epsilons.
REACHES = (0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.5, 5.0)
_NATURAL = (0, 0.0)


def main() -> None:
    """Measures what is missing, prints the grid, draws."""
    output = output_files.OUTPUT.value
    html_page.check_report_path()
    if study.redrawn(COLUMNS, draw, page):
        return
    foreign_flags.refuse(("suite", "rows", "attacks"), "eval.step_budget, which has --iterations and --step_sizes")
    threat = common.threat_model()
    if not threat.epsilon:
        raise ValueError("epsilon must be above 0: steps are compared with it")
    attacks = _attacks(threat)
    classifier = classifiers.load(common.model_path())
    test = data_flags.load_test_set()
    settings = {
        "model": common.model_path(),
        "weights": loading.fingerprint(classifier),
        "norm": threat.norm,
        "epsilon": threat.epsilon,
        **data_flags.identity(),
        "num_examples": len(test.labels),
        "seed": common.SEED.value,
        "precision": common.attack_precision(),
    }
    found = study.Study(output, settings, COLUMNS, ("iterations", "step_size"))
    _measure(found, classifier, test, attacks, threat)
    print(caption(found.settings))
    print("iterations   step size     reach  accuracy  distance")
    for key in (_NATURAL, *attacks):
        row = found.get(*key)
        print(
            f"{row['iterations']:>10}  {row['step_size']:>10.4g}  {row['reach']:>8.3g}  {row['accuracy']:>8.2%}  "
            f"{row['distance']:>8.4g}"
        )
    if output:
        draw(f"{output}.png", found.settings, found.rows)
        print(f"saved {output}.csv, {output}.json and {output}.png")
    page(found.settings, found.rows)


def _attacks(threat):
    """PGD by iterations and step size."""
    texts = ITERATIONS.value
    if not texts or not all(text.isdigit() and int(text) for text in texts):
        raise ValueError(f"iterations must be integers of 1 or more, separated by commas, got {texts}")
    given = fraction_flag.values(STEP_SIZES)
    if not all(size > 0 for size in given):
        raise ValueError(f"step_sizes must be above 0, got {STEP_SIZES.value}")
    return {
        (iterations, size): PGD(threat, iterations, size, random_start=False)
        for iterations in sorted(map(int, set(texts)))
        for size in given or [reach * threat.epsilon / iterations for reach in REACHES]
    }


def _measure(found, classifier, test, attacks, threat):
    """All rows that are missing, each kept when it is known; the natural images have a row with 0 iterations."""
    missing = {f"{steps} x {size!r}": (steps, size) for steps, size in attacks if not found.has(steps, size)}
    distances = {}

    def row(key, accuracy, distance):
        reach = attacks[key].reach / threat.epsilon if key in attacks else 0.0
        values = {"reach": reach, "accuracy": accuracy, "distance": distance}
        found.add({"iterations": key[0], "step_size": key[1], **values})

    def natural(accuracy, _):
        if not found.has(*_NATURAL):
            row(_NATURAL, accuracy, 0.0)

    def disturbed(name, x_adv):
        distances[name] = float(np.mean(threat.distance(x_adv, test.images)))

    if missing:
        suite = {name: attacks[key] for name, key in missing.items()}
        common.evaluate(
            classifier,
            test,
            common.Table(suite, False),
            # Short steps are what this is about.
            warn=False,
            on_clean=natural,
            on_images=disturbed,
            on_result=lambda result: row(missing[result.name], result.accuracy, distances[result.name]),
            on_progress=tables.show_progress,
        )
        tables.clear_progress()


def caption(settings) -> str:
    """What was measured, in a line."""
    return (
        f"{settings['model']}, {settings['num_examples']:,} test examples of {settings['dataset']}, PGD from the "
        f"image, {settings['norm']} epsilon {settings['epsilon']:.4g}, seed {settings['seed']}"
    )


def page(settings, rows) -> None:
    """The picture and its numbers as --report, where it is asked for."""
    words = "Accuracy and distance against step size times iterations"
    html_study.write_study("Step sizes and iterations", f"{caption(settings)}.", words, draw, settings, rows)


def draw(path: str, settings, rows) -> None:
    """Accuracy, and the mean distance, against the steps' length in epsilons; a curve for each number of iterations."""
    figure, (left, right) = figures.new(2, caption(settings), width=4.6)
    curves = {}
    for row in rows:
        curves.setdefault(row["iterations"], []).append((row["reach"], row["accuracy"], row["distance"]))
    for accuracy in (point[1] for point in curves.pop(0, ())):
        left.axhline(100 * accuracy, color="grey", linewidth=1, linestyle="--", label="natural images")
    for index, (iterations, points) in enumerate(sorted(curves.items())):
        reach, accuracy, distance = np.array(sorted(points)).T
        # Hollow, and the smaller the later: curves may lie on each other.
        style = {"marker": figures.MARKERS[index % len(figures.MARKERS)], "markerfacecolor": "none"}
        style["markersize"] = 3 + 2.5 * (len(curves) - 1 - index)
        left.plot(reach, 100 * accuracy, label=f"{iterations} iteration{'s' * (iterations > 1)}", **style)
        right.plot(reach, distance, **style)
    right.axhline(settings["epsilon"], color="grey", linewidth=1, linestyle=":")
    right.text(0.02, settings["epsilon"], "epsilon", transform=right.get_yaxis_transform(), va="bottom", fontsize=8)
    for axes in (left, right):
        axes.axvline(1, color="black", linewidth=1)
        axes.set(xlabel="step size x iterations / epsilon", xscale="log")
        axes.xaxis.set_major_formatter("{x:g}")
    left.set(ylabel="accuracy (%)", ylim=(0, 100))
    right.set(ylabel=f"mean {settings['norm']} distance (pixels in [0, 1])", ylim=(0, 1.1 * settings["epsilon"]))
    figures.legend_below(figure, left)
    figures.save(figure, path)


if __name__ == "__main__":
    common.run(main)
