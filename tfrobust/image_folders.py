"""Images kept as ImageNet is: ROOT/train/n01440764/*.JPEG, a folder for each class, and ROOT/val in the same way.

    spec = image_folders.spec("/data/imagenet")
    train = image_folders.load("/data/imagenet", "train")          # decoded when they are asked for
    test = image_folders.in_memory(image_folders.load("/data/imagenet", "test", num_examples=1000))

The classes are the folders of train in the order of their names, as ImageNet's are, or what ROOT/synsets.txt lists, the
first word of each line, where a data set holds some classes of a larger one. The order of the images is a permutation
of that of their names, the same everywhere, so that the first so many are of many classes.
"""

import concurrent.futures
import functools
import io
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from tfrobust.checks import require_integer
from tfrobust.datasets import Arrays, DatasetSpec

NAME = "imagefolder"
SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp")
IMAGE_SIZE = 224
# Shorter side over that of the crop: as for PyTorch's networks, and for Caffe's.
MARGIN, _CAFFES_MARGIN = 256 / 224, 256 / 227
# Longer side over the shorter one: such an image would take gigabytes before its middle is cut out.
MOST_UNEVEN = 50
# Folders of a split, of which the first that is there counts.
_SPLITS = {"train": ("train",), "test": ("val", "test")}


class ImageFolderError(OSError):
    """A folder or a file in it is not what is expected; the message names it."""


class ImageFiles:
    """Images on disk that index like an array [N, size, size, 3] of float32 in [0, 1].

    A slice is another `ImageFiles`, which decodes nothing; an array of indices is an array of decoded images. As the
    evaluation of ImageNet has it, the shorter side is made 256/224 of `size`, bilinearly, and the middle is cut out.

    Args:
      paths: files that Pillow reads; grey and CMYK ones become RGB, those of more than 8 bits are refused.
      size: height and width of what comes out.

    Attributes:
      error: the last `ImageFolderError`. It is kept because what comes through tf.data is another error.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, paths: Sequence[str], size: int):
        self._paths, self._size = paths, size
        self.error = None

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, H, W, C]."""
        return (len(self._paths), self._size, self._size, 3)

    def __len__(self):
        return len(self._paths)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return ImageFiles(self._paths[index], self._size)
        if isinstance(index, (int, np.integer)):
            return self._decoded([self._paths[index]])[0]
        index = np.asarray(index)
        if index.dtype == bool:
            index = np.flatnonzero(index)
        return self._decoded([self._paths[i] for i in index])

    def __array__(self, dtype=None, copy=None):
        return self._decoded(self._paths).astype(dtype or self.dtype, copy=False)

    def _decoded(self, paths):
        images = np.empty([len(paths), self._size, self._size, 3], np.float32)
        try:
            for i, image in enumerate(_pool().map(functools.partial(read_image, size=self._size), paths)):
                images[i] = image
        except ImageFolderError as error:
            self.error = error
            raise
        images /= np.float32(255)
        return images


def read_image(
    path: str | os.PathLike, size: int = IMAGE_SIZE, *, squash: bool = False, content: bytes | None = None
) -> np.ndarray:
    """One image, uint8 [size, size, 3]; see `ImageFiles`.

    Args:
      squash: make both sides 256/227 of `size`, whatever the proportions: what Caffe's networks were trained on.
      content: the file, where `path` is but its name.

    Raises:
      ImageFolderError: if it cannot be read; it names the file.
    """
    from PIL import Image

    try:
        with Image.open(path if content is None else io.BytesIO(content)) as file:
            if file.mode.startswith(("I", "F")):
                # Pillow would make white of all that is above 255.
                raise ValueError(f"its pixels have more than 8 bits (mode {file.mode})")
            image = file.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageFolderError(f"image {path} cannot be read: {error}") from error
    if max(image.size) > MOST_UNEVEN * min(image.size):
        raise ImageFolderError(f"image {path} is {image.size[0]}x{image.size[1]} pixels: too long for a square of it")
    shorter = max(1, round(size * (_CAFFES_MARGIN if squash else MARGIN)))
    width, height = (shorter if squash else max(size, round(side * shorter / min(image.size))) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def spec(root: str | os.PathLike, image_size: int = IMAGE_SIZE) -> DatasetSpec:
    """What is known of the folder before an image is read.

    Raises:
      ValueError: if image_size is no positive integer.
      ImageFolderError: if there is no folder of classes.
    """
    require_integer("image_size", image_size, 1)
    return DatasetSpec(
        name=NAME,
        image_shape=(image_size, image_size, 3),
        class_names=_class_names(pathlib.Path(root)),
        split_sizes={},
        label_sha256={},
    )


def load(
    root: str | os.PathLike, split: str, *, image_size: int = IMAGE_SIZE, num_examples: int | None = None
) -> Arrays:
    """The images of a split, or the first `num_examples` of them, as `ImageFiles`, and their labels.

    Raises:
      ValueError: for another split than "train" and "test", or more examples than there are.
      ImageFolderError: if the folder is missing or without images, or holds a class that is none of `spec`'s.
    """
    if split not in _SPLITS:
        raise ValueError(f"split must be one of 'test', 'train', got {split!r}")
    root = pathlib.Path(root)
    classes = {name: label for label, name in enumerate(spec(root, image_size).class_names)}
    folder = _split_folder(root, split)
    paths, labels = [], []
    for name in sorted(_folders(folder), key=lambda name: classes.get(name, -1)):
        if name not in classes:
            raise ImageFolderError(f"{folder / name} is none of the {len(classes)} classes of {root}")
        found = _images(folder / name)
        paths += found
        labels += [classes[name]] * len(found)
    if not paths:
        raise ImageFolderError(f"{folder} holds no images: folders of {', '.join(SUFFIXES)} files are expected in it")
    if num_examples is not None:
        require_integer("num_examples", num_examples, 1, len(paths))
    # RandomState, unlike default_rng, promises the same permutation in every version of NumPy.
    order = np.random.RandomState(0).permutation(len(paths))[:num_examples]
    return Arrays(ImageFiles([paths[i] for i in order], image_size), np.array(labels, np.int64)[order])


def files_by_class(folder: str | os.PathLike) -> dict[str, list[str]]:
    """The paths of the images of each folder in `folder`, both in the order of their names; of those that have images.

    Raises:
      ImageFolderError: if there are none.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ImageFolderError(f"{folder} is no folder: it must hold a folder of images for each class")
    found = {name: _images(folder / name) for name in sorted(_folders(folder))}
    found = {name: paths for name, paths in found.items() if paths}
    if not found:
        raise ImageFolderError(f"{folder} holds no images: folders of {', '.join(SUFFIXES)} files are expected in it")
    return found


def in_memory(data: Arrays) -> Arrays:
    """The same with all images decoded."""
    return Arrays(np.asarray(data.images), data.labels)


def _class_names(root):
    listed = root / "synsets.txt"
    if listed.is_file():
        names = tuple(line.split()[0] for line in listed.read_text(encoding="utf-8").splitlines() if line.strip())
    else:
        names = tuple(sorted(_folders(_split_folder(root, "train"))))
    if len(names) < 2 or len(set(names)) < len(names):
        raise ImageFolderError(f"{root} must have two classes or more, each once, got {len(names)}")
    return names


def _split_folder(root, split):
    for name in _SPLITS[split]:
        if (root / name).is_dir():
            return root / name
    names = " or ".join(str(root / name) for name in _SPLITS[split])
    raise ImageFolderError(f"{names} is no folder: --data_dir must hold train and val, with a folder for each class")


def _folders(folder):
    return [entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")]


def _images(folder):
    names = [entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")]
    return [str(folder / name) for name in sorted(names) if name.lower().endswith(SUFFIXES)]


@functools.cache
def _pool():
    return concurrent.futures.ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="images")
