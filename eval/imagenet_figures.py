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


def draw(path: str, settings, rows) -> str:
    """PATH_pictures.png for PATH.png, from PATH.npz, and PATH_targeted.png if any attack has a target; their names."""
    stem = str(pathlib.Path(path).with_suffix(""))
    draw_pictures(f"{stem}_pictures.png", settings, f"{stem}.npz")
    if not targeted_rows(rows):
        return f"{stem}_pictures.png"
    draw_targeted(f"{stem}_targeted.png", settings, rows)
    return f"{stem}_pictures.png and {stem}_targeted.png"


def targeted_rows(rows) -> list:
    """The rows of the attacks that have a target and an epsilon."""
    return [row for row in rows if not np.isnan(row["target_top1"]) and 0 < row["epsilon"] < np.inf]


def draw_targeted(path: str, settings, rows) -> None:
    """Top-5 accuracy, and how often the target is reached, against epsilon (Madan and Anand, figure 6)."""
    aimed = targeted_rows(rows)
    units = list(dict.fromkeys(row["units"] for row in aimed))
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
            axes.xaxis.set_major_formatter("{x:g}")
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
    labels = settings["labels"]
    for axes in panels.ravel():
        axes.set(xticks=[], yticks=[])
        axes.set_frame_on(False)
    for number in range(count):
        _show(panels[0, 2 * number + 1], natural, number, labels)
        panels[0, 2 * number + 1].set_title(settings["names"][str(labels[number])][:22], fontsize=7)
        for line, attack in zip(panels[1:, 2 * number :], attacks, strict=True):
            if number < len(attack.images):
                delta = attack.images[number] - natural.images[number]
                line[0].imshow(np.clip(0.5 + _AMPLIFIED * delta, 0, 1))
                line[0].set_xlabel(f"perturbation x{_AMPLIFIED}", fontsize=7)
                _show(line[1], attack, number, labels)
    for axes, attack in zip(panels[:, 0], shown, strict=True):
        words = attack.attack.replace(", ", "\n").replace(":", "\n")
        axes.set_ylabel(f"{words}\nepsilon {attack.epsilon:g}" if np.isfinite(attack.epsilon) else words, fontsize=7)
    figures.save(figure, path, photographs=True)


def _show(axes, shown, number, labels):
    axes.imshow(np.clip(shown.images[number], 0, 1))
    # Classes may have the same name.
    color = "green" if shown.classes[number] == labels[number] else "red"
    axes.set_xlabel(f"{shown.names[number][:22]}\n{shown.confidences[number]:.0%}", fontsize=7, color=color)
