"""How well adversarial images of one model fool others: accuracy for every pair of source and target.

    python -m eval.transfer --models=models/a,models/b,natural=models/c --attack=pgd:steps=40:step_size=0.01

Rows are sources, columns targets; the diagonal is the white-box attack. --output=matrix writes matrix.csv, matrix.json
and matrix.png. Attacks that go on after they have fooled their source (fgsm, mim, pgd) transfer better than those that
stop at its boundary (apgd_ce, deepfool, ...).
"""

import csv
import io

import numpy as np
from absl import flags

from eval import common, data_flags, figures, html_page, html_study, named_models, output_files, provenance, tables
from tfrobust.attacks import catalogue
from tfrobust.attacks.transfer import Transfer, named

ATTACK = flags.DEFINE_string("attack", "pgd", "One attack as for --attacks, such as pgd:steps=100:step_size=0.01.")
flags.adopt_module_key_flags(common)
flags.adopt_module_key_flags(named_models)
flags.adopt_module_key_flags(output_files)
flags.adopt_module_key_flags(html_page)


def main() -> None:
    """Prints the matrix and writes what was asked for."""
    if len(named_models.MODELS.value or ()) < 2:
        raise ValueError(f"models must be two or more paths, separated by commas, got {named_models.MODELS.value}")
    output = output_files.OUTPUT.value
    if output:
        output_files.check_output_path(f"{output}.csv")
    html_page.check_report_path()
    threat = common.threat_model()
    attacks = catalogue.parse(ATTACK.value, threat)
    if len(attacks) != 1:
        raise ValueError(f"attack must be a single one, got {ATTACK.value!r}")
    (attack,) = attacks.values()
    models = named_models.load()
    test = data_flags.load_test_set()
    title = f"{ATTACK.value}, {threat.norm} epsilon {threat.epsilon:g}, {len(test.labels)} test examples"
    print(f"{title} of {data_flags.DATASET.value}, seed {common.SEED.value}: accuracy of the target (column)")
    width = max(len(name) for name in ("source", "natural", *models))
    print(f"{'source':{width}}", *(f"{name:>{max(width, 7)}}" for name in models), sep="  ", flush=True)
    natural, matrix = [], np.zeros([len(models), len(models)])
    for column, target in enumerate(models.values()):
        rows = {name: Transfer(attack, named(source, name), common.PRECISION.value) for name, source in models.items()}
        report = common.evaluate(target, test, common.Table(rows, False), on_progress=tables.show_progress)
        natural.append(report.clean_accuracy)
        matrix[:, column] = [result.accuracy for result in report.attacks]
    tables.clear_progress()
    for name, values in zip(("natural", *models), (natural, *matrix), strict=True):
        print(f"{name:{width}}", *(f"{value:>{max(width, 7)}.2%}" for value in values), sep="  ")
    if output:
        _write(output, list(models), natural, matrix, title)
    page(list(models), natural, matrix, title)


def _write(output, names, natural, matrix, title):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["source", *names])
    writer.writerow(["natural", *(f"{value:.6g}" for value in natural)])
    writer.writerows([name, *(f"{value:.6g}" for value in row)] for name, row in zip(names, matrix, strict=True))
    with output_files.whole_file(f"{output}.csv") as file:
        file.write(text.getvalue().encode())
    content = {
        "attack": ATTACK.value,
        "dataset": data_flags.DATASET.value,
        "seed": common.SEED.value,
        "models": dict(zip(names, named_models.MODELS.value, strict=True)),
        "natural": natural,
        "accuracy": matrix.tolist(),
        **provenance.made_by(),
    }
    output_files.write_json(f"{output}.json", content)
    draw(f"{output}.png", names, matrix, title)
    print(f"saved {output}.csv, {output}.json and {output}.png")


def page(names: list[str], natural, matrix: np.ndarray, title: str) -> None:
    """The matrix as --report, where it is asked for."""
    lines = zip(("natural images", *names), (natural, *matrix), strict=True)
    rows = [
        {"source": name, **{target: f"{value:.2%}" for target, value in zip(names, values, strict=True)}}
        for name, values in lines
    ]
    settings = {
        "models": named_models.paths(),
        "attack": ATTACK.value,
        **data_flags.identity(),
        "seed": common.SEED.value,
        "precision": common.PRECISION.value,
    }
    shown = {"Accuracy of the target, by source": lambda path: draw(path, names, matrix, title)}
    caption = f"{title}. Adversarial images are made on the source (row) and tried on the target (column)."
    html_study.write("How attacks transfer", caption, settings, rows, shown, provenance.made_by())


def draw(path: str, names: list[str], matrix: np.ndarray, title: str) -> None:
    """The matrix as PNG."""
    size = 1.2 + 0.9 * len(names)
    figure, (axes,) = figures.new(1, title, width=size, height=size + 1)
    axes.grid(False)
    image = axes.imshow(100 * matrix, vmin=0, vmax=100, cmap="viridis")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="target", ylabel="source")
    for row, column in np.ndindex(matrix.shape):
        value = 100 * matrix[row, column]
        axes.text(column, row, f"{value:.1f}", ha="center", va="center", color="white" if value < 60 else "black")
    figure.colorbar(image, label="accuracy of the target (%)")
    figures.save(figure, path)


if __name__ == "__main__":
    common.run(main)
