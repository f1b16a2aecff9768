"""What a network's capacity does to robustness: Figure 3 of Madry et al. 2018, section 4.

    python -m eval.capacity --flagfile=train/flags/mnist_capacity.flags --output=reports/capacity
    python -m eval.capacity --flagfile=train/flags/cifar10_paper.flags --scales=narrow,wide \\
        --model_dir=models/cifar10_capacity --output=reports/cifar10_capacity

Trains the network of every one of --scales against every one of --adversaries (natural images, FGSM, PGD), measures
accuracy on natural test images, under FGSM and under PGD, and the loss on training examples (the first 10,000) under
the adversary of the training. Scales are sizes of --architecture=capacity, or networks by the names that --architecture
has for them, such as the paper's two for CIFAR10 (for GPUs).

--output=reports/capacity writes reports/capacity.csv, .json and .png. Every run has a folder under --model_dir; the
same command goes on where it was stopped, and --redraw draws again what is there.
--report=capacity.html writes a page for a browser.
"""

from absl import flags

from eval import attack_flags, common, data_flags, figures, html_page, html_study, output_files, study
from tfrobust import datasets
from tfrobust.attacks import fgsm
from train import architectures, runs
from train import common as train_common

SCALES = flags.DEFINE_list("scales", ["1", "2", "4", "8", "16"], "What --capacity takes, or what --architecture does.")
ADVERSARIES = flags.DEFINE_list("adversaries", ["natural", "fgsm", "pgd"], "What is trained against.")
flags.adopt_module_key_flags(train_common)
flags.adopt_module_key_flags(output_files)
flags.adopt_module_key_flags(study)
flags.adopt_module_key_flags(html_page)

COLUMNS = {"adversary": str, "scale": str, "natural": float, "fgsm": float, "pgd": float, "training_loss": float}
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
    folder = runs.prepare("eval.capacity", ("step_decay", "attacks", "dropout"))
    attack = attack_flags.pgd(common.threat_model())
    settings = {
        **runs.settings(("capacity" if scales[0].isdigit() else "architecture",)),
        "norm": attack.threat.norm,
        "epsilon": attack.threat.epsilon,
        "k": attack.steps,
        "a": attack.step_size,
    }
    found = study.Study(output, settings, COLUMNS, ("adversary", "scale"))
    pairs = [(adversary, scale) for adversary in ADVERSARIES.value for scale in scales]
    for number, (adversary, scale) in enumerate(pairs, start=1):
        if not found.has(adversary, scale):
            print(f"\nrun {number} of {len(pairs)}: scale {scale}, trained on {TITLES[adversary]}", flush=True)
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
    scales, known = SCALES.value, architectures.BY_DATASET[data_flags.DATASET.value]
    sizes = [text for text in scales or () if text.isdigit() and int(text)]
    if not scales or len(set(scales)) < len(scales) or (sizes != scales and any(text not in known for text in scales)):
        raise ValueError(
            f"scales must be integers of 1 or more, or some of {', '.join(known)}, each once and separated by commas, "
            f"got {scales}"
        )
    if sizes and train_common.ARCHITECTURE.value != "capacity":
        raise ValueError(f"architecture must be capacity for scales {sizes}, got {train_common.ARCHITECTURE.value!r}")
    return scales


def _run(folder, adversary, scale, attack):
    """Trains one network, or goes on with it; its row: accuracies, and the loss on examples as they were trained on."""
    trained_against = {"natural": None, "fgsm": fgsm(attack.threat), "pgd": attack}
    found = {}

    def measure(classifier, train, test):
        table = common.Table({"fgsm": trained_against["fgsm"], "pgd": attack}, False)
        report = common.evaluate(classifier, test, table)
        found.update({"natural": report.clean_accuracy, **{r.name: r.accuracy for r in report.attacks}})
        seen = datasets.Arrays(*(part[:_LOSS_EXAMPLES] for part in train))
        # There is no evaluation without an attack.
        table = common.Table({adversary: trained_against[adversary] or trained_against["fgsm"]}, False)
        report = common.evaluate(classifier, seen, table)
        found["training_loss"] = report.clean_loss if adversary == "natural" else report.attacks[0].mean_loss

    varied = {"capacity": int(scale)} if scale.isdigit() else {"architecture": scale}
    runs.make(folder / f"{adversary}_{scale}", trained_against[adversary], measure, **varied)
    return found


def page(settings, rows) -> None:
    """The runs and their numbers as --report, where it is asked for."""
    words = "Accuracy and training loss against capacity"
    html_study.write_study("Capacity and robustness", f"{_caption(settings)}.", words, draw, settings, rows)


def _caption(settings):
    attack = f"{settings['norm']} epsilon {settings['epsilon']:g}, PGD {settings['k']} x {settings['a']:g}"
    return (
        f"{settings['num_examples']:,} test examples of {settings['dataset']}, {settings['steps']:,} steps of "
        f"{settings['batch_size']}, {attack}, seed {settings['seed']}"
    )


def draw(path: str, settings, rows) -> None:
    """A panel for each adversary of training, accuracy against scale; the last one has the training losses."""
    scales = list(dict.fromkeys(row["scale"] for row in rows))
    are_sizes = all(scale.isdigit() for scale in scales)
    places = {scale: int(scale) if are_sizes else place for place, scale in enumerate(scales)}
    adversaries = list(dict.fromkeys(row["adversary"] for row in rows))
    figure, panels = figures.new(len(adversaries) + 1, _caption(settings), width=3.2)
    for index, adversary in enumerate(adversaries):
        chosen = sorted((row for row in rows if row["adversary"] == adversary), key=lambda row: places[row["scale"]])
        along = [places[row["scale"]] for row in chosen]
        axes = panels[index]
        for key, marker in zip(TITLES, figures.MARKERS, strict=False):
            values = [100 * row[key] for row in chosen]
            axes.plot(along, values, marker=marker, markersize=4, label=f"accuracy, {TITLES[key]}")
        axes.set(title=f"trained on {TITLES[adversary]}", ylim=(0, 101))
        losses = [row["training_loss"] for row in chosen]
        panels[-1].plot(along, losses, marker=figures.MARKERS[index], markersize=4, color=f"C{index}", label=adversary)
    panels[0].set_ylabel("accuracy (%)")
    panels[-1].set(title="loss on training examples", yscale="log")
    panels[-1].legend(fontsize=8)
    for axes in panels:
        axes.set(xlabel="capacity scale" if are_sizes else "network", xscale="log" if are_sizes else "linear")
        axes.set_xticks(list(places.values()), labels=list(places))
        axes.minorticks_off()
    figures.legend_below(figure, panels[0])
    figures.save(figure, path)


if __name__ == "__main__":
    common.run(main)
