"""AlexNet and ResNet-18, compared with the same networks written in PyTorch."""

import keras
import numpy as np
import pytest

from tfrobust.models import imagenet


def random_images(height, width):
    """Two, the second darker: the means of noise alone would hardly differ."""
    return np.random.default_rng(0).random((2, height, width, 3), np.float32) * np.float32([[[[1]]], [[[0.3]]]])


def size(variables):
    return sum(int(np.prod(v.shape)) for v in variables)


def torch_logits(network, x):
    """Of pixels [B, H, W, 3], in inference mode."""
    import torch

    mean, deviation = (torch.tensor(c).reshape(3, 1, 1) for c in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        return network.eval()((torch.tensor(x).permute(0, 3, 1, 2) - mean) / deviation).numpy()


def put(layer, module):
    """Copies a torch convolution, dense layer or batch normalisation."""
    if isinstance(layer, keras.layers.BatchNormalization):
        arrays = [module.weight, module.bias, module.running_mean, module.running_var]
    else:
        arrays = [module.weight] + ([] if module.bias is None else [module.bias])
    arrays = [array.detach().numpy() for array in arrays]
    if isinstance(layer, keras.layers.Conv2D):
        arrays[0] = arrays[0].transpose(2, 3, 1, 0)
    elif isinstance(layer, keras.layers.Dense):
        arrays[0] = arrays[0].T
    layer.set_weights(arrays)


def check_reloads(model, x, tmp_path):
    """From layers of Keras alone."""
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(reloaded(x, training=False), model(x, training=False), rtol=1e-5, atol=1e-5)


# AlexNet.


def torch_alexnet(nn, places):
    """torchvision's layers for `places` of 256 channels in front of the dense ones, 6x6 for 224x224 pixels."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(256 * places, 4096),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Linear(4096, 10),
    )


def test_alexnet_has_torchvisions_parameters():
    model = imagenet.alexnet(seed=0)
    assert size(model.trainable_variables) == 61_100_840
    assert model.input_shape == (None, 224, 224, 3) and model.output_shape == (None, 1000)
    assert model.get_layer("flatten").input.shape == (None, 6, 6, 256)
    # He's distribution, over 16 million draws.
    assert np.std(model.get_layer("fc7").kernel.numpy()) == pytest.approx((2 / 4096) ** 0.5, rel=0.01)


def test_alexnet_is_that_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    # 67 -> 16 -> 7 -> 3 -> 1 rows, 99 -> 24 -> 11 -> 5 -> 2 columns: no stride fits.
    x = random_images(67, 99)
    network = torch_alexnet(torch.nn, places=2)
    model = imagenet.alexnet(seed=0, input_shape=(67, 99, 3), num_classes=10)
    modules = [module for module in network if hasattr(module, "weight")]
    for module in modules:
        torch.nn.init.kaiming_normal_(module.weight)
    weighted = [layer for layer in model.layers if layer.weights and not isinstance(layer, keras.layers.Dropout)]
    for layer, module in zip(weighted, modules, strict=True):
        put(layer, module)
    # torch flattens channels, rows, columns; Keras rows, columns, channels.
    layer = model.get_layer("fc6")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel.reshape(256, 2, 4096).transpose(1, 0, 2).reshape(512, 4096), bias])
    expected = torch_logits(network, x)
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    np.testing.assert_allclose(model(x, training=False), expected, rtol=1e-4, atol=1e-4)
    check_reloads(model, x, tmp_path)


def test_alexnets_seed():
    x = random_images(63, 63)

    def outputs(seed):
        model = imagenet.alexnet(seed=seed, input_shape=(63, 63, 3), num_classes=10)
        return model(x, training=False).numpy(), model(x, training=True).numpy()

    first, again, other = outputs(1), outputs(1), outputs(2)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first[0], other[0]) and not np.allclose(first[0], first[1])


# ResNet-18.


def torch_resnet18(nn):
    class Unit(nn.Module):
        def __init__(self, inputs, filters, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, filters, 3, stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(filters)
            self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(filters)
            self.downsample = None
            if stride > 1:
                shortcut = nn.Conv2d(inputs, filters, 1, stride, bias=False)
                self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(filters))

        def forward(self, x):
            h = self.bn2(self.conv2(nn.functional.relu(self.bn1(self.conv1(x)))))
            return nn.functional.relu(h + (x if self.downsample is None else self.downsample(x)))

    class ResNet18(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.layer1 = nn.Sequential(Unit(64, 64, 1), Unit(64, 64, 1))
            self.layer2 = nn.Sequential(Unit(64, 128, 2), Unit(128, 128, 1))
            self.layer3 = nn.Sequential(Unit(128, 256, 2), Unit(256, 256, 1))
            self.layer4 = nn.Sequential(Unit(256, 512, 2), Unit(512, 512, 1))
            self.fc = nn.Linear(512, 1000)

        def forward(self, x):
            x = nn.functional.relu(self.bn1(self.conv1(x)))
            x = nn.functional.max_pool2d(x, 3, 2, padding=1)
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean(dim=(2, 3)))

    return ResNet18()


@pytest.mark.parametrize("shape", [(64, 96), (61, 75)])
def test_resnet18_is_that_of_torch(shape, tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    x = random_images(*shape)
    network = torch_resnet18(torch.nn)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 1.0)
        elif isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    model = imagenet.resnet18(seed=0, input_shape=(*shape, 3))
    modules = dict(network.named_modules())
    for layer in model.layers:
        if layer.weights:
            put(layer, modules[layer.name])
    expected = torch_logits(network, x)
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    np.testing.assert_allclose(model(x, training=False), expected, rtol=1e-4, atol=1e-4)
    if shape == (61, 75):
        check_reloads(model, x, tmp_path)


def test_resnet18_has_torchvisions_parameters():
    model = imagenet.resnet18(seed=0)
    assert size(model.trainable_variables) == 11_689_512
    assert model.input_shape == (None, 224, 224, 3) and model.output_shape == (None, 1000)
    assert model.get_layer("avgpool").input.shape == (None, 7, 7, 512)


def test_resnet18_training_moves_the_statistics_by_a_tenth():
    model, x = imagenet.resnet18(seed=0, input_shape=(32, 32, 3), num_classes=10), random_images(32, 32)
    layer = model.get_layer("bn1")
    inputs = keras.Model(model.input, layer.input)(x).numpy()
    model(x, training=True)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * inputs.mean(axis=(0, 1, 2)), atol=1e-5)
    assert layer.epsilon == 1e-5


def test_resnet18s_seed():
    x = random_images(32, 32)

    def outputs(seed):
        return imagenet.resnet18(seed=seed, input_shape=(32, 32, 3), num_classes=10)(x, training=False).numpy()

    first = outputs(1)
    np.testing.assert_array_equal(first, outputs(1))
    assert not np.allclose(first, outputs(2))


@pytest.mark.parametrize(
    ("builder", "shape", "message"),
    [
        (imagenet.alexnet, (62, 224, 3), r"a height and a width of 63 or more and 3 channels, got \(62, 224, 3\)"),
        (imagenet.alexnet, (224, 224, 1), "3 channels"),
        (imagenet.resnet18, (224, 224), "3 channels"),
    ],
)
def test_images_that_do_not_fit(builder, shape, message):
    with pytest.raises(ValueError, match=message):
        builder(seed=0, input_shape=shape)
