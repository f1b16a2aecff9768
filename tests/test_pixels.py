"""Images that are not what a threat model takes them for."""

import numpy as np
import pytest
import tensorflow as tf

from tfrobust.checks import check_examples
from tfrobust.pixels import as_value_error, require_pixels

IMAGES = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 2, 2, 1)


@pytest.mark.parametrize(
    ("images", "bounds"),
    [
        (IMAGES, (0.0, 1.0)),
        (IMAGES.astype(np.float64), (0.0, 1.0)),
        (tf.cast(IMAGES, tf.bfloat16), (0.0, 1.0)),
        (IMAGES * 255, (0.0, 255.0)),
        (IMAGES[:0], (0.0, 1.0)),
        # As far outside as rounding takes pixels.
        ((IMAGES - np.float32(0.1307)) / np.float32(0.3081), (-0.1307 / 0.3081, (1 - 0.1307) / 0.3081)),
        (IMAGES * np.float32(1 + 3e-6), (0.0, 1.0)),
        ((IMAGES.astype(np.float16) - np.float16(0.485)) / np.float16(0.229), (-0.485 / 0.229, 0.515 / 0.229)),
    ],
)
def test_within_bounds(images, bounds):
    require_pixels(tf.convert_to_tensor(images), bounds)
    tf.function(require_pixels, autograph=False)(tf.convert_to_tensor(images), bounds)
    if len(images) and images.dtype != tf.bfloat16:
        found, _ = check_examples(images, np.zeros(len(images), int), bounds)
        assert bounds[0] <= found.min() and found.max() <= bounds[1]
        np.testing.assert_allclose(found, images, rtol=0, atol=4e-3)


def test_xla_compiles_it():
    def double(images):
        require_pixels(images, (0.0, 1.0))
        return 2 * images

    np.testing.assert_array_equal(tf.function(double, jit_compile=True)(tf.constant(IMAGES)), 2 * IMAGES)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES * 255, r"images must be within \[0.0, 1.0\], got from 0 to 255$"),
        (IMAGES - 0.5, r"images must be within \[0.0, 1.0\], got from -0.5 to 0.5$"),
        (np.where(IMAGES > 0.9, np.nan, IMAGES), r"images must be within \[0.0, 1.0\], got from nan to nan$"),
        ((IMAGES * 255).astype(np.uint8), r"images must be floating point numbers in \[0.0, 1.0\], got uint8: grey"),
    ],
)
def test_out_of_bounds(images, message):
    images = tf.convert_to_tensor(images)
    with pytest.raises(ValueError, match=message):
        require_pixels(images, (0.0, 1.0))
    with pytest.raises(ValueError, match=message):
        try:
            tf.function(require_pixels, autograph=False)(images, (0.0, 1.0))
        except tf.errors.InvalidArgumentError as error:
            raise as_value_error(error) from None


def test_other_errors_are_left_as_they_are():
    error = tf.errors.InvalidArgumentError(None, None, "shapes do not fit")
    assert as_value_error(error) is error
