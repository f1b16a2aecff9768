"""Attacks on a classifier of ImageNet: the tables and figures of Madan and Anand, "Robust Deep Learning".

    python -m eval.imagenet --network=squeezenet --weights=squeezenet_v1.0.npz --data_dir=imagenet/val \\
        --synsets=synsets.txt --output=reports/imagenet
    python -m eval.imagenet --network=MobileNetV2 --imagenet2012 --output=reports/imagenet

--data_dir has a folder for each synset; or --imagenet2012 takes the validation set of TensorFlow Datasets. Out of it
come --num_classes classes that the classifier finds different and --images_per_class images of each that it classifies
correctly. They are attacked by --attacks at every one of --epsilons (tables 1 and 2), by targeted FGSM and BIM at every
one of --targeted_epsilons (figure 6), and by the targeted l2 attack of Carlini and Wagner (table 3); targets are other
classes out of those chosen, at random. top1 and top5 count the label, target_top1 and target_top5 the target.

--epsilon_units says what an epsilon is: of pixels in [0, 1], which attacks keep there, or of pixels that are normalised
by ImageNet's mean and deviation, which attacks do not clip: the document's experiments are of the second kind. Norms
are in the same units; those of the l2 attack are means over the images that reach their targets.

--output=reports/imagenet writes reports/imagenet.csv and .json, in which the images are listed, reports/imagenet.npz
and the pictures reports/imagenet_targeted.png and _pictures.png; the same command goes on where it was stopped, and
--redraw draws again what is there; --report=imagenet.html writes a page for a browser.
"""

import numpy as np
from absl import flags

from eval import (
    common,
    data_flags,
    epsilons_flag,
    foreign_flags,
    fraction_flag,
    html_page,
    html_study,
    imagenet_figures,
    imagenet_images,
    imagenet_models,
    imagenet_rows,
    output_files,
    study,
)
from eval.imagenet_pictures import Pictures
from tfrobust import loading
from tfrobust.attacks import catalogue
from tfrobust.threat_models import ThreatModel

UNITS = flags.DEFINE_list("epsilon_units", list(imagenet_rows.UNITS), "Of epsilons: pixels, normalized, or both.")
TARGETED_EPSILONS = flags.DEFINE_list(
    "targeted_epsilons", ["0.005", "0.01", "0.02", "0.05", "0.1", "0.3", "0.6"], "Epsilons of the targeted attacks."
)
TARGETED_STEPS = flags.DEFINE_integer("targeted_steps", 10, "Steps of targeted BIM.", lower_bound=1)
CW_IMAGES = flags.DEFINE_integer("cw_images", 30, "Images for the attack of Carlini and Wagner.", lower_bound=0)
CW_STEPS = flags.DEFINE_integer("cw_steps", 200, "Its most gradients for a constant.", lower_bound=1)
CW_SEARCHES = flags.DEFINE_integer("cw_searches", 5, "Constants that it tries.", lower_bound=1)
PICTURES = flags.DEFINE_integer("pictures", 3, "Images that are shown, attacked at the first epsilon.", lower_bound=1)
flags.adopt_module_key_flags(common)
flags.adopt_module_key_flags(epsilons_flag)
flags.adopt_module_key_flags(imagenet_images)
flags.adopt_module_key_flags(imagenet_models)
flags.adopt_module_key_flags(output_files)
flags.adopt_module_key_flags(study)
flags.adopt_module_key_flags(html_page)

_DEFAULT_EPSILONS, _DEFAULT_ATTACKS = ["0.1", "0.6"], "fgsm,bim:steps=2,pgd:steps=6,pgd:steps=6:step_size=0.01"
# Images of this size at a time.
_BATCH = 25
COLUMNS = {"units": str, "epsilon": float, "attack": str, "images": int, **imagenet_rows.MEASURES}


def main() -> None:
    """Chooses images, attacks them, prints a row for each attack, draws."""
    html_page.check_report_path(needs_output=True)
    if study.redrawn(COLUMNS, imagenet_figures.draw, page):
        return
    epsilons, targeted_epsilons = _check_flags()
    output = output_files.OUTPUT.value
    classifier = imagenet_models.load()
    chosen = imagenet_images.choose(classifier)
    settings = {
        "model": imagenet_models.name(),
        "weights": loading.fingerprint(classifier),
        "attacks": common.ATTACKS.value or _DEFAULT_ATTACKS,
        "targeted_steps": TARGETED_STEPS.value,
        "cw_steps": CW_STEPS.value,
        "cw_searches": CW_SEARCHES.value,
        "cw_images": CW_IMAGES.value,
        "pictures": PICTURES.value,
        "precision": common.attack_precision(),
        "seed": common.SEED.value,
        "image_size": chosen["images"].shape[1],
        "squash": imagenet_images.SQUASH.value,
        **{name: chosen[name] for name in ("files", "labels", "targets", "names")},
    }
    found = study.Study(output, settings, COLUMNS, ("units", "epsilon", "attack"))
    pictures = Pictures(output and f"{output}.npz", classifier, chosen, PICTURES.value, bool(found.rows))
    print(f"{imagenet_figures.caption(found.settings)}\n{_header()}", flush=True)
    for units in UNITS.value:
        for epsilon in epsilons:
            _attack(found, pictures, classifier, chosen, units, epsilon, aims=False)
        for epsilon in targeted_epsilons:
            _attack(found, pictures, classifier, chosen, units, epsilon, aims=True)
    if CW_IMAGES.value:
        first = {name: chosen[name][: CW_IMAGES.value] for name in ("images", "labels", "targets")}
        _attack(found, pictures, classifier, first, "pixels", float("inf"), aims=True)
    if output:
        drawn = imagenet_figures.draw(f"{output}.png", found.settings, found.rows)
        print(f"saved {output}.csv, .json and .npz, {drawn}")
    page(found.settings, found.rows)


def page(settings, rows) -> None:
    """The pictures and the rows as --report, where it is asked for."""
    output = output_files.OUTPUT.value
    shown = {"Images under attack": lambda path: imagenet_figures.draw_pictures(path, settings, f"{output}.npz")}
    if imagenet_figures.targeted_rows(rows):
        shown["Label and target under targeted attacks"] = lambda path: imagenet_figures.draw_targeted(
            path, settings, rows
        )
    words = f"{imagenet_figures.caption(settings)}."
    html_study.write("Attacks on a classifier of ImageNet", words, settings, rows, shown, study.made_by(output))


def _check_flags():
    """--epsilons and --targeted_epsilons; all that can be wrong without an image."""
    if epsilons_flag.EPSILONS.value is None:
        flags.FLAGS.epsilons = _DEFAULT_EPSILONS
    if not flags.FLAGS["eval_batch_size"].present:
        # The default is for images a fiftieth of this size.
        flags.FLAGS.eval_batch_size = _BATCH
    for name in UNITS.value or [""]:
        if name not in imagenet_rows.UNITS:
            raise ValueError(f"epsilon_units must be some of {', '.join(imagenet_rows.UNITS)}, got {name!r}")
    if not flags.FLAGS["precision"].present:
        # What normalised images are attacked with in any case.
        flags.FLAGS.precision = "float32"
    foreign_flags.refuse(
        ("epsilon", data_flags.NUM_EVAL_EXAMPLES.name, "suite", "rows"),
        "eval.imagenet, which has --epsilons, --num_classes, --images_per_class and --attacks",
    )
    if common.NORM.value != "linf":
        raise ValueError(f"norm must be linf here, got {common.NORM.value!r}")
    found = tuple(fraction_flag.values(flag) for flag in (epsilons_flag.EPSILONS, TARGETED_EPSILONS))
    for units in UNITS.value:
        for epsilon in found[0]:
            threat = ThreatModel("linf", epsilon, imagenet_rows.bounds(units, epsilon))
            catalogue.parse(common.ATTACKS.value or _DEFAULT_ATTACKS, threat)
        for epsilon in found[1]:
            ThreatModel("linf", epsilon, imagenet_rows.bounds(units, epsilon))
    if output_files.OUTPUT.value:
        for suffix in (".csv", ".npz"):
            output_files.check_output_path(f"{output_files.OUTPUT.value}{suffix}")
    return found


def _attack(found, pictures, classifier, chosen, units, epsilon, *, aims):
    """The rows of one epsilon, infinity being that of Carlini and Wagner's attack; computed unless they are there."""
    labels, targets = np.array(chosen["labels"]), np.array(chosen["targets"])
    boundless = np.isinf(epsilon)
    seen = imagenet_rows.view(units, classifier, chosen["images"], 0.0 if boundless else epsilon)
    threat = ThreatModel("linf", 0.0 if boundless else epsilon, seen.bounds)
    if boundless:
        attacks = imagenet_rows.carlini_wagner(seen.images.shape[1:], CW_STEPS.value, CW_SEARCHES.value)
    elif aims:
        attacks = imagenet_rows.targeted(threat, TARGETED_STEPS.value)
    else:
        attacks = catalogue.parse(common.ATTACKS.value or _DEFAULT_ATTACKS, threat)
    missing = {name: attack for name, attack in attacks.items() if not found.has(units, epsilon, name)}

    def keep(name, x_adv):
        pictures.keep(units, epsilon, name, imagenet_rows.in_pixels(units, x_adv))

    def add(name, row):
        found.add({"units": units, "epsilon": epsilon, "attack": name, "images": len(labels), **row})

    if missing:
        imagenet_rows.measure(seen, labels, targets, missing, aims=aims, on_row=add, on_images=keep)
    for name in attacks:
        print(_line(found.get(units, epsilon, name)), flush=True)


_SHOWN = ("units", "epsilon", "attack", "images", *imagenet_rows.MEASURES)


def _width(column):
    return {"units": 10, "attack": 30}.get(column, 11)


def _header():
    return "  ".join(f"{column:{'<' if column in ('units', 'attack') else '>'}{_width(column)}}" for column in _SHOWN)


def _line(row):
    cells = []
    for column in _SHOWN:
        value = row[column]
        if isinstance(value, str):
            cells.append(f"{value:<{_width(column)}}")
        elif "top" in column:
            cells.append(f"{'' if np.isnan(value) else f'{value:.1%}':>{_width(column)}}")
        else:
            cells.append(f"{value:>{_width(column)}.4g}")
    return "  ".join(cells)


if __name__ == "__main__":
    common.run(main)
