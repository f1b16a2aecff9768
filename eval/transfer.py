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

from eval import common, data_flags, named_models, output_files, provenance, tables
from tfrobust.attacks import catalogue
from tfrobust.attacks.transfer import Transfer, named

ATTACK = flags.DEFINE_string("attack", "pgd", "One attack as for --attacks, such as pgd:steps=100:step_size=0.01.")
flags.adopt_module_key_flags(common)
flags.adopt_module_key_flags(named_models)
flags.adopt_module_key_flags(output_files)


def main() -> None:
    """Prints the matrix and writes what was asked for."""
    if len(named_models.MODELS.value or ()) < 2:
        raise ValueError(f"models must be two or more paths, separated by commas, got {named_models.MODELS.value}")
    output = output_files.OUTPUT.value
    if output:
        output_files.check_output_path(f"{output}.csv")
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
    with output_files.whole_file(f"{output}.png") as file:
        _plot(file, names, matrix, title)
    print(f"saved {output}.csv, {output}.json and {output}.png")


def _plot(file, names, matrix, title):
    from matplotlib.figure import Figure

    size = 2.2 + 0.9 * len(names)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(100 * matrix, vmin=0, vmax=100, cmap="viridis")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="target", ylabel="source")
    figure.suptitle(title, fontsize=9, wrap=True)
    for row, column in np.ndindex(matrix.shape):
        value = 100 * matrix[row, column]
        axes.text(column, row, f"{value:.1f}", ha="center", va="center", color="white" if value < 60 else "black")
    figure.colorbar(image, label="accuracy of the target (%)")
    figure.savefig(file, format="png", dpi=120)


if __name__ == "__main__":
    common.run(main)
