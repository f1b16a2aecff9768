"""Images from bytes: what a served model sees of a photograph is what `image_folders` makes of it."""

import io
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfrobust import export, image_folders, served_images

SAMPLE = pathlib.Path(__file__).resolve().parents[2] / "shared/data/imagenet/sample"


def file_of(image, suffix="png"):
    buffer = io.BytesIO()
    image.save(buffer, suffix)
    return buffer.getvalue()


def smooth(width, height, mode="RGB"):
    """An image without noise, which two decoders and resizes agree on but for rounding."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(x / (9 + i) + y / (13 - i)) for i in range(len(mode))]
    return Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8), mode)


@pytest.mark.parametrize(("width", "height"), [(48, 48), (90, 60), (61, 137), (37, 37), (20, 31), (42, 42), (32, 300)])
def test_photographs_are_cropped_as_for_training(width, height):
    content = file_of(smooth(width, height))
    expected = image_folders.read_image("smooth.png", 37, content=content)
    actual = served_images.decoder((37, 37, 3), "crop")(tf.constant(content)).numpy()
    assert actual.dtype == np.float32
    # Pillow rounds to grey levels twice.
    assert np.abs(255 * actual - expected).max() <= 1.01
    assert np.mean(np.abs(255 * actual - expected) > 0.5) < 0.25


def test_transparency_is_not_looked_at_in_photographs():
    image = smooth(48, 40, "RGBA")
    served = served_images.decoder((32, 32, 3), "crop")
    np.testing.assert_allclose(served(file_of(image)), served(file_of(image.convert("RGB"))), atol=1e-6)


def test_photographs_that_are_too_long_are_refused():
    served = tf.function(served_images.decoder((32, 32, 3), "crop"))
    assert served(file_of(smooth(100, 2))).shape == (32, 32, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="an image is more than 50 times as long as it is wide"):
        served(file_of(smooth(2, 101)))


def test_another_fit():
    with pytest.raises(ValueError, match="fit must be 'squash' or 'crop', got 'pad'"):
        served_images.decoder((8, 8, 3), "pad")


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="needs the ImageNet sample in ../shared/data")
def test_real_photographs():
    served = served_images.decoder((224, 224, 3), "crop")
    for path in sorted(SAMPLE.rglob("*.JPEG"))[::30]:
        actual = served(tf.constant(path.read_bytes())).numpy()
        expected = image_folders.read_image(path).astype(np.float32)
        # A grey level here and there, of two decoders and two resizes.
        assert np.abs(255 * actual - expected).mean() < 0.3, path
        assert np.percentile(np.abs(255 * actual - expected), 99.9) <= 2.01, path


def test_the_signature_crops(tmp_path):
    identity = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()])
    content = file_of(smooth(20, 12))
    for fit in ("crop", "squash"):
        export.export_saved_model(identity, tmp_path / fit, fit=fit)
        serve_bytes = tf.saved_model.load(tmp_path / fit).signatures["serve_bytes"]
        served = np.reshape(serve_bytes(image_bytes=tf.constant([content]))["logits"], [4, 4, 3])
        np.testing.assert_allclose(served, served_images.decoder((4, 4, 3), fit)(tf.constant(content)), atol=1e-6)
