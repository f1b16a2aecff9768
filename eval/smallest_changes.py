"""The suite of minimum-norm attacks: its table, and accuracy against epsilon as CSV and PNG."""

from collections.abc import Mapping

import numpy as np

from eval import common, curve_files, data_flags, figures, output_files, sources, tables
from tfrobust import datasets, suites
from tfrobust.attacks.minimum_norm import MinimumNormAttack
from tfrobust.minimum_norm_evaluation import MinimumNormReport, evaluate_minimum_norm

# Points of a curve between 0 and the largest distance shown.
POINTS = 100


def attacks(norm: str) -> dict[str, MinimumNormAttack]:
    """The suite's attacks in a norm, of --rows if given.

    Raises:
      ValueError: for --rows that match none, or sources of black-box rows, which it has not.
    """
    sources.refuse()
    return common.matching_rows(suites.min_norm(norm))


def print_table(
    classifier, test: datasets.Arrays, attacks: Mapping[str, MinimumNormAttack], norm: str, title: str
) -> MinimumNormReport:
    """Runs minimum-norm attacks of a norm and prints each row as soon as it is known."""
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

    with common.device():
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


def curves(report: MinimumNormReport) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Epsilons [POINTS], from 0 to beyond nearly all distances, and accuracy at each of them by attack."""
    finite = report.nearest.distance[np.isfinite(report.nearest.distance)]
    epsilons = np.linspace(0, 1.1 * np.quantile(finite, 0.99) if len(finite) else 1.0, POINTS)
    return epsilons, {line.name: line.accuracy_at(epsilons) for line in (*report.attacks, report.nearest)}


def write_curve(prefix: str, report: MinimumNormReport, title: str) -> None:
    """Accuracy against epsilon under each attack and all of them, as `prefix`.csv and `prefix`.png."""
    epsilons, found = curves(report)
    rows = ([f"{value:.6g}" for value in row] for row in zip(epsilons, *found.values(), strict=True))
    with output_files.whole_file(f"{prefix}.csv") as file:
        file.write(curve_files.table(["epsilon", *found], rows).encode())
    caption = f"{title}, {report.num_examples:,} examples, seed {report.seed}"
    figures.save(figure(report, caption), f"{prefix}.png")


def figure(report: MinimumNormReport, caption: str):
    """Accuracy against epsilon, a line for each attack and a thick one for all of them."""
    epsilons, found = curves(report)
    drawing, (axes,) = figures.new(1, caption, width=4.2, height=3.6)
    for name, accuracies in found.items():
        is_all = name == report.nearest.name
        style = {"linewidth": 2.4, "color": "black"} if is_all else {"linewidth": 1.3}
        axes.plot(epsilons, 100 * accuracies, label=name, **style)
    axes.set(
        xlabel=f"epsilon ({report.norm}, pixels in [0, 1])",
        ylabel="accuracy (%)",
        ylim=(0, 100),
        xlim=(0, epsilons[-1]),
    )
    figures.legend_below(drawing, axes, columns=3)
    return drawing
