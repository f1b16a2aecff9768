"""The LeNet that DeepFool published and Deep Defense fine-tunes: its weights, read from a file.

    mean_image = 255 * datasets.load("mnist", "train").images.mean(axis=0, dtype=np.float64)
    classifier = load_lenet("lenet_reference.npz", mean_image)  # 99.02 % of MNIST's test images

The original is a network of MatConvNet (Moosavi-Dezfooli et al. 2016; net.mat of github.com/LTS4/DeepFool). The file
holds its arrays under the indices of their layers. All of these are convolutions without padding; the last two, which
cover all of their input, are dense layers here.
"""

import os

import keras

from tfrobust.models import weight_files
from tfrobust.models.deep_defense import lenet

# Kernels are [height, width, inputs, outputs].
SHAPES = {
    "l0_W": (5, 5, 1, 20),
    "l0_b": (20,),
    "l2_W": (5, 5, 20, 50),
    "l2_b": (50,),
    "l4_W": (4, 4, 50, 500),
    "l4_b": (500,),
    "l6_W": (1, 1, 500, 10),
    "l6_b": (10,),
}


def load_lenet(path: str | os.PathLike, mean_image) -> keras.Model:
    """The published network.

    Args:
      path: a .npz file with the arrays of `SHAPES` and no other.
      mean_image: of the training images, [28, 28, 1] in units of 0 to 255.

    Returns:
      `deep_defense.lenet` with these weights, float32 [B, 28, 28, 1] pixels in [0, 1] -> [B, 10] logits.

    Raises:
      ValueError: if the file cannot be read, or for arrays that are missing, unknown, of another shape or not finite
        numbers, all of them by name; and as in `deep_defense.lenet`.
    """
    arrays = weight_files.read(path)
    weight_files.check(path, arrays, SHAPES)
    model = lenet(seed=0, mean_image=mean_image)
    # Keras flattens height, width and channels in this order, which is that of the kernels: only axes are joined.
    weights = [arrays[name].reshape(w.shape) for name, w in zip(SHAPES, model.weights, strict=True)]
    model.set_weights(weights)
    return model
