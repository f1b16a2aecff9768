"""How training went: loss and accuracy over the steps of several runs in one plot.

    python -m eval.training_curves --models=k7=models/a,k40=models/b --output=reports/training

--models are folders of training. --output=reports/training writes reports/training.csv with the rows of all of them and
reports/training.png: the cross-entropy on what is trained on, adversarial examples as a rule (Madry et al. 2018, figure
4), and accuracies. Everything comes from the training.csv that runs write as they go, also while they train.
--report=training.html writes a page for a browser.
"""

import math
import pathlib

from absl import flags

from eval import common, curve_files, figures, html_page, html_study, named_models, output_files, provenance

flags.adopt_module_key_flags(named_models)
flags.adopt_module_key_flags(output_files)
flags.adopt_module_key_flags(html_page)

_CAPTION = "Training batches, means since the row before"


def main() -> None:
    """Prints where each run stands, and writes the files of --output."""
    if not named_models.MODELS.value:
        raise ValueError("models must be one or more folders of training, separated by commas: --models=name=PATH,...")
    output = output_files.OUTPUT.value
    html_page.check_report_path()
    if output:
        output_files.check_output_path(f"{output}.csv")
    runs = {name: _read(path) for name, path in named_models.paths().items()}
    for path in named_models.paths().values() if output else ():
        if pathlib.Path(f"{output}.csv").resolve() == (pathlib.Path(path) / curve_files.TRAINING_FILE).resolve():
            raise ValueError(f"output must not be a run's own {curve_files.TRAINING_FILE}, got {output}")
    width = max(len(name) for name in runs)
    for name, rows in runs.items():
        last = rows[-1]
        # A short window at the end may not have measured it.
        accuracy = last["natural_accuracy"]
        natural = "" if math.isnan(accuracy) else f"natural {accuracy:.2%}  "
        print(
            f"{name:{width}}  step {last['step']:>7.0f}  cross-entropy {last['xent']:.4f}  {natural}"
            f"trained on {last['adversarial_accuracy']:.2%}"
        )
    if output:
        columns = curve_files.TRAINING_COLUMNS
        cells = [[name, *line] for name, rows in runs.items() for line in _cells(rows)]
        with output_files.whole_file(f"{output}.csv") as file:
            file.write(curve_files.table(["run", *columns], cells).encode())
        draw(f"{output}.png", runs)
        print(f"saved {output}.csv and {output}.png")
    page(runs)


def _read(path):
    file = pathlib.Path(path) / curve_files.TRAINING_FILE
    rows = curve_files.read(file, curve_files.TRAINING_COLUMNS) if pathlib.Path(path).is_dir() else []
    if not rows:
        raise ValueError(f"models must be folders of training with {curve_files.TRAINING_FILE}, got {path}")
    return rows


def _cells(rows):
    lines = curve_files.text(rows, curve_files.TRAINING_COLUMNS).splitlines()[1:]
    return [line.split(",") for line in lines]


def page(runs: dict[str, list[curve_files.Row]]) -> None:
    """The curves as --report, where it is asked for, with the last row of each run."""
    rows = [{"run": name, **run[-1]} for name, run in runs.items()]
    shown = {"Cross-entropy and accuracy over the steps": lambda path: draw(path, runs)}
    html_study.write(
        "How training went",
        f"{_CAPTION}. The rows say where each run stands.",
        {"runs": named_models.paths()},
        rows,
        shown,
        provenance.made_by(),
    )


def draw(path: str, runs: dict[str, list[curve_files.Row]]) -> None:
    """Cross-entropy on a logarithmic scale, and accuracies, over the steps."""
    figure, (left, right) = figures.new(2, _CAPTION)
    for index, (name, rows) in enumerate(runs.items()):
        steps = [row["step"] for row in rows]
        left.plot(steps, [row["xent"] for row in rows], color=f"C{index}", label=name)
        for key, style, words in (("adversarial_accuracy", "-", "trained on"), ("natural_accuracy", ":", "natural")):
            values = [100 * row[key] for row in rows]
            right.plot(steps, values, color=f"C{index}", linestyle=style, label=f"{name}, {words}")
    left.set(xlabel="steps", ylabel="cross-entropy of what is trained on", yscale="log")
    right.set(xlabel="steps", ylabel="accuracy of training batches (%)", ylim=(None, 100.5))
    figures.legend_below(figure, right, columns=4)
    figures.save(figure, path)


if __name__ == "__main__":
    common.run(main)
