"""The figures of Deep Defense (Yan, Guo and Zhang 2018): convergence curves, and accuracy against rho2 in a sweep."""

from collections.abc import Mapping, Sequence

from eval import curve_files, figures, output_files

TITLES = {
    "deep_defense": "Deep Defense",
    "parseval": "Parseval training",
    "adv_train_1": "adversarial training I",
    "adv_train_2": "adversarial training II",
    "clean": "clean",
    "combined": "Deep Defense with II",
}


def write_convergence(output: str, curves: Mapping[str, Sequence[curve_files.Row]], caption: str) -> None:
    """Writes the curves of methods to output.csv, and as the paper's Figure 2 to output.png.

    Args:
      curves: rows of curve.csv by method.
      caption: what was measured on.
    """
    cells = [
        [name, *(f"{row[key]:.6g}" for key in curve_files.COLUMNS)] for name, rows in curves.items() for row in rows
    ]
    _write(f"{output}.csv", curve_files.table(("method", *curve_files.COLUMNS), cells).encode())
    figure, (left, right) = figures.new(2, caption)
    for axes, key, label, unit in ((left, "accuracy", "test accuracy (%)", 100), (right, "rho2", "rho2", 1)):
        for (name, curve), marker in zip(curves.items(), figures.MARKERS, strict=False):
            epochs, values = [row["epoch"] for row in curve], [unit * row[key] for row in curve]
            axes.plot(epochs, values, marker=marker, markersize=4, label=TITLES.get(name, name))
        axes.set(xlabel="epochs of fine-tuning", ylabel=label)
    figures.legend_below(figure, right)
    figures.save(figure, f"{output}.png")


def write_sweep(
    output: str, rows: Sequence[Mapping[str, object]], reference: Mapping[str, float], caption: str
) -> None:
    """Writes the runs of a sweep to output.csv, and as the paper's Figures 3 and 4 to output.png.

    Args:
      rows: of each run `lambda`, `c`, `layers`, `accuracy` and `rho2`; those that differ in c alone share a line.
      reference: accuracy and rho2 of what all runs started from.
      caption: what they have in common.
    """
    header = ("lambda", "c", "layers", "accuracy", "rho2")
    cells = [[row[name] if name == "layers" else f"{row[name]:.6g}" for name in header] for row in rows]
    cells.append(["", "", "reference", f"{reference['accuracy']:.6g}", f"{reference['rho2']:.6g}"])
    _write(f"{output}.csv", curve_files.table(header, cells).encode())
    lines = {}
    for row in rows:
        lines.setdefault((row["layers"], row["lambda"]), []).append(row)
    several_layers = len({layers for layers, _ in lines}) > 1
    several_lambdas = len({strength for _, strength in lines}) > 1
    figure, (axes,) = figures.new(1, caption)
    for ((layers, strength), runs), marker in zip(lines.items(), figures.MARKERS * len(lines), strict=False):
        runs = sorted(runs, key=lambda row: -row["c"])
        parts = [layers if several_layers else "", f"λ = {strength:g}" if several_lambdas or not several_layers else ""]
        rho2, accuracy = [row["rho2"] for row in runs], [100 * row["accuracy"] for row in runs]
        axes.plot(rho2, accuracy, marker=marker, markersize=5, label=", ".join(filter(None, parts)))
        for row in runs:
            place = (row["rho2"], 100 * row["accuracy"])
            axes.annotate(f"c={row['c']:g}", place, xytext=(4, 4), textcoords="offset points", fontsize=6)
    axes.plot(reference["rho2"], 100 * reference["accuracy"], "k*", markersize=11, linestyle="none", label="reference")
    axes.set(xlabel="test rho2", ylabel="test accuracy (%)")
    axes.legend(fontsize=8)
    figures.save(figure, f"{output}.png")


def _write(path, content):
    with output_files.whole_file(path) as file:
        file.write(content)
