"""The LeNet that DeepFool published and Deep Defense fine-tunes: its weights, read from a file.

    mean_image = 255 * datasets.load("mnist", "train").images.mean(axis=0, dtype=np.float64)
    classifier = load_lenet("lenet_reference.npz", mean_image)  # 99.02 % of MNIST's test images

The original is a network of MatConvNet (Moosavi-Dezfooli et al. 2016; net.mat of github.com/LTS4/DeepFool). The file
holds its arrays under the indices of their layers. All of these are convolutions without padding; the last two, which
cover all of their input, are dense layers here.
"""

import os

import keras
import numpy as np

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
    arrays = _read(path)
    _check(path, arrays)
    model = lenet(seed=0, mean_image=mean_image)
    # Keras flattens height, width and channels in this order, which is that of the kernels: only axes are joined.
    weights = [arrays[name].reshape(w.shape) for name, w in zip(SHAPES, model.weights, strict=True)]
    model.set_weights(weights)
    return model


def _read(path):
    """The arrays of a file by name. Pickled objects are never loaded."""
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.lib.npyio.NpzFile):
            with file:
                return {name: np.asarray(file[name]) for name in file.files}
    except Exception as error:  # damage shows as anything from zipfile.BadZipFile to NotImplementedError
        raise ValueError(f"{path} must be a .npz file of DeepFool's LeNet, it cannot be read ({error})") from error
    raise ValueError(f"{path} must be a .npz file of DeepFool's LeNet, it holds a single array {list(file.shape)}")


def _check(path, arrays):
    faults = []
    missing = [f"{name} {list(shape)}" for name, shape in SHAPES.items() if name not in arrays]
    if missing:
        faults.append(f"arrays missing: {', '.join(missing)}")
    unknown = [f"{name} {list(array.shape)}" for name, array in arrays.items() if name not in SHAPES]
    if unknown:
        faults.append(f"unknown: {', '.join(unknown)}")
    known = {name: arrays[name] for name in SHAPES if name in arrays}
    misshapen = [
        f"{name} is {list(array.shape)}, should be {list(SHAPES[name])}"
        for name, array in known.items()
        if array.shape != SHAPES[name]
    ]
    if misshapen:
        faults.append(f"of another shape: {', '.join(misshapen)}")
    strange = [name for name, array in known.items() if array.dtype.kind not in "fiu" or not np.isfinite(array).all()]
    if strange:
        faults.append(f"not finite numbers: {', '.join(strange)}")
    if faults:
        raise ValueError(f"{path} does not hold DeepFool's LeNet; {'; '.join(faults)}")
