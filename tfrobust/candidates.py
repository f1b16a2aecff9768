"""Images of ImageNet from which some are chosen: where they are, what they show, and the images themselves on request.

    found = from_folder("/data/imagenet/val", synsets, per_class=10)
    images, readable, faults = found.decode(range(100), size=224)

A source is a folder with a folder for each synset, or what TensorFlow Datasets has prepared of ImageNet 2012.
"""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from tfrobust import image_folders
from tfrobust.checks import require_integer

TFDS_NAME = "imagenet2012"


class Candidates:
    """Files of images with their labels.

    Args:
      names: of the files.
      labels: [N].
      contents: of the files, where they are not on disk.
      unknown: the folders that are no class of the classifier's, which were left out.
    """

    def __init__(
        self,
        names: Sequence[str],
        labels: Sequence[int],
        contents: Sequence[bytes] | None = None,
        unknown: Sequence[str] = (),
    ):
        self.names, self.labels, self.unknown = list(names), np.array(labels, np.int64), tuple(unknown)
        self._contents = contents

    def __len__(self):
        return len(self.names)

    def decode(
        self, indices: Sequence[int], size: int, *, squash: bool = False
    ) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Images float32 [M, size, size, 3] in [0, 1] of those of `indices` that can be read, these indices [M], and
        for each that cannot what is wrong with it; see `image_folders.read_image`."""
        images, readable, faults = [], [], []
        for index in indices:
            content = None if self._contents is None else self._contents[index]
            try:
                images.append(image_folders.read_image(self.names[index], size, squash=squash, content=content))
                readable.append(int(index))
            except image_folders.ImageFolderError as error:
                faults.append(str(error))
        pixels = np.stack(images).astype(np.float32) / np.float32(255) if images else np.zeros([0, size, size, 3])
        return pixels, np.array(readable, np.int64), faults


def synsets_of(path: str | os.PathLike) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Synsets in the order of the classifier's classes, and their names, from a file: a line "n01440764 tench" each.

    Raises:
      ValueError: if it cannot be read, or lists fewer than two or one twice.
    """
    try:
        lines = [line.split(maxsplit=1) for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise ValueError(f"synsets must be a file, a synset in each line, {path} cannot be read: {error}") from error
    lines = [line for line in lines if line]
    synsets = tuple(line[0] for line in lines)
    if len(synsets) < 2 or len(set(synsets)) < len(synsets):
        raise ValueError(f"synsets must be two or more, each once, got {len(set(synsets))} in {path}")
    # A synset has several names, of which the first says enough.
    return synsets, tuple(line[-1].split(",")[0].strip() for line in lines)


def folders_of(folder: str | os.PathLike) -> tuple[str, ...]:
    """The folders of images in `folder`, by name: the classes of a classifier that was trained on all of them.

    Raises:
      tfrobust.image_folders.ImageFolderError: if there are none.
    """
    return tuple(image_folders.files_by_class(folder))


def from_folder(
    folder: str | os.PathLike,
    synsets: Sequence[str],
    *,
    per_class: int,
    num_classes: int | None = None,
    only: Sequence[str] | None = None,
    seed: int = 0,
) -> Candidates:
    """Images of a folder that holds a folder for each synset.

    Args:
      synsets: in the order of the classifier's classes.
      per_class: the most images of a class; which ones depends on the seed.
      num_classes: the most classes; default: all. Which ones depends on the seed.
      only: these synsets and no others.

    Raises:
      ValueError: for numbers below 1.
      tfrobust.image_folders.ImageFolderError: if it holds no images, none of a known synset, or none of one of `only`.
    """
    require_integer("per_class", per_class, 1)
    found = image_folders.files_by_class(folder)
    label_of = {synset: label for label, synset in enumerate(synsets)}
    known = [name for name in found if name in label_of]
    unknown = [name for name in found if name not in label_of]
    if not known:
        raise image_folders.ImageFolderError(
            f"{folder} holds no folder of a synset that the classifier knows, but {', '.join(unknown[:5])}"
        )
    missing = [name for name in only or () if name not in found]
    if missing:
        raise image_folders.ImageFolderError(f"{folder} holds no images of {', '.join(missing)}")
    random = np.random.RandomState(seed)
    paths, labels = [], []
    for name in _some(known, num_classes, only, random):
        of_class = [found[name][i] for i in random.permutation(len(found[name]))[:per_class]]
        paths += of_class
        labels += [label_of[name]] * len(of_class)
    return Candidates(paths, labels, unknown=unknown)


def tfds_synsets() -> tuple[str, ...]:
    """The synsets of TFDS's ImageNet 2012 in the order of its labels, which is that of their names."""
    import tensorflow_datasets as tfds  # slow to import

    return tuple(tfds.builder(TFDS_NAME, try_gcs=False).info.features["label"].names)


def from_tfds(
    data_dir: str | os.PathLike | None,
    synsets: Sequence[str],
    *,
    per_class: int,
    num_classes: int | None = None,
    only: Sequence[str] | None = None,
    seed: int = 0,
) -> Candidates:
    """Images of TFDS's validation split of ImageNet 2012: of each class the first ones, in its fixed order.

    Args:
      data_dir: TFDS's folder; default: TFDS_DATA_DIR, or TFDS's own.
      synsets, per_class, num_classes, only, seed: as in `from_folder`, but that the seed chooses classes alone.

    Raises:
      ValueError: for numbers below 1, or synsets of which ImageNet 2012 has none.
      OSError: if it has not been prepared there, or cannot be read.
    """
    import tensorflow_datasets as tfds  # slow to import

    require_integer("per_class", per_class, 1)
    theirs = tfds_synsets()
    label_of = {synset: label for label, synset in enumerate(synsets)}
    known = [name for name in theirs if name in label_of]
    if not known:
        raise ValueError(f"synsets must be some of {TFDS_NAME}'s, got {', '.join(list(synsets)[:5])}")
    wanted = set(_some(known, num_classes, only, np.random.RandomState(seed)))
    names, labels, contents, count = [], [], [], {}
    try:
        builder = tfds.builder(TFDS_NAME, data_dir=data_dir or os.environ.get("TFDS_DATA_DIR"), try_gcs=False)
        decoders = {"image": tfds.decode.SkipDecoding()}
        for example in builder.as_dataset(split="validation", decoders=decoders, shuffle_files=False):
            synset = theirs[int(example["label"])]
            if synset in wanted and count.get(synset, 0) < per_class:
                count[synset] = count.get(synset, 0) + 1
                names.append(example["file_name"].numpy().decode())
                labels.append(label_of[synset])
                contents.append(example["image"].numpy())
    except Exception as error:  # TFDS and the file systems below it share no narrower class
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OSError(
            f"{TFDS_NAME} must have been prepared by TensorFlow Datasets, which asks you to download ImageNet: {line}"
        ) from error
    return Candidates(names, labels, contents)


def _some(known, num_classes, only, random):
    """The classes to take: `only`, or as many as asked for at random, or all."""
    if only is not None:
        return list(only)
    if num_classes is None:
        return list(known)
    require_integer("num_classes", num_classes, 1)
    return sorted(random.permutation(known)[:num_classes].tolist())
