"""Random moves of training images, a function of seed and step, so that a resumed run sees the same ones.

augmentation = Augmentation(rotation=10.0, shift=1)
x = augmentation(images, seed=0, step=17)
"""

import dataclasses
import math

import keras
import numpy as np

from tfrobust.checks import require_integer

INTERPOLATIONS = ("bilinear", "nearest")

# Tell the seeds of flips, and those of rotations, zooms and elastic fields, from those of shifts, which end in the
# number of pixels.
_FLIPS = 2**31
_TURNS = 2**31 + 1

# Of the random fields of elastic deformations: points on each side of an image, and how far the influence of one
# reaches, as the deviation of a Gaussian in distances between them.
_POINTS, _REACH = 5, 0.7


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to each image of a batch, in this order; nothing by default.

    Attributes:
      rotation: turn by up to so many degrees, from 0 to 180, either way around the centre.
      zoom: enlarge or shrink by up to this fraction, 0 or more and below 1. Rotated, zoomed and deformed images are 0
        where there was nothing before.
      elastic: move pixels by smooth random fields, one for rows and one for columns, of this standard deviation in
        pixels, 0 or more: elastic deformation (Simard, Steinkraus and Platt 2003, with fields made of 5 x 5 random
        numbers).
      interpolation: of rotated, zoomed and deformed images, which are sampled once. "bilinear" blurs them: of MNIST's
        pixels a third of the white ones become grey, which an adversary of epsilon 0.3 makes what it likes. "nearest"
        leaves each pixel a value that the image had.
      shift: move by up to so many whole pixels in each direction, filling up with 0: padding and cropping at random.
        Fewer than the images have rows and columns.
      flip: mirror with probability 1/2.

    Raises:
      ValueError: for a value out of its range.
    """

    rotation: float = 0.0
    zoom: float = 0.0
    elastic: float = 0.0
    shift: int = 0
    flip: bool = False
    interpolation: str = "bilinear"

    def __post_init__(self):
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"rotation must be from 0 to 180 degrees, got {self.rotation!r}")
        if not 0 <= self.zoom < 1:
            raise ValueError(f"zoom must be 0 or more and below 1, got {self.zoom!r}")
        if not 0 <= self.elastic < math.inf:
            raise ValueError(f"elastic must be 0 or more pixels, got {self.elastic!r}")
        require_integer("shift", self.shift, 0)
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {self.interpolation!r}")

    def __call__(self, images: np.ndarray, *, seed: int, step: int) -> np.ndarray:
        """The images of training step `step`, float32 [B, H, W, C], each moved in its own way; of the same shape.

        Raises:
          ValueError: see `require_fits`.
        """
        self.require_fits(images.shape[1:3])
        if self.rotation or self.zoom or self.elastic:
            images = self._turned(images, np.random.default_rng([seed, step, _TURNS]))
        if self.shift:
            images = self._shifted(images, np.random.default_rng([seed, step, self.shift]))
        if self.flip:
            mirrored = np.random.default_rng([seed, step, _FLIPS]).random(len(images)) < 0.5
            images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        return images

    def require_fits(self, size: tuple[int, int]) -> None:
        """Raises ValueError for a shift that may move images of this height and width out of sight."""
        if self.shift and self.shift >= min(size):
            raise ValueError(f"shift must be below {min(size)} for images of {size[0]} x {size[1]}, got {self.shift!r}")

    def _turned(self, images, rng):
        count, height, width, _ = images.shape
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation, count))
        # Of the way from a pixel to where its value comes from.
        scale = 1 / (1 + rng.uniform(-self.zoom, self.zoom, count))
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        x, y = (width - 1) / 2, (height - 1) / 2
        rows = [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y, 0 * angle, 0 * angle]
        rows = np.stack(rows, axis=1).astype(np.float32)
        if self.elastic:
            moved = self._deformed(images, rows, rng)
        else:
            moved = keras.ops.image.affine_transform(
                images, rows, interpolation=self.interpolation, data_format="channels_last"
            )
        # Rounding may leave a white pixel just above 1, where attacks refuse it.
        low, high = (reduce(images, axis=(1, 2, 3), keepdims=True) for reduce in (np.min, np.max))
        return np.clip(keras.ops.convert_to_numpy(moved), np.minimum(low, 0), np.maximum(high, 0))

    def _deformed(self, images, rows, rng):
        """The images under the affine maps `rows` and elastic fields."""
        count, height, width, _ = images.shape
        y, x = np.mgrid[:height, :width]
        a, b, c, d, e, f = rows[:, :6].T[:, :, None, None]
        noise = rng.normal(0, self.elastic, (2, count, _POINTS, _POINTS))
        dy, dx = _weights(height) @ noise @ _weights(width).T
        return _sampled(images, d * x + e * y + f + dy, a * x + b * y + c + dx, self.interpolation)

    def _shifted(self, images, rng):
        most = self.shift
        height, width = images.shape[1:3]
        padded = np.pad(images, [(0, 0), (most, most), (most, most), (0, 0)])
        places = rng.integers(0, 2 * most + 1, (len(images), 2))
        return np.stack([image[r : r + height, c : c + width] for image, (r, c) in zip(padded, places, strict=True)])


def _sampled(images, row, column, interpolation):
    """Values [B, H, W, C] of images at places [B, H, W] between their pixels; 0 outside.

    In a tenth of the time of `keras.ops.image.map_coordinates`, which interpolates between the images as well.
    """
    height, width = images.shape[1:3]
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)])
    # What is farther outside than a pixel is as far as one.
    row, column = np.clip(row + 1, 0, height + 1), np.clip(column + 1, 0, width + 1)
    image = np.arange(len(images))[:, np.newaxis, np.newaxis]
    if interpolation == "nearest":
        return padded[image, np.rint(row).astype(np.int64), np.rint(column).astype(np.int64)]
    top, left = np.minimum(row.astype(np.int64), height), np.minimum(column.astype(np.int64), width)
    down, right = (part[..., np.newaxis].astype(images.dtype) for part in (row - top, column - left))
    upper, lower = ((1 - right) * padded[image, i, left] + right * padded[image, i, left + 1] for i in (top, top + 1))
    return (1 - down) * upper + down * lower


def _weights(size):
    """What each of the points on a side adds to each of `size` pixels, [size, points]: as much in all as a pixel needs
    to have the deviation of a single point."""
    distance = np.linspace(0, _POINTS - 1, size)[:, None] - np.arange(_POINTS)
    weights = np.exp(-((distance / _REACH) ** 2) / 2)
    return weights / np.linalg.norm(weights, axis=1, keepdims=True)
