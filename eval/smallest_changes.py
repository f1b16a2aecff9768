"""The suite of minimum-norm attacks: its table, and accuracy against epsilon as CSV and PNG."""

import csv
import io

import numpy as np

from eval import common, data_flags, output_files, tables
from tfrobust import datasets, suites
from tfrobust.minimum_norm_evaluation import MinimumNormReport, evaluate_minimum_norm

# Points of a curve between 0 and the largest distance shown.
POINTS = 100


def print_table(classifier, test: datasets.Arrays, norm: str, title: str) -> MinimumNormReport:
    """Runs the minimum-norm attacks of a norm and prints each row as soon as it is known."""
    attacks = suites.min_norm(norm)
    print(f"{title}: {len(test.labels)} test examples of {data_flags.DATASET.value}, smallest changes in {norm}")
    width = max(len(name) for name in (*attacks, "nearest of all"))
    header = f"{'attack':{width}}  {'success':>8}  {'median':>8}  {'mean':>8}  {'seconds':>8}"
    print(header, "-" * len(header), sep="\n", flush=True)

    def row(result):
        tables.clear_progress()
        print(
            f"{result.name:{width}}  {result.success_rate:>8.2%}  {result.median_distance:>8.4f}  "
            f"{result.mean_distance:>8.4f}  {result.seconds:>8.1f}",
            flush=True,
        )

    report = evaluate_minimum_norm(
        classifier,
        test.images,
        test.labels,
        attacks,
        seed=common.SEED.value,
        batch_size=common.EVAL_BATCH_SIZE.value,
        precision=common.PRECISION.value,
        on_result=row,
        on_progress=tables.show_progress,
    )
    row(report.nearest)
    print(f"seed {report.seed}, attack gradients in {report.precision}, predictions in float32")
    return report


def write_curve(prefix: str, report: MinimumNormReport, title: str) -> None:
    """Accuracy against epsilon under each attack and all of them, as `prefix`.csv and `prefix`.png."""
    lines = (*report.attacks, report.nearest)
    finite = report.nearest.distance[np.isfinite(report.nearest.distance)]
    epsilons = np.linspace(0, 1.1 * np.quantile(finite, 0.99) if len(finite) else 1.0, POINTS)
    curves = {line.name: line.accuracy_at(epsilons) for line in lines}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epsilon", *curves])
    writer.writerows([f"{value:.6g}" for value in row] for row in zip(epsilons, *curves.values(), strict=True))
    with output_files.whole_file(f"{prefix}.csv") as file:
        file.write(text.getvalue().encode())
    with output_files.whole_file(f"{prefix}.png") as file:
        _plot(file, epsilons, curves, report, title)


def _plot(file, epsilons, curves, report, title):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, accuracies in curves.items():
        all_of_them = name == report.nearest.name
        axes.plot(
            epsilons,
            100 * accuracies,
            label=name,
            linewidth=2.4 if all_of_them else 1.3,
            color="black" if all_of_them else None,
        )
    axes.set(
        xlabel=f"epsilon ({report.norm}, pixels in [0, 1])",
        ylabel="accuracy (%)",
        ylim=(0, 100),
        xlim=(0, epsilons[-1]),
        title=f"{title}\n{report.num_examples} examples, seed {report.seed}",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, format="png", dpi=120)
