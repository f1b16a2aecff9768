"""SqueezeNet: compared with the same network in PyTorch, and the published one on images."""

import pathlib

import numpy as np
import pytest

from tfrobust import candidates, image_folders, top_k
from tfrobust.models import squeezenet

PUBLISHED = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "imagenet"


def random_arrays(seed=0):
    """Small random weights under the names of the file."""
    random, arrays = np.random.default_rng(seed), {}
    model = squeezenet.squeezenet(seed=0)
    for layer in model.layers:
        if layer.name.startswith(("conv", "fire")) and layer.weights:
            kernel, bias = layer.get_weights()
            name = layer.name.replace(".", "/")
            arrays[f"{name}/W"] = kernel.transpose(3, 2, 0, 1) * random.uniform(0.5, 1.5, ())
            arrays[f"{name}/b"] = random.normal(0, 0.1, bias.shape).astype(np.float32)
    return arrays


def torch_logits(arrays, x):
    """What Caffe computes: images in blue, green, red from 0 to 255; poolings that count places cut off."""
    import torch
    from torch.nn import functional

    def convolve(h, name, **options):
        weight, bias = (torch.tensor(np.float32(arrays[f"{name}/{part}"])) for part in "Wb")
        return functional.relu(functional.conv2d(h, weight, bias, **options))

    def pool(h):
        return functional.max_pool2d(h, 3, 2, ceil_mode=True)

    h = torch.tensor(255 * x[..., ::-1].copy() - np.float32([104, 117, 123])).permute(0, 3, 1, 2)
    h = pool(convolve(h, "conv1", stride=2))
    for number in range(2, 10):
        h = convolve(h, f"fire{number}/squeeze1x1")
        left, right = convolve(h, f"fire{number}/expand1x1"), convolve(h, f"fire{number}/expand3x3", padding=1)
        h = torch.cat([left, right], dim=1)
        h = pool(h) if number in (4, 8) else h
    return convolve(h, "conv10", padding=1).mean(dim=(2, 3)).numpy()


def test_parameters_are_the_published_ones():
    model = squeezenet.squeezenet(seed=0)
    assert model.count_params() == 1_248_424
    assert model.input_shape == (None, 227, 227, 3) and model.output_shape == (None, 1000)


def test_it_is_the_network_of_caffe(tmp_path):
    pytest.importorskip("torch")
    arrays = random_arrays()
    np.savez(tmp_path / "weights.npz", **arrays)
    loaded = squeezenet.load_squeezenet(tmp_path / "weights.npz")
    # 71 -> 33 -> 16 -> 8 -> 4 rows and 52 -> 23 -> 11 -> 5 -> 2 columns: windows are cut in rows, and not in columns.
    x = np.random.default_rng(0).random((2, 71, 52, 3), np.float32)
    model = squeezenet.squeezenet(seed=1, input_shape=(71, 52, 3))
    model.set_weights(loaded.get_weights())
    expected = torch_logits(arrays, x)
    assert np.ptp(expected, axis=1).min() > 0.1
    np.testing.assert_allclose(model(x, training=False), expected, rtol=1e-4, atol=1e-3)


def test_a_file_of_other_weights_is_refused(tmp_path):
    arrays = random_arrays()
    del arrays["fire2/squeeze1x1/W"]
    arrays["conv1/b"] = arrays["conv1/b"][:5]
    arrays["conv11/W"] = np.zeros(3)
    arrays["conv10/b"][7] = np.inf
    path = tmp_path / "weights.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError) as raised:
        squeezenet.load_squeezenet(path)
    assert str(raised.value) == (
        f"{path} does not hold this network's weights; arrays missing: fire2/squeeze1x1/W [16, 96, 1, 1]; unknown: "
        "conv11/W [3]; of another shape: conv1/b is [5], should be [96]; not finite numbers: conv10/b"
    )


@pytest.mark.parametrize("shape", [(227, 227, 1), (38, 227, 3), (227, 227)])
def test_shapes_that_it_cannot_take(shape):
    with pytest.raises(ValueError, match="input_shape must be a height and a width of 39 or more and 3 channels"):
        squeezenet.squeezenet(seed=0, input_shape=shape)


@pytest.mark.parametrize(("squash", "correct", "top5"), [(False, 205, 276), (True, 239, 290)])
def test_the_published_network_recognises_images(squash, correct, top5):
    weights = PUBLISHED / "squeezenet_v1.0.npz"
    if not weights.is_file():
        pytest.skip(f"no published SqueezeNet: {weights} is missing")
    synsets, _ = candidates.synsets_of(PUBLISHED / "synsets.txt")
    source = candidates.from_folder(PUBLISHED / "sample", synsets, per_class=1)
    images, readable, faults = source.decode(range(len(source)), 227, squash=squash)
    assert len(readable) == 334 and not faults
    model = squeezenet.load_squeezenet(weights)
    logits = model.predict(images, batch_size=50, verbose=0)
    # Golden numbers, but for what other versions of Pillow and TensorFlow round.
    assert abs(np.sum(logits.argmax(axis=1) == source.labels) - correct) <= 1
    assert abs(334 * top_k.accuracy(logits, source.labels, 5) - top5) <= 1
    assert image_folders.read_image(source.names[0], 227, squash=squash).shape == (227, 227, 3)
