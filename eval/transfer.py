"""How well adversarial images of one model fool others, and how alike the models' gradients are, for every pair.

    python -m eval.transfer --models=models/a,models/b,natural=models/c --attack=pgd:steps=40:step_size=0.01 \\
        --output=reports/transfer

For each source and target: the target's accuracy on images made for the source, which on the diagonal is the white-box
attack, and the mean cosine of the angle between the gradients of their losses at the test images, as it is and without
its sign; images at which one of the two is 0 are left out of that mean. Madry et al. 2018, section 4: with more
capacity and stronger adversaries in training both fall.
The folders that eval.capacity leaves in its --model_dir are models like any other.

--output=reports/transfer writes reports/transfer.csv, .json and .png; the same command goes on where it was stopped,
and --redraw draws again what is there. Attacks that go on after they have fooled their source (fgsm, mim, pgd)
transfer better than those that stop at its boundary (apgd_ce, deepfool, ...).
"""

import math

import numpy as np
from absl import flags

from eval import (
    common,
    data_flags,
    figures,
    foreign_flags,
    html_page,
    html_study,
    named_models,
    output_files,
    study,
    tables,
)
from tfrobust.attacks.transfer import Transfer, named
from tfrobust.gradient_alignment import gradient_cosines

ATTACK = flags.DEFINE_string("attack", "pgd", "One attack as for --attacks, such as pgd:steps=100:step_size=0.01.")
flags.adopt_module_key_flags(common)
flags.adopt_module_key_flags(named_models)
flags.adopt_module_key_flags(output_files)
flags.adopt_module_key_flags(study)
flags.adopt_module_key_flags(html_page)

COLUMNS = {
    **{"source": str, "target": str, "accuracy": float, "natural_accuracy": float},
    **{"cosine": float, "absolute_cosine": float},
}
_PANELS = {
    "accuracy": ("accuracy of the target (%)", 100, "viridis", (0, 100)),
    "cosine": ("mean cosine of the gradients", 1, "RdBu_r", (-1, 1)),
    "absolute_cosine": ("mean absolute cosine", 1, "viridis", (0, 1)),
}


def main() -> None:
    """Measures the pairs that are missing, prints the matrices, draws."""
    output = output_files.OUTPUT.value
    html_page.check_report_path()
    if study.redrawn(COLUMNS, draw, page):
        return
    if len(named_models.MODELS.value or ()) < 2:
        raise ValueError(f"models must be two or more paths, separated by commas, got {named_models.MODELS.value}")
    foreign_flags.refuse(("suite", "rows", "attacks"), "eval.transfer, which has --attack")
    threat = common.threat_model()
    _, attack = common.single_attack(ATTACK, threat)
    models = named_models.load()
    test = data_flags.load_test_set()
    settings = {
        "models": named_models.paths(),
        "weights": named_models.fingerprints(models),
        "attack": ATTACK.value,
        "norm": threat.norm,
        "epsilon": threat.epsilon,
        **data_flags.identity(),
        "num_examples": len(test.labels),
        "seed": common.SEED.value,
        "precision": common.attack_precision(),
    }
    found = study.Study(output, settings, COLUMNS, ("source", "target"))
    print(caption(found.settings), flush=True)
    _measure(found, models, test, attack)
    matrices = {name: _matrix(found.rows, list(models), name) for name in _PANELS}
    natural = [found.get(name, name)["natural_accuracy"] for name in models]
    _print("accuracy of the target (column)", list(models), matrices["accuracy"], "{:.2%}", natural)
    for name in ("cosine", "absolute_cosine"):
        _print(_PANELS[name][0], list(models), matrices[name], "{:.3f}")
    if output:
        # What `eval.results` makes a table of.
        found.keep(models=found.settings["models"], natural=natural, accuracy=matrices["accuracy"].tolist())
        draw(f"{output}.png", found.settings, found.rows)
        print(f"saved {output}.csv, {output}.json and {output}.png")
    page(found.settings, found.rows)


def _measure(found, models, test, attack):
    """Adds the rows that are missing, each when it is known."""
    if all(found.has(source, target) for source in models for target in models):
        return
    with common.device():
        angles = gradient_cosines(
            list(models.values()), test.images, test.labels, batch_size=common.EVAL_BATCH_SIZE.value
        )
    places = {name: place for place, name in enumerate(models)}
    for target, classifier in models.items():
        rows = {
            source: Transfer(attack, named(model, source), common.PRECISION.value)
            for source, model in models.items()
            if not found.has(source, target)
        }
        if not rows:
            continue
        clean = []

        def keep(result, target=target, clean=clean):
            cosines = angles[places[result.name], places[target]]
            row = {"source": result.name, "target": target, "accuracy": result.accuracy, "natural_accuracy": clean[0]}
            found.add({**row, "cosine": _mean(cosines), "absolute_cosine": _mean(np.abs(cosines))})

        common.evaluate(
            classifier,
            test,
            common.Table(rows, False),
            on_clean=lambda accuracy, _, clean=clean: clean.append(accuracy),
            on_result=keep,
            on_skip=tables.refuse_skipped,
            on_progress=tables.show_progress,
        )
        tables.clear_progress()


def _mean(values):
    """The mean of what is no NaN; NaN of nothing."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def _matrix(rows, names, column):
    """The values of a column, [sources, targets], NaN where there is no row."""
    values = {(row["source"], row["target"]): row[column] for row in rows}
    return np.array([[values.get((source, target), math.nan) for target in names] for source in names])


def _print(title, names, matrix, form, natural=None):
    width = max(map(len, (*names, "natural")))
    print(f"{title}\n{'source':{width}}", *(f"{name:>{width}}" for name in names), sep="  ")
    lines = [("natural", natural)] if natural else []
    for name, values in (*lines, *zip(names, matrix, strict=True)):
        print(f"{name:{width}}", *(f"{form.format(value):>{width}}" for value in values), sep="  ")


def caption(settings) -> str:
    """What was measured, in a line."""
    return (
        f"{settings['attack']}, {settings['norm']} epsilon {settings['epsilon']:.4g}, {settings['num_examples']:,} "
        f"test examples of {settings['dataset']}, seed {settings['seed']}"
    )


def page(settings, rows) -> None:
    """The matrices as --report, where it is asked for."""
    words = f"{caption(settings)}. Adversarial images are made on the source and tried on the target."
    html_study.write_study("How attacks transfer", words, "Every source and target", draw, settings, rows)


def draw(path: str, settings, rows) -> None:
    """A heat map for each of accuracy and cosines as PNG: sources in rows, targets in columns."""
    names = list(settings["models"])
    size = 2.2 + 0.42 * len(names)
    figure, (panels,) = figures.table(1, len(_PANELS), caption(settings), width=size, height=size)
    for axes, (column, (title, unit, colors, (low, high))) in zip(panels, _PANELS.items(), strict=True):
        matrix = unit * _matrix(rows, names, column)
        image = axes.imshow(matrix, vmin=low, vmax=high, cmap=colors)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set(xlabel="target", ylabel="source")
        axes.set_title(title, fontsize=9)
        for row, place in np.ndindex(matrix.shape):
            value = matrix[row, place]
            if math.isfinite(value):
                red, green, blue, _ = image.cmap(image.norm(value))
                dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
                text = f"{value:.1f}" if unit > 1 else f"{value:.2f}"
                axes.text(place, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
        figure.colorbar(image, ax=axes, shrink=0.8)
    figures.save(figure, path)


if __name__ == "__main__":
    common.run(main)
