"""What a network's capacity does to robustness: Figure 3 of Madry et al. 2018, section 4, on MNIST.

    python -m eval.capacity --flagfile=train/flags/mnist_capacity.flags --output=reports/capacity

Trains the network of every one of --scales against every one of --adversaries (natural images, FGSM, PGD), measures
accuracy on natural test images, under FGSM and under PGD, and the loss on training examples (the first 10,000) under
the adversary of the training. --output=reports/capacity writes reports/capacity.csv, .json and .png. Every run has a
folder under --model_dir; the same command goes on where it was stopped, and --redraw draws again what is there.
--report=capacity.html writes a page for a browser.
"""

import pathlib

import keras
from absl import flags

from eval import attack_flags, common, data_flags, figures, html_page, html_study, output_files, study
from tfrobust import datasets
from tfrobust.attacks import PGD, fgsm
from train import architectures, optimizer_flags, robustness, session
from train import common as train_common

SCALES = flags.DEFINE_list("scales", ["1", "2", "4", "8", "16"], "Capacities: what --capacity takes.")
ADVERSARIES = flags.DEFINE_list("adversaries", ["natural", "fgsm", "pgd"], "What is trained against.")
flags.adopt_module_key_flags(train_common)
flags.adopt_module_key_flags(output_files)
flags.adopt_module_key_flags(study)
flags.adopt_module_key_flags(html_page)

COLUMNS = {"adversary": str, "scale": int, "natural": float, "fgsm": float, "pgd": float, "training_loss": float}
# Flags that name a run or how it is shown.
_OF_A_RUN = ("--model_dir=", "--capacity=", "--num_output_steps=", "--num_summary_steps=", "--num_checkpoint_steps=")
_FOREIGN = (
    *("adversarial", "step_decay", "training_epsilon", "suite", "attacks", "rows", "compare_undefended"),
    "store_adv_path",
)
# Training examples on which the loss is measured, the first ones.
_LOSS_EXAMPLES = 10_000
TITLES = {"natural": "natural images", "fgsm": "FGSM", "pgd": "PGD"}


def main() -> None:
    """Makes the runs that are missing, prints a row for each, draws."""
    output = output_files.OUTPUT.value
    html_page.check_report_path()
    if study.redrawn(COLUMNS, draw, page):
        return
    scales = _scales()
    for name in ADVERSARIES.value or [""]:
        if name not in TITLES:
            raise ValueError(f"adversaries must be some of {', '.join(TITLES)}, got {name!r}")
    if train_common.ARCHITECTURE.value != "capacity":
        raise ValueError(f"architecture must be capacity here, got {train_common.ARCHITECTURE.value!r}")
    if not common.MODEL_DIR.value:
        raise ValueError("model_dir must be given: --model_dir=FOLDER, where every run has a folder")
    for name in _FOREIGN:
        if flags.FLAGS[name].value != flags.FLAGS[name].default:
            raise ValueError(f"{name} is not for eval.capacity, whose runs have --adversaries and a table of their own")
    session.allow_memory_growth()
    folder = pathlib.Path(common.MODEL_DIR.value)
    attack = attack_flags.pgd(common.threat_model())
    train = data_flags.load_training_set()
    train_common.resolve_epochs(len(train.labels) - train_common.HELD_OUT.value)
    settings = {
        "flags": [line for line in train_common.flag_lines() if not line.startswith(_OF_A_RUN)],
        "steps": train_common.MAX_STEPS.value,
        "batch_size": optimizer_flags.BATCH_SIZE.value,
        "dataset": data_flags.DATASET.value,
        "num_examples": data_flags.NUM_EVAL_EXAMPLES.value or len(data_flags.load_test_set().labels),
        "norm": attack.threat.norm,
        "epsilon": attack.threat.epsilon,
        "k": attack.steps,
        "a": attack.step_size,
        "seed": common.SEED.value,
    }
    found = study.Study(output, settings, COLUMNS, ("adversary", "scale"))
    runs = [(adversary, scale) for adversary in ADVERSARIES.value for scale in scales]
    for number, (adversary, scale) in enumerate(runs, start=1):
        if not found.has(adversary, scale):
            print(f"\nrun {number} of {len(runs)}: scale {scale}, trained on {TITLES[adversary]}", flush=True)
            found.add({"adversary": adversary, "scale": scale, **_run(folder, adversary, scale, attack)})
        row = found.get(adversary, scale)
        print(
            f"scale {scale}, trained on {TITLES[adversary]}: natural {row['natural']:.2%}, FGSM {row['fgsm']:.2%}, PGD "
            f"{row['pgd']:.2%}, training loss {row['training_loss']:.4f}",
            flush=True,
        )
        if output:
            draw(f"{output}.png", found.settings, found.rows)
    if output:
        print(f"saved {output}.csv, {output}.json and {output}.png")
    page(found.settings, found.rows)


def _scales():
    if not SCALES.value or not all(text.isdigit() and int(text) for text in SCALES.value):
        raise ValueError(f"scales must be integers of 1 or more, separated by commas, got {SCALES.value}")
    return [int(text) for text in SCALES.value]


class _CapacityTask(robustness.RobustnessTask):
    """A run against one adversary; leaves what the study wants to know in `found`."""

    def __init__(self, build_classifier, adversary: str, attack: PGD):
        super().__init__(build_classifier)
        self._adversary, self._pgd = adversary, attack

    def check(self):
        """See `Task.check`."""
        self._attack = {"natural": None, "fgsm": fgsm(self._pgd.threat), "pgd": self._pgd}[self._adversary]

    def finish(self, classifier, train, test, model_dir, step):
        """Measures the three accuracies, and the loss on training examples as they were trained on."""
        if step != train_common.MAX_STEPS.value:
            raise ValueError(f"model_dir holds a run of {step} steps in {model_dir}: take another --model_dir")
        rows = common.Table({"fgsm": fgsm(self._pgd.threat), "pgd": self._pgd}, False)
        report = common.evaluate(classifier, test, rows)
        self.found = {"natural": report.clean_accuracy, **{r.name: r.accuracy for r in report.attacks}}
        seen = datasets.Arrays(*(part[:_LOSS_EXAMPLES] for part in train))
        rows = common.Table({self._adversary: rows.attacks.get(self._adversary, rows.attacks["fgsm"])}, False)
        report = common.evaluate(classifier, seen, rows)
        is_natural = self._adversary == "natural"
        self.found["training_loss"] = report.clean_loss if is_natural else report.attacks[0].mean_loss


def _run(folder, adversary, scale, attack):
    """Trains one network, or goes on with it; its row."""
    values = flags.FLAGS
    values.model_dir, values.capacity = str(folder / f"{adversary}_{scale}"), scale
    keras.backend.clear_session()
    build = architectures.builder(architectures.MNIST, data_flags.dataset_spec(), common.SEED.value)
    task = _CapacityTask(build, adversary, attack)
    session.run(task)
    return task.found


def page(settings, rows) -> None:
    """The runs and their numbers as --report, where it is asked for."""
    shown = {"Accuracy and training loss against capacity": lambda path: draw(path, settings, rows)}
    made_by = study.made_by(output_files.OUTPUT.value)
    html_study.write("Capacity and robustness", f"{_caption(settings)}.", settings, rows, shown, made_by)


def _caption(settings):
    attack = f"{settings['norm']} epsilon {settings['epsilon']:g}, PGD {settings['k']} x {settings['a']:g}"
    return (
        f"{settings['num_examples']:,} test examples of {settings['dataset']}, {settings['steps']:,} steps of "
        f"{settings['batch_size']}, {attack}, seed {settings['seed']}"
    )


def draw(path: str, settings, rows) -> None:
    """A panel for each adversary of training, accuracy against scale; the last one has the training losses."""
    adversaries = list(dict.fromkeys(row["adversary"] for row in rows))
    figure, panels = figures.new(len(adversaries) + 1, _caption(settings), width=3.2)
    for index, adversary in enumerate(adversaries):
        chosen = sorted((row for row in rows if row["adversary"] == adversary), key=lambda row: row["scale"])
        scales = [row["scale"] for row in chosen]
        axes = panels[index]
        for key, marker in zip(TITLES, figures.MARKERS, strict=False):
            values = [100 * row[key] for row in chosen]
            axes.plot(scales, values, marker=marker, markersize=4, label=f"accuracy, {TITLES[key]}")
        axes.set(title=f"trained on {TITLES[adversary]}", ylim=(0, 101))
        losses = [row["training_loss"] for row in chosen]
        panels[-1].plot(scales, losses, marker=figures.MARKERS[index], markersize=4, color=f"C{index}", label=adversary)
    panels[0].set_ylabel("accuracy (%)")
    panels[-1].set(title="loss on training examples", yscale="log")
    panels[-1].legend(fontsize=8)
    for axes in panels:
        axes.set(xlabel="capacity scale", xscale="log")
        axes.set_xticks(
            sorted({row["scale"] for row in rows}), labels=sorted({str(row["scale"]) for row in rows}, key=int)
        )
        axes.minorticks_off()
    figures.legend_below(figure, panels[0])
    figures.save(figure, path)


if __name__ == "__main__":
    common.run(main)
