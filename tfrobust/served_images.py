"""Files of images as a served model sees them, as TensorFlow's operations: they are part of the SavedModel."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import tensorflow as tf

from tfrobust.image_folders import MARGIN, MOST_UNEVEN

Fit = Literal["squash", "crop"]

# What every file of these kinds begins with.
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def decoder(shape: tuple[int, int, int], fit: Fit) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function from the bytes of a PNG or JPEG file to pixels in [0, 1], float32 `shape`.

    Args:
      shape: H, W and C, which is 1 or 3.
      fit: what is done with images of other proportions or sizes. "squash" resizes them, and what is transparent is
        black, so that ink on nothing is a digit. "crop" is what `image_folders` does with photographs: the shorter side
        becomes 256/224 of that of `shape`, the middle is cut out, and transparency is not looked at; an image that is
        too long for that is an error. Both resize bilinearly, with antialiasing.

    Raises:
      ValueError: for another `fit`.
    """
    if fit not in ("squash", "crop"):
        raise ValueError(f"fit must be 'squash' or 'crop', got {fit!r}")
    height, width, channels = shape
    # A table and no division: TensorFlow multiplies by the rounded 1/255, and pixels would differ from `datasets`'s.
    pixel_values = np.arange(256, dtype=np.float32) / np.float32(255)

    def opacity(image_bytes):
        def of_png():
            # Grey or colours, and alpha, where there is any.
            pixels = tf.io.decode_png(image_bytes)
            alpha = tf.gather(pixel_values, tf.cast(pixels[:, :, -1:], tf.int32))
            return tf.where(tf.shape(pixels)[-1] % 2 == 0, alpha, tf.ones_like(alpha))

        is_png = tf.strings.substr(image_bytes, 0, len(PNG)) == PNG
        return tf.cond(is_png, of_png, lambda: tf.ones([1, 1, 1]))

    def resized(image, size):
        # Weights of the resize may sum to a rounding step more than 1.
        return tf.clip_by_value(tf.image.resize(image, size, antialias=True), 0.0, 1.0)

    def squashed(image):
        fits = tf.reduce_all(tf.shape(image)[:2] == [height, width])
        return tf.cond(fits, lambda: image, lambda: resized(image, [height, width]))

    def cropped(image):
        longer, shorter = tf.reduce_max(tf.shape(image)[:2]), tf.reduce_min(tf.shape(image)[:2])
        even = tf.debugging.assert_less_equal(
            longer, MOST_UNEVEN * shorter, f"an image is more than {MOST_UNEVEN} times as long as it is wide"
        )
        with tf.control_dependencies([even]):
            image = tf.identity(image)
        sides, least = tf.cast(tf.shape(image)[:2], tf.float64), np.round(np.multiply([height, width], MARGIN))
        axis = tf.argmax(least / sides)
        scaled = tf.cast(tf.round(sides * tf.gather(least, axis) / sides[axis]), tf.int32)
        scaled = tf.maximum(scaled, [height, width])
        # As Pillow does, between the passes of its resize and behind them: whole grey levels.
        image = tf.round(255 * resized(image, scaled))
        top, left = (scaled[0] - height) // 2, (scaled[1] - width) // 2
        return tf.gather(pixel_values, tf.cast(image[top : top + height, left : left + width], tf.int32))

    def decode(image_bytes):
        pixels = tf.cond(
            tf.strings.substr(image_bytes, 0, len(JPEG)) == JPEG,
            # As Pillow does; TensorFlow's default is faster, and errs by a few grey levels.
            lambda: tf.io.decode_jpeg(image_bytes, channels=channels, dct_method="INTEGER_ACCURATE"),
            lambda: tf.io.decode_image(image_bytes, channels=channels, expand_animations=False),
        )
        image = tf.gather(pixel_values, tf.cast(pixels, tf.int32))
        image.set_shape([None, None, channels])
        image = cropped(image) if fit == "crop" else squashed(image * opacity(image_bytes))
        return tf.ensure_shape(image, shape)

    return decode
