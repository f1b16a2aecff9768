"""Files of adversarial test examples as the MNIST and CIFAR10 challenges take them, checked as they check them.

    write("attack.npy", FORMATS["mnist"], x_adv)
    x_adv = read("attack.npy", FORMATS["mnist"], test.images, epsilon=0.3)

A file is an array with a row for each image of the test set, in its official order: for MNIST (10000, 784) with pixels
from 0 to 1, for CIFAR10 (10000, 32, 32, 3) with pixels from 0 to 255. Outside of this module pixels are in [0, 1].
Also read, in our own shape and units, is the array `x_adv` of a .npz file.
"""

import dataclasses
import os
from collections.abc import Mapping

import numpy as np

from tfrobust import datasets

# By how much range and distance may be missed, in units of the file: the challenges'.
TOLERANCE = 1e-4
# How many misplaced images are looked for among all others.
_LOOKED_FOR = 20
_NPY, _ZIP, _PICKLE = b"\x93NUMPY", b"PK\x03\x04", b"\x80"


class AttackFileError(ValueError):
    """A file holds no valid attack.

    Attributes:
      verdict: what the challenge's own script says of it, line by line; empty where it has no words for it.
      reason: more about it, in one line.
    """

    def __init__(self, path, reason: str, verdict: tuple[str, ...] = ()):
        super().__init__(", ".join([f"{path} is no valid attack: {reason}", *verdict]))
        self.verdict, self.reason = verdict, reason


@dataclasses.dataclass(frozen=True)
class AttackFileFormat:
    """A challenge's format.

    Attributes:
      dataset: of whose test set; see `datasets`.
      image_shape: (H, W, C).
      num_examples: size of the test set.
      white: the largest pixel value.
      flattened: whether a row is [H * W * C] rather than [H, W, C].
    """

    dataset: str
    image_shape: tuple[int, int, int]
    num_examples: int
    white: int
    flattened: bool

    def shape(self, count: int) -> tuple[int, ...]:
        """The shape of a file of `count` images."""
        return (count, int(np.prod(self.image_shape))) if self.flattened else (count, *self.image_shape)

    def to_array(self, x_adv: np.ndarray) -> np.ndarray:
        """Images [N, H, W, C] with pixels in [0, 1] as the array that the challenge takes.

        It is float64, as the challenge's own: float32 times 255 is exact in it, so that a file read again holds the
        same float32 pixels to the bit.

        Raises:
          ValueError: for another shape, or pixels out of range.
        """
        x_adv = np.asarray(x_adv)
        if x_adv.ndim != 4 or x_adv.shape[1:] != self.image_shape or not len(x_adv):
            raise ValueError(
                f"x_adv must have the shape (N, {', '.join(map(str, self.image_shape))}), got {x_adv.shape}"
            )
        if not (x_adv.min() >= 0 and x_adv.max() <= 1):  # NaN included
            raise ValueError(f"x_adv must have pixels in [0, 1], got [{x_adv.min()}, {x_adv.max()}]")
        return self.in_units(x_adv)

    def to_images(self, array: np.ndarray) -> np.ndarray:
        """The other way: float32 [N, H, W, C] in [0, 1]; pixels that the tolerance let pass are cut to that range."""
        images = np.asarray(array, np.float64) / self.white
        return images.clip(0, 1).astype(np.float32).reshape(-1, *self.image_shape)

    def natural(self, images: np.ndarray) -> np.ndarray:
        """The test set's images [N, H, W, C] in the units of the file, float64; grey levels are whole numbers again."""
        array = self.in_units(images)
        return np.rint(array) if self.white == 255 else array

    def in_units(self, images: np.ndarray) -> np.ndarray:
        """Images [N, H, W, C] with pixels in [0, 1], unchecked, as float64 in the shape and the units of the file."""
        return (np.asarray(images, np.float64) * self.white).reshape(self.shape(len(images)))


def _format(dataset, white, flattened):
    spec = datasets.SPECS[dataset]
    return AttackFileFormat(dataset, spec.image_shape, spec.split_sizes["test"], white, flattened)


# `digits` is no challenge; its files are like MNIST's.
FORMATS: Mapping[str, AttackFileFormat] = {
    "mnist": _format("mnist", white=1, flattened=True),
    "cifar10": _format("cifar10", white=255, flattened=False),
    "digits": _format("digits", white=1, flattened=True),
}


def write(file, file_format: AttackFileFormat, x_adv: np.ndarray) -> None:
    """Saves images [N, H, W, C] in [0, 1] to a path or a binary file; errors as in `AttackFileFormat.to_array`."""
    np.save(file, file_format.to_array(x_adv))


def read(path: str | os.PathLike, file_format: AttackFileFormat, images: np.ndarray, epsilon: float) -> np.ndarray:
    """The adversarial examples of a file, after the challenge's checks and some more.

    Pickled objects are never loaded. Distances are computed in float64 in the units of the file, so that neither
    unsigned integers nor rounding can pass for a perturbation or hide one; NaN is out of range.

    Args:
      path: a .npy file in the challenge's format, or a .npz file with an array `x_adv` [N, H, W, C] in [0, 1].
      images: of the test set, or the first ones of it, [N, H, W, C] in [0, 1]: the file must have as many.
      epsilon: how far a pixel may be from the natural one's, of 1; 8/255 for CIFAR10.

    Returns:
      x_adv, float32 [N, H, W, C] in [0, 1].

    Raises:
      AttackFileError: if the file cannot be read, or is no valid attack.
    """
    array, is_own = _load(path)
    if array.dtype.kind not in "fiu":
        raise AttackFileError(path, f"pixels must be real numbers, got {array.dtype}")
    _check_shape(path, array, images.shape if is_own else file_format.shape(len(images)))
    if is_own:
        array = file_format.in_units(array)
    _check_pixels(path, array, file_format.white)
    _check_distance(path, array, file_format.natural(images), epsilon * file_format.white, file_format.white)
    return file_format.to_images(array)


def _load(path):
    """The array of a file, and whether it is a .npz, in our own units."""
    try:
        with open(path, "rb") as file:
            begin = file.read(len(_NPY))
        if begin == _NPY:
            # Mapped, so that a header that promises too much is found out before memory is taken for it.
            return np.load(path, mmap_mode="r", allow_pickle=False), False
        if begin.startswith(_ZIP):
            with np.load(path, allow_pickle=False) as arrays:
                return arrays["x_adv"], True
    except FileNotFoundError as error:
        raise AttackFileError(path, "there is no such file") from error
    except KeyError as error:
        raise AttackFileError(path, "a .npz file must hold the images as its array 'x_adv'") from error
    except Exception as error:  # damage shows as anything from zipfile.BadZipFile to tokenize.TokenError
        # NumPy's words, for truncated files and arrays of objects.
        raise AttackFileError(path, f"it cannot be read ({error})") from error
    found = "a pickle, which could run any code" if begin.startswith(_PICKLE) else "something else"
    raise AttackFileError(path, f"it must be a .npy or .npz file of numpy.save or numpy.savez, it is {found}")


def _check_shape(path, array, shape):
    if array.shape == shape:
        return
    reason = f"it must have a row for each of {shape[0]} test images, in the shape of the challenge"
    if array.shape[1:] == shape[1:] and 0 < len(array) < shape[0]:
        reason = (
            f"it has {len(array)} images and there are {shape[0]} to judge; --num_eval_examples={len(array)} is for "
            f"files of the first {len(array)} only"
        )
    # MNIST's script has no blank in its shape.
    expected = f"({shape[0]},{shape[1]})" if len(shape) == 2 else str(shape)
    raise AttackFileError(path, reason, (f"Invalid shape: expected {expected}, found {array.shape}",))


def _check_pixels(path, array, white):
    rows = array.reshape(len(array), -1)
    low, high = rows.min(axis=1), rows.max(axis=1)
    bad = ~((low >= -TOLERANCE) & (high <= white + TOLERANCE))  # NaN compares as false
    if not bad.any():
        return
    reason = f"pixels are out of range in {_how_many(bad)}"
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        reason = f"pixels are not finite in {_how_many(~(np.isfinite(low) & np.isfinite(high)))}"
    elif white == 1 and low.min() >= 0 and 2 < high.max() <= 255:
        reason += "; if these are grey levels up to 255, divide them by 255"
    verdict = f"Invalid pixel range. Expected [0, {white}], found [{low.min()}, {high.max()}]"
    raise AttackFileError(path, reason, (verdict,))


def _check_distance(path, array, natural, allowed, white):
    # Image by image, so that not all of them are in memory as float64 twice.
    distance = np.array([np.abs(a.astype(np.float64) - b).max() for a, b in zip(array, natural, strict=True)])
    far = distance > allowed + TOLERANCE
    if not far.any():
        return
    reason = f"the perturbation is too large in {_how_many(far)}"
    some = array[np.flatnonzero(far)[:: max(1, far.sum() // _LOOKED_FOR)][:_LOOKED_FOR]]
    misplaced = sum(_is_near_one_of(image, natural, allowed) for image in some)
    if white == 255 and array.max() <= 1:
        reason += "; if these are pixels from 0 to 1, multiply them by 255"
    elif misplaced:
        reason += (
            f"; of {len(some)} of these, {misplaced} lie within epsilon of another test image: the file is not in the "
            "official order of the test set"
        )
    verdict = f"maximum perturbation found: {distance.max()}", f"maximum perturbation allowed: {allowed}"
    raise AttackFileError(path, reason, verdict)


def _is_near_one_of(image, natural, allowed):
    # Few are near in every sixteenth pixel: the rest is compared for these alone.
    image, natural = image.astype(np.float64).ravel(), natural.reshape(len(natural), -1)
    for pixels in (slice(0, image.size, 16), slice(None)):
        natural = natural[np.abs(natural[:, pixels] - image[pixels]).max(axis=1) <= allowed + TOLERANCE]
    return len(natural) > 0


def _how_many(bad):
    return f"{bad.sum()} of {len(bad)} images, the first being number {bad.argmax()}"
