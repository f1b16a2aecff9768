"""SqueezeNet v1.0 (Iandola et al. 2016, arXiv:1602.07360), and its published weights from a file of arrays.

    classifier = load_squeezenet("squeezenet_v1.0.npz")   # [B, 227, 227, 3] pixels in [0, 1] -> [B, 1000] logits

The weights are those of the authors' Caffe model (github.com/songhan/SqueezeNet-Deep-Compression, BSD): named as its
layers ("fire2/squeeze1x1/W"), kernels [outputs, inputs, height, width], for blue, green, red in 0 to 255.
"""

import itertools
import os

import keras
from keras import layers

from tfrobust.models import weight_files

INPUT_SHAPE = (227, 227, 3)
# What Caffe's models subtract, of red, green and blue in 0 to 255.
CHANNEL_MEAN = (123.0, 117.0, 104.0)

_POOL = "pool"
# Filters of the 1x1 squeeze and of each of the two expanding convolutions, by the number of the fire module.
_FIRES = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128), 6: (48, 192), 7: (48, 192), 8: (64, 256), 9: (64, 256)}


def squeezenet(*, seed: int, input_shape=INPUT_SHAPE, num_classes: int = 1000) -> keras.Model:
    """SqueezeNet v1.0 without bypass: 1,248,424 parameters.

    A 7x7 convolution with stride 2, eight fire modules (a 1x1 convolution that squeezes, a 1x1 and a 3x3 one beside
    each other that expand), 3x3 max-pooling with stride 2 behind the first convolution and modules 4 and 8, dropout
    0.5, a 1x1 convolution to the classes with padding 1, ReLU and the mean over all places: logits are never negative.
    As in Caffe, pooling counts places that are only partly there.

    Args:
      seed: of the initial weights (He's normal distribution) and of dropout.
      input_shape: height and width of 39 or more, 3 channels.
      num_classes: K.

    Returns:
      A functional keras.Model, float32 [B, H, W, 3] pixels in [0, 1] -> [B, K].

    Raises:
      ValueError: for other channels, or smaller images.
    """
    if len(input_shape) != 3 or input_shape[2] != 3 or min(input_shape[:2]) < 39:
        raise ValueError(f"input_shape must be a height and a width of 39 or more and 3 channels, got {input_shape}")
    seeds = itertools.count(seed)

    def convolution(x, filters, size, name, **options):
        initializer = keras.initializers.HeNormal(seed=next(seeds))
        layer = layers.Conv2D(filters, size, activation="relu", kernel_initializer=initializer, name=name, **options)
        return layer(x)

    def pool(x, name):
        # A row and a column of zeros where the last window would be cut: behind ReLU no maximum changes.
        missing = [(side - 3) % 2 for side in x.shape[1:3]]
        if any(missing):
            x = layers.ZeroPadding2D([(0, side) for side in missing], name=f"{name}.pad")(x)
        return layers.MaxPooling2D(3, 2, name=name)(x)

    images = keras.Input(input_shape, name="images")
    x = layers.Rescaling(255.0, offset=[-mean for mean in CHANNEL_MEAN], name="normalize")(images)
    x = pool(convolution(x, 96, 7, "conv1", strides=2), "pool1")
    for number, (squeezed, expanded) in _FIRES.items():
        name = f"fire{number}"
        x = convolution(x, squeezed, 1, f"{name}.squeeze1x1")
        branches = [convolution(x, expanded, 1, f"{name}.expand1x1")]
        branches.append(convolution(x, expanded, 3, f"{name}.expand3x3", padding="same"))
        x = layers.Concatenate(name=f"{name}.concat")(branches)
        if number in (4, 8):
            x = pool(x, f"{_POOL}{number}")
    x = layers.Dropout(0.5, seed=next(seeds), name="drop9")(x)
    x = convolution(layers.ZeroPadding2D(1, name="conv10.pad")(x), num_classes, 1, "conv10")
    return keras.Model(images, layers.GlobalAveragePooling2D(name="pool10")(x), name="squeezenet")


def load_squeezenet(path: str | os.PathLike) -> keras.Model:
    """The published network: `squeezenet` with the weights of a .npz file.

    Raises:
      ValueError: if the file cannot be read, or for arrays that are missing, unknown, of another shape or not finite
        numbers, by name.
    """
    model = squeezenet(seed=0)
    arrays = weight_files.read(path)
    # Layers have no slashes in their names.
    names = {layer.name: layer.name.replace(".", "/") for layer in model.layers if layer.weights}
    shapes = {}
    for layer, name in names.items():
        height, width, inputs, outputs = model.get_layer(layer).kernel.shape
        shapes |= {f"{name}/W": (outputs, inputs, height, width), f"{name}/b": (outputs,)}
    weight_files.check(path, arrays, shapes)
    for layer, name in names.items():
        kernel = arrays[f"{name}/W"].transpose(2, 3, 1, 0)
        if layer == "conv1":
            # It was trained on blue, green, red.
            kernel = kernel[:, :, ::-1]
        model.get_layer(layer).set_weights([kernel, arrays[f"{name}/b"]])
    return model
