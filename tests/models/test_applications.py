"""The classifiers of keras.applications: their preprocessing is inside of them, their softmax is not."""

import keras
import numpy as np
import pytest

from tfrobust.models import applications


@pytest.mark.parametrize(
    ("name", "preprocess"),
    [
        ("MobileNetV2", lambda pixels: pixels / 127.5 - 1),
        ("ResNet50", lambda pixels: pixels[..., ::-1] - np.float32([103.939, 116.779, 123.68])),
        ("MobileNetV3Small", lambda pixels: pixels),
    ],
)
def test_pixels_are_preprocessed_as_keras_does(name, preprocess, tmp_path):
    classifier = applications.application(name, weights=None, image_size=64, seed=3)
    inner = classifier.layers[-1]
    # Random weights of these networks give logits near 0, all alike.
    inner.layers[-1].set_weights([np.sign(w) if w.ndim > 1 else w for w in inner.layers[-1].get_weights()])
    x = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    logits = classifier(x, training=False)
    assert logits.shape == (2, 1000) and np.ptp(logits) > 0
    np.testing.assert_allclose(logits, inner(preprocess(255 * x), training=False), rtol=1e-4, atol=1e-5)
    # No probabilities.
    assert np.min(logits) < 0
    classifier.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(again(x, training=False), logits)


def test_every_network_has_a_preprocessing():
    assert len(applications.names()) > 30
    for name in applications.names():
        matrix, offset = applications._preprocessing(getattr(keras.applications, name))
        assert np.linalg.matrix_rank(matrix) == 3 and offset.shape == (3,)


def test_weights_and_names_that_do_not_exist(tmp_path):
    with pytest.raises(ValueError, match=r"architecture must be one of keras.applications, .*VGG16.*, got 'vgg16'"):
        applications.application("vgg16")
    with pytest.raises(ValueError, match=r"weights '.*/none.h5' of VGG16 cannot be had"):
        applications.application("VGG16", weights=str(tmp_path / "none.h5"))
