"""Which images of a large data set are attacked: a few classes that look different, a few images of each, all of which
the classifier gets right (Madan and Anand, section 3: 30 classes of ImageNet, 5 images of each).

    chosen = select(logits, labels, num_classes=30, images_per_class=5, seed=0)
    images[chosen.indices]
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfrobust.checks import require_integer


@dataclasses.dataclass(frozen=True)
class Selection:
    """What `select` chose.

    Attributes:
      classes: in the order in which they were chosen.
      indices: of the images [num_classes * images_per_class]: one of each class, then the next of each.
      short: the classes that had too few images that are classified correctly, and how many they had.
    """

    classes: tuple[int, ...]
    indices: np.ndarray
    short: dict[int, int]


def select(
    logits: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int,
    images_per_class: int,
    seed: int,
    classes: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
) -> Selection:
    """Chooses classes and images.

    How two classes look to the classifier is compared by the mean logits of their images: the first class is drawn,
    and each one after it is that whose mean has the smallest largest cosine with those chosen before, the mean of all
    classes being 0. The document's authors chose by eye.

    Args:
      logits, labels: of the candidates [N, K], [N].
      num_classes: how many classes.
      images_per_class: how many correctly classified images of each, the first ones.
      seed: of the first class.
      classes: these and no others, instead of `num_classes` different ones.
      names: of all classes, for messages.

    Raises:
      ValueError: if there are not so many classes with so many images.
    """
    require_integer("num_classes", num_classes, 1)
    require_integer("images_per_class", images_per_class, 1)
    labels = np.asarray(labels)
    correct = np.argmax(logits, axis=1) == labels
    of_class = {int(label): np.flatnonzero(correct & (labels == label)) for label in np.unique(labels)}
    short = {label: len(found) for label, found in of_class.items() if len(found) < images_per_class}

    def described(labels):
        parts = [f"{names[label] if names else label} ({len(of_class.get(label, ()))})" for label in labels]
        return ", ".join(parts[:8]) + (f" and {len(parts) - 8} more" if len(parts) > 8 else "")

    if classes is not None:
        lacking = [label for label in classes if label in short or label not in of_class]
        if lacking:
            raise ValueError(
                f"classes must have {images_per_class} correctly classified images each, not so: {described(lacking)}"
            )
        chosen = list(classes)
    else:
        eligible = [label for label in of_class if label not in short]
        if len(eligible) < num_classes:
            raise ValueError(
                f"num_classes must be at most {len(eligible)}, the number of classes with {images_per_class} "
                f"correctly classified images, got {num_classes}"
                + (f"; fewer have {described(short)}" if short else "")
            )
        means = np.stack([logits[of_class[label]].mean(axis=0, dtype=np.float64) for label in eligible])
        chosen = [eligible[i] for i in _farthest(means, num_classes, seed)]
    indices = np.stack([of_class[label][:images_per_class] for label in chosen], axis=1).ravel()
    return Selection(tuple(chosen), indices, short)


def random_targets(labels: np.ndarray, classes: Sequence[int], seed: int) -> np.ndarray:
    """For each label another one of `classes`, all equally likely: int64 [N].

    Raises:
      ValueError: for fewer than two classes.
    """
    if len(set(classes)) < 2:
        raise ValueError(f"classes must be two or more to have targets, got {list(classes)}")
    # RandomState, unlike default_rng, promises the same numbers in every version of NumPy.
    random = np.random.RandomState(seed)
    return np.array([random.choice([c for c in classes if c != label]) for label in labels], np.int64)


def _farthest(points, count, seed):
    """Indices of `count` of the points [M, K], each as different in direction as can be from those before it."""
    centered = points - points.mean(axis=0)
    norms = np.linalg.norm(centered, axis=1, keepdims=True)
    directions = np.divide(centered, norms, out=np.zeros_like(centered), where=norms > 0)
    chosen = [int(np.random.RandomState(seed).randint(len(points)))]
    nearest = directions @ directions[chosen[0]]
    while len(chosen) < count:
        nearest[chosen] = np.inf
        chosen.append(int(np.argmin(nearest)))
        nearest = np.maximum(nearest, directions @ directions[chosen[-1]])
    return chosen
