"""The images that eval.imagenet shows: kept as they are made, so that they can be drawn again."""

from typing import NamedTuple

import numpy as np

from eval import batched_logits, output_files, study

NATURAL = "natural"
_OF_EACH = ("images", "classes", "names", "confidences")


class Shown(NamedTuple):
    """Images of one attack, and what the classifier makes of them.

    Attributes:
      attack: units and attack, or `NATURAL`.
      epsilon: infinity where there is none.
      images: float32 [N, H, W, 3], pixels.
      classes, names: of the predictions [N].
      confidences: [N].
    """

    attack: str
    epsilon: float
    images: np.ndarray
    classes: np.ndarray
    names: np.ndarray
    confidences: np.ndarray


class Pictures:
    """The first images under every attack at its first epsilon above 0, in a .npz file.

    Args:
      path: of the file; None keeps nothing.
      chosen: `images` [N, H, W, 3], and `all_names` of the classifier's classes.
      count: how many images.
      resumes: whether the file is gone on with.

    Raises:
      ValueError: if it is gone on with and cannot be read.
    """

    def __init__(self, path: str | None, classifier, chosen, count: int, resumes: bool):
        self._path, self._logits = path, batched_logits.of(classifier)
        self._count, self._names = count, chosen["all_names"]
        self._shown = read(path) if path and resumes else []
        self._add(NATURAL, np.inf, chosen["images"])

    def keep(self, units: str, epsilon: float, attack: str, images: np.ndarray) -> None:
        """Keeps the first images [N, H, W, 3] in pixels, unless there are some of this attack and these units."""
        if epsilon:
            self._add(f"{units}, {attack}", epsilon, images)

    def _add(self, attack, epsilon, images):
        if not self._path or any(shown.attack == attack for shown in self._shown):
            return
        images = images[: self._count]
        classes, confidences = batched_logits.most_likely(self._logits(images))
        names = np.array([self._names[i] for i in classes])
        self._shown.append(Shown(attack, epsilon, images, classes, names, confidences))
        arrays = {"attacks": [shown.attack for shown in self._shown], "epsilons": [s.epsilon for s in self._shown]}
        for number, shown in enumerate(self._shown):
            arrays |= {f"{name}_{number}": getattr(shown, name) for name in _OF_EACH}
        with output_files.whole_file(self._path) as file:
            np.savez_compressed(file, **arrays)


def read(path: str) -> list[Shown]:
    """What a file holds, the natural images first.

    Raises:
      ValueError: if it cannot be read.
    """
    with study.kept_pictures(path) as file:
        return [
            Shown(str(attack), float(epsilon), *(file[f"{name}_{number}"] for name in _OF_EACH))
            for number, (attack, epsilon) in enumerate(zip(file["attacks"], file["epsilons"], strict=True))
        ]
