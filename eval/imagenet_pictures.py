"""The images that eval.imagenet shows: kept as they are made, so that they can be drawn again."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from eval import imagenet_rows, output_files


class Shown(NamedTuple):
    """Images of one attack, and what the classifier makes of them.

    Attributes:
      title: units, epsilon and attack.
      images: float32 [N, H, W, 3], pixels.
      predictions: names of classes [N].
      confidences: [N].
    """

    title: str
    images: np.ndarray
    predictions: list[str]
    confidences: np.ndarray


class Pictures:
    """The first images under every attack at its first epsilon, in a .npz file.

    Args:
      path: of the file; None keeps nothing.
      chosen: `images` [N, H, W, 3], and `all_names` of the classifier's classes.
      count: how many images.
      resumes: whether the file is gone on with.

    Raises:
      ValueError: if it is gone on with and cannot be read.
    """

    def __init__(self, path: str | None, classifier, chosen, count: int, resumes: bool):
        self._path, self._logits = path, imagenet_rows.logits_in_batches(classifier)
        self._count, self._names = count, chosen["all_names"]
        self._shown = read(path) if path and resumes else []
        if path and not self._shown:
            self._add("natural", chosen["images"])

    def keep(self, units: str, epsilon: float, attack: str, images: np.ndarray) -> None:
        """Keeps the first images [N, H, W, 3] in pixels, unless there are some of this attack and these units."""
        start = f"{units}, {attack}"
        if self._path and not any(shown.title.startswith(start) for shown in self._shown):
            self._add(start if np.isinf(epsilon) else f"{start}, epsilon {epsilon:g}", images)

    def _add(self, title, images):
        images = images[: self._count]
        probabilities = tf.nn.softmax(self._logits(images)).numpy()
        names = [self._names[i] for i in probabilities.argmax(axis=1)]
        self._shown.append(Shown(title, images, names, probabilities.max(axis=1)))
        with output_files.whole_file(self._path) as file:
            columns = list(zip(*self._shown, strict=True))
            np.savez_compressed(file, **{name: np.array(c) for name, c in zip(Shown._fields, columns, strict=True)})


def read(path: str) -> list[Shown]:
    """What a file holds, the natural images first.

    Raises:
      ValueError: if it cannot be read.
    """
    try:
        with np.load(path) as file:
            columns = [file[name] for name in Shown._fields]
            return [Shown(str(title), *rest) for title, *rest in zip(*columns, strict=True)]
    except Exception as error:  # damage shows as anything from zipfile.BadZipFile to KeyError
        raise ValueError(f"output must have this study's pictures, {path} cannot be read: {error}") from error
