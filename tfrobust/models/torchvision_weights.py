"""Weights of torchvision's networks, from a file, for the same networks here.

    model = vgg11(seed=0)
    load_weights(model, "vgg11.npz")

The file holds the arrays of torchvision's state dict under their names ("features.0.weight"), which one line makes
where torchvision is,

    numpy.savez("vgg11.npz", **{name: array.numpy() for name, array in torch.load("vgg11-8a719046.pth").items()})

or is that .pth file itself, for which PyTorch must be installed.
"""

import os

import keras
import numpy as np

from tfrobust.models import weight_files

_TORCH_SUFFIXES = (".pth", ".pt")
_WITH_WEIGHTS = (keras.layers.BatchNormalization, keras.layers.Conv2D, keras.layers.Dense)
# Modules of torchvision by the layers here; ResNet-18's have the same names.
_MODULES = {
    "alexnet": dict(
        zip(
            ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "logits"),
            [f"features.{number}" for number in (0, 3, 6, 8, 10)] + [f"classifier.{number}" for number in (1, 4, 6)],
            strict=True,
        )
    ),
    "vgg11": dict(
        zip(
            ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "conv4_1", "conv4_2", "conv5_1", "conv5_2")
            + ("fc6", "fc7", "logits"),
            [f"features.{number}" for number in (0, 3, 6, 8, 11, 13, 16, 18)]
            + [f"classifier.{number}" for number in (0, 3, 6)],
            strict=True,
        )
    ),
}


def load_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Gives a network of `imagenet` the weights of torchvision's.

    Args:
      model: `imagenet.alexnet`, `vgg11` or `resnet18`.
      path: a .npz or .pth file; see above.

    Raises:
      ValueError: if the file cannot be read, or for arrays that are missing, unknown, of another shape (as those of a
        network for other images or classes) or not finite numbers, by name.
    """
    arrays = _read(path)
    # How many batches a batch normalisation has seen: of no use outside of training.
    arrays = {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}
    modules = _MODULES.get(model.name, {})
    layers = [layer for layer in model.layers if isinstance(layer, _WITH_WEIGHTS)]
    converted = [part for layer in layers for part in _of_layer(model, layer, modules)]
    weight_files.check(path, arrays, {name: shape for name, shape, _ in converted})
    model.set_weights([convert(arrays[name]) for name, _, convert in converted])


def _of_layer(model, layer, modules):
    """For each weight of the layer its name and shape in PyTorch, and how that becomes Keras's."""
    module = modules.get(layer.name, layer.name)
    if isinstance(layer, keras.layers.BatchNormalization):
        shape = tuple(layer.gamma.shape)
        names = ("weight", "bias", "running_mean", "running_var")
        return [(f"{module}.{name}", shape, _same) for name in names]
    if isinstance(layer, keras.layers.Conv2D):
        height, width, inputs, outputs = layer.kernel.shape
        kernel = (f"{module}.weight", (outputs, inputs, height, width), lambda array: array.transpose(2, 3, 1, 0))
    else:
        inputs, outputs = layer.kernel.shape
        kernel = (f"{module}.weight", (outputs, inputs), _dense_kernel(model, layer))
    bias = [(f"{module}.bias", (outputs,), _same)] if layer.use_bias else []
    return [kernel, *bias]


def _dense_kernel(model, layer):
    earlier = model.layers[: model.layers.index(layer)]
    before = [other for other in earlier if not isinstance(other, keras.layers.Dropout)][-1]
    if not isinstance(before, keras.layers.Flatten):
        return np.transpose
    height, width, channels = before.input.shape[1:]

    def convert(array):
        # PyTorch flattens channels, rows, columns; here it is rows, columns, channels.
        array = array.reshape(len(array), channels, height, width).transpose(2, 3, 1, 0)
        return array.reshape(-1, array.shape[-1])

    return convert


def _same(array):
    return array


def _read(path):
    if not str(path).endswith(_TORCH_SUFFIXES):
        return weight_files.read(path)
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            f"{path} is a file of PyTorch's, which is not installed: give the same weights as .npz"
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: tensor.numpy() for name, tensor in state.items()}
    except Exception as error:  # damage shows as anything from pickle.UnpicklingError to RuntimeError
        raise ValueError(
            f"{path} must be a state dict of PyTorch's, it cannot be read ({type(error).__name__})"
        ) from error
