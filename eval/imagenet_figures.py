"""The figures of eval.imagenet, from its files."""

import pathlib

import numpy as np

from eval import figures, imagenet_pictures

# A perturbation is shown so many times as strong, around grey.
_AMPLIFIED = 10


def caption(settings) -> str:
    """What was attacked, in a line."""
    classes = len(settings["names"])
    cut = "squashed" if settings["squash"] else "cut"
    return (
        f"{settings['model']}, {len(settings['files'])} images of {classes} classes of ImageNet, "
        f"{settings['image_size']}x{settings['image_size']} pixels, {cut}, seed {settings['seed']}"
    )


def draw(path: str, settings, rows) -> None:
    """PATH_targeted.png and PATH_pictures.png for PATH.png, the latter from PATH.npz."""
    stem = str(pathlib.Path(path).with_suffix(""))
    draw_targeted(f"{stem}_targeted.png", settings, rows)
    draw_pictures(f"{stem}_pictures.png", settings, f"{stem}.npz")


def draw_targeted(path: str, settings, rows) -> None:
    """Top-5 accuracy, and how often the target is reached, against epsilon (Madan and Anand, figure 6)."""
    aimed = [row for row in rows if not np.isnan(row["target_top1"]) and 0 < row["epsilon"] < np.inf]
    units = list(dict.fromkeys(row["units"] for row in aimed))
    if not units:
        return
    figure, panels = figures.new(2 * len(units), caption(settings), width=4.2)
    for number, unit in enumerate(units):
        left, right = panels[2 * number : 2 * number + 2]
        for index, attack in enumerate(dict.fromkeys(row["attack"] for row in aimed)):
            points = sorted((r["epsilon"], r) for r in aimed if (r["units"], r["attack"]) == (unit, attack))
            epsilons = [epsilon for epsilon, _ in points]
            for axes, columns in ((left, ("top1", "top5")), (right, ("target_top1", "target_top5"))):
                for column, line in zip(columns, ("--", "-"), strict=True):
                    values = [100 * row[column] for _, row in points]
                    name = f"{attack}, {column.rsplit('_', maxsplit=1)[-1].replace('top', 'top-')}"
                    axes.plot(epsilons, values, line, marker=figures.MARKERS[index], color=f"C{index}", label=name)
        left.set(xscale="log", ylabel="label is recognised (%)", ylim=(0, 102))
        right.set(xscale="log", ylabel="target is recognised (%)", ylim=(0, 102))
        for axes in (left, right):
            axes.set_xlabel("epsilon (pixels in [0, 1])" if unit == "pixels" else "epsilon (normalised, not clipped)")
    figures.legend_below(figure, panels[0], columns=4)
    figures.save(figure, path)


def draw_pictures(path: str, settings, kept: str) -> None:
    """A row for each attack, two columns for each image: the perturbation, amplified, and what comes out; of the file
    `kept`."""
    shown = imagenet_pictures.read(kept)
    natural, attacks = shown[0], shown[1:]
    count = len(natural.images)
    figure, panels = figures.table(len(shown), 2 * count, caption(settings), width=1.25, height=1.6)
    labels = [settings["names"][str(label)] for label in settings["labels"][:count]]
    for axes in panels.ravel():
        axes.set(xticks=[], yticks=[])
        axes.set_frame_on(False)
    for number, label in enumerate(labels):
        _show(panels[0, 2 * number + 1], natural, number, label)
        panels[0, 2 * number + 1].set_title("natural", fontsize=7)
        for line, attack in zip(panels[1:, 2 * number :], attacks, strict=True):
            if number < len(attack.images):
                delta = attack.images[number] - natural.images[number]
                line[0].imshow(np.clip(0.5 + _AMPLIFIED * delta, 0, 1))
                line[0].set_xlabel(f"perturbation x{_AMPLIFIED}", fontsize=7)
                _show(line[1], attack, number, label)
    for axes, attack in zip(panels[1:, 0], attacks, strict=True):
        axes.set_ylabel(attack.title.replace(", ", "\n").replace(":", "\n"), fontsize=7)
    figures.save(figure, path)


def _show(axes, shown, number, label):
    axes.imshow(np.clip(shown.images[number], 0, 1))
    prediction = str(shown.predictions[number])
    words = f"{prediction[:22]}\n{shown.confidences[number]:.0%}"
    axes.set_xlabel(words, fontsize=7, color="green" if prediction == label else "red")
