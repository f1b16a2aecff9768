"""What an attack does to pictures as epsilon grows: a row for each image, a column for each epsilon.

    python -m eval.adversarial_pictures --model=models/cifar10_naive --dataset=cifar10 \\
        --epsilons=0.005,0.01,0.02,0.05,0.1 --attacks=pgd:steps=40 --output=reports/pictures

Every picture is titled with the predicted class and its confidence, in green where it is right and in red where it is
wrong; the first column is the natural image. The images are the first test images that the model classifies correctly,
one of each of --classes classes, or those of --images. --output=reports/pictures writes reports/pictures.csv, .json and
.png, and .npz with the adversarial images; the same command goes on where it was stopped, and --redraw draws again what
is there. (Preaut, Quemada and Durat 2022, Quick-Attacks: "Influence of epsilon on picture visualization".)
"""

import numpy as np
from absl import flags

from eval import (
    batched_logits,
    classifiers,
    common,
    data_flags,
    epsilons_flag,
    figures,
    foreign_flags,
    html_page,
    html_study,
    output_files,
    study,
)
from tfrobust import datasets, loading
from tfrobust.threat_models import ThreatModel

CLASSES = flags.DEFINE_integer("classes", 5, "Take an image of each of so many classes.", lower_bound=1)
IMAGES = flags.DEFINE_list("images", None, "Take these test images instead: their numbers in official order, from 0.")
flags.adopt_module_key_flags(common)
flags.adopt_module_key_flags(epsilons_flag)
flags.adopt_module_key_flags(output_files)
flags.adopt_module_key_flags(study)
flags.adopt_module_key_flags(html_page)

COLUMNS = {"image": int, "label": int, "epsilon": float, "prediction": int, "confidence": float, "distance": float}


def main() -> None:
    """Attacks what has not been attacked yet, prints a row for each picture, draws."""
    output = output_files.OUTPUT.value
    html_page.check_report_path(needs_output=True)
    if study.redrawn(COLUMNS, draw, page):
        return
    foreign_flags.refuse(("suite", "rows"), "eval.adversarial_pictures, which has --attacks")
    if common.EPSILON.value is not None:
        raise ValueError("epsilon is --epsilons here, several of them")
    # The natural images are a column of their own.
    epsilons = [0.0, *(epsilon for epsilon in epsilons_flag.values() if epsilon)]
    attacks = {epsilon: common.single_attack(common.ATTACKS, _threat(epsilon)) for epsilon in epsilons}
    if output:
        output_files.check_output_path(f"{output}.npz")
    classifier = classifiers.load(common.model_path())
    test = data_flags.load_test_set()
    logits_of = batched_logits.of(classifier)
    indices = _given_images(len(test.labels)) if IMAGES.value else _first_of_classes(logits_of, test)
    chosen = datasets.Arrays(test.images[indices], test.labels[indices])
    settings = {
        "model": common.model_path(),
        "weights": loading.fingerprint(classifier),
        "attack": attacks[0.0][0],
        "norm": common.NORM.value,
        **data_flags.identity(),
        "images": indices,
        "seed": common.SEED.value,
        "precision": common.attack_precision(),
        "class_names": data_flags.dataset_spec().class_names,
    }
    found = study.Study(output, settings, COLUMNS, ("image", "epsilon"))
    print(f"{caption(found.settings)}\n image  epsilon  distance  prediction")
    pictures = _pictures(output) if found.rows else {}
    for epsilon, (_, attack) in attacks.items():
        if not all(found.has(index, epsilon) for index in indices):
            pictures[epsilon] = _attacked(classifier, chosen, attack) if epsilon else chosen.images
            if output:
                # Before the rows: what has rows has pictures.
                _save_pictures(output, pictures)
            found.add(*_rows(logits_of, chosen, indices, attack.threat, pictures[epsilon]))
        for row in (found.get(index, epsilon) for index in indices):
            words = _words(found.settings, row)
            print(f"{row['image']:>6}  {epsilon:>7.4g}  {row['distance']:>8.4g}  {words}", flush=True)
    if output:
        draw(f"{output}.png", found.settings, found.rows)
        print(f"saved {output}.csv, {output}.json, {output}.npz and {output}.png")
    page(found.settings, found.rows)


def _threat(epsilon):
    return ThreatModel(common.NORM.value, epsilon)


def _given_images(count):
    texts = IMAGES.value
    if not all(text.isdigit() and int(text) < count for text in texts) or len(set(texts)) < len(texts):
        raise ValueError(f"images must be different numbers from 0 to {count - 1}, separated by commas, got {texts}")
    return [int(text) for text in texts]


def _first_of_classes(logits_of, test):
    """The first image of each of --classes classes that is classified correctly."""
    correct = np.argmax(logits_of(test.images), axis=1) == test.labels
    if not correct.any():
        raise ValueError("model must classify some of the test images correctly, or choose them with --images")
    classes = np.unique(test.labels[correct])[: CLASSES.value]
    return [int(np.flatnonzero(correct & (test.labels == label))[0]) for label in classes]


def _attacked(classifier, chosen, attack):
    """The attack's own images, also where they fool nobody."""
    made = {}
    table = common.Table({"attack": attack}, False)
    common.evaluate(classifier, chosen, table, on_images=lambda name, x_adv: made.update({name: x_adv.copy()}))
    return made["attack"]


def _rows(logits_of, chosen, indices, threat, pictures):
    predictions, confidences = batched_logits.most_likely(logits_of(pictures))
    distances = threat.distance(pictures, chosen.images).numpy()
    columns = (indices, chosen.labels, predictions, confidences, distances)
    for image, label, prediction, confidence, distance in zip(*columns, strict=True):
        yield {
            "image": image,
            "label": int(label),
            "epsilon": threat.epsilon,
            "prediction": int(prediction),
            "confidence": float(confidence),
            "distance": float(distance),
        }


def _save_pictures(output, pictures):
    with output_files.whole_file(f"{output}.npz") as file:
        np.savez_compressed(file, epsilons=list(pictures), x_adv=np.stack(list(pictures.values())))


def _pictures(output):
    """Images [N, H, W, C] by epsilon.

    Raises:
      ValueError: if the file is not there, or is another.
    """
    with study.kept_pictures(f"{output}.npz") as file:
        return dict(zip(file["epsilons"].tolist(), file["x_adv"], strict=True))


def _words(settings, row):
    return f"{settings['class_names'][row['prediction']]} {row['confidence']:.0%}"


def caption(settings) -> str:
    """What is shown, in a line."""
    return (
        f"{settings['model']}, test images of {settings['dataset']}, {settings['attack']} in {settings['norm']}, seed "
        f"{settings['seed']}"
    )


def page(settings, rows) -> None:
    """The picture and its numbers as --report, where it is asked for."""
    words = "Images under attack, by epsilon"
    html_study.write_study("What the attack does to pictures", f"{caption(settings)}.", words, draw, settings, rows)


def draw(path: str, settings, rows) -> None:
    """The pictures as PNG, from the rows and the .npz of --output."""
    pictures = _pictures(output_files.OUTPUT.value)
    by_key = {(row["image"], row["epsilon"]): row for row in rows}
    epsilons = sorted({row["epsilon"] for row in rows})
    figure, panels = figures.table(len(settings["images"]), len(epsilons), caption(settings), width=1.35, height=1.65)
    for number, image in enumerate(settings["images"]):
        for axes, epsilon in zip(panels[number], epsilons, strict=True):
            axes.set(xticks=[], yticks=[])
            row = by_key.get((image, epsilon))
            if row is None or epsilon not in pictures:
                continue
            axes.imshow(pictures[epsilon][number].squeeze(), cmap="gray", vmin=0, vmax=1)
            right = row["prediction"] == row["label"]
            axes.set_title(_words(settings, row), fontsize=8, color="green" if right else "red")
            axes.set_xlabel(f"epsilon {epsilon:.3g}" if epsilon else "natural", fontsize=8)
        label = by_key[image, epsilons[0]]["label"]
        panels[number][0].set_ylabel(f"{image}: {settings['class_names'][label]}", fontsize=8)
    for axes in panels[:-1].ravel():
        axes.set_xlabel("")
    figures.save(figure, path)


if __name__ == "__main__":
    common.run(main)
