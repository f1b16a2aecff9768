"""Weights of torchvision's networks from files: the same logits as in PyTorch."""

import numpy as np
import pytest

from tests.models import test_imagenet as torch_networks
from tfrobust.models import imagenet, torchvision_weights

torch = pytest.importorskip("torch")


def vgg11(places):
    """torchvision's layers for `places` of 512 channels in front of the dense ones, in its two parts."""
    nn = torch.nn
    features, inputs = [], 3
    for width in (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"):
        if width == "M":
            features.append(nn.MaxPool2d(2))
        else:
            features += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
    classifier = [
        nn.Linear(512 * places, 4096),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Dropout(),
    ]
    return in_parts(features, [*classifier, nn.Linear(4096, 10)])


def alexnet(places):
    """The same for AlexNet, whose parts begin with dropout."""
    layers = list(torch_networks.torch_alexnet(torch.nn, places))
    return in_parts(layers[:13], layers[14:])


def in_parts(features, classifier):
    nn = torch.nn

    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.classifier = nn.Sequential(*features), nn.Sequential(*classifier)

        def forward(self, x):
            return self.classifier(torch.flatten(self.features(x), 1))

    return Parts()


def resnet18():
    network = torch_networks.torch_resnet18(torch.nn)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return network


CASES = {
    "vgg11": ((64, 32, 3), lambda: vgg11(places=2)),
    "alexnet": ((67, 99, 3), lambda: alexnet(places=2)),
    "resnet18": ((40, 56, 3), resnet18),
}


@pytest.fixture(params=CASES)
def networks(request):
    """The same network twice, here with other weights."""
    torch.manual_seed(0)
    shape, build = CASES[request.param]
    network = build()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter)
    outputs = list(network.parameters())[-1].shape[0]
    return network, getattr(imagenet, request.param)(seed=1, input_shape=shape, num_classes=outputs)


@pytest.mark.parametrize("suffix", ["npz", "pth"])
def test_logits_are_those_of_torch(networks, tmp_path, suffix):
    network, model = networks
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(network.state_dict(), path)
    else:
        np.savez(path, **{name: array.numpy() for name, array in network.state_dict().items()})
    torchvision_weights.load_weights(model, path)
    x = torch_networks.random_images(*model.input_shape[1:3])
    expected = torch_networks.torch_logits(network, x)
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    np.testing.assert_allclose(model(x, training=False), expected, rtol=1e-3, atol=1e-3)


def test_vgg11_has_torchvisions_parameters():
    model = imagenet.vgg11(seed=0)
    assert model.count_params() == 132_863_336
    assert model.get_layer("flatten").input.shape == (None, 7, 7, 512)
    with pytest.raises(ValueError, match="input_shape must be a height and a width of 32 or more"):
        imagenet.vgg11(seed=0, input_shape=(31, 40, 3))


def test_a_file_of_another_network_is_refused(tmp_path):
    model = imagenet.resnet18(seed=0, input_shape=(32, 32, 3), num_classes=4)
    np.savez(tmp_path / "other.npz", **{"fc.weight": np.zeros([1000, 512]), "features.0.weight": np.zeros(2)})
    with pytest.raises(
        ValueError, match=r"missing: conv1.weight \[64, 3, 7, 7\].*and 9\d more; unknown: features.0"
    ) as e:
        torchvision_weights.load_weights(model, tmp_path / "other.npz")
    assert "fc.weight is [1000, 512], should be [4, 512]" in str(e.value)
    (tmp_path / "text.pth").write_text("<html>")
    with pytest.raises(ValueError, match=r"text.pth must be a state dict of PyTorch's"):
        torchvision_weights.load_weights(model, tmp_path / "text.pth")
