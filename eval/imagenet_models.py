"""The classifier of eval.imagenet: a file, or a network by name with a file of weights."""

from collections.abc import Callable

import keras
from absl import flags

from eval import common, data_flags
from tfrobust import loading
from tfrobust.models import applications, imagenet, squeezenet, torchvision_weights

NETWORK = flags.DEFINE_string(
    "network",
    None,
    "In place of --model: squeezenet, vgg11, alexnet, resnet18, or any classifier of keras.applications by its name, "
    "such as MobileNetV2.",
)
WEIGHTS = flags.DEFINE_string(
    "weights",
    None,
    "Weights of --network. squeezenet: its published weights as .npz; vgg11, alexnet, resnet18: torchvision's, as .npz "
    "or .pth; keras.applications: Keras's own file, default: what Keras downloads.",
)


def _torchvision(build) -> Callable[[str], keras.Model]:
    def load(path):
        model = build(seed=0)
        torchvision_weights.load_weights(model, path)
        return model

    return load


_NETWORKS: dict[str, Callable[[str], keras.Model]] = {
    "squeezenet": squeezenet.load_squeezenet,
    "vgg11": _torchvision(imagenet.vgg11),
    "alexnet": _torchvision(imagenet.alexnet),
    "resnet18": _torchvision(imagenet.resnet18),
}


def name() -> str:
    """What reports call the classifier."""
    return NETWORK.value or common.model_path()


def load():
    """The classifier, float32 [B, H, W, 3] pixels in [0, 1] -> [B, K] logits.

    Raises:
      ValueError: for flags that contradict each other, an unknown network, or weights that do not fit.
      tfrobust.loading.ModelLoadError: if --model is missing or cannot be read.
    """
    if not NETWORK.value:
        if WEIGHTS.value:
            raise ValueError("weights are those of a --network, got no --network: --network=squeezenet")
        return loading.load_classifier(common.model_path())
    if common.MODEL.value or common.MODEL_DIR.value:
        raise ValueError(f"network must not be given with --model, got {NETWORK.value!r}")
    if NETWORK.value not in _NETWORKS:
        size = data_flags.IMAGE_SIZE.value if flags.FLAGS["image_size"].present else None
        try:
            return applications.application(NETWORK.value, weights=WEIGHTS.value or "imagenet", image_size=size)
        except ValueError as error:
            if NETWORK.value in applications.names():
                raise
            known = ", ".join([*_NETWORKS, *applications.names()])
            raise ValueError(f"network must be one of {known}, got {NETWORK.value!r}") from error
    if not WEIGHTS.value:
        raise ValueError(f"weights must be given for --network={NETWORK.value}: --weights=FILE")
    return _NETWORKS[NETWORK.value](WEIGHTS.value)


def image_size(classifier) -> int:
    """Height and width of the images that the classifier takes; --image_size where it leaves that open.

    Raises:
      ValueError: if height and width differ, or if --image_size is given and is another.
    """
    shape = getattr(classifier, "input_shape", None)
    sides = [side for side in (shape[1:3] if shape else ()) if side]
    if not sides:
        return data_flags.IMAGE_SIZE.value
    if len(set(sides)) > 1:
        raise ValueError(f"model must take square images here, got {sides[0]}x{sides[1]}")
    if flags.FLAGS["image_size"].present and data_flags.IMAGE_SIZE.value != sides[0]:
        raise ValueError(f"image_size must be {sides[0]}, what the model takes, got {data_flags.IMAGE_SIZE.value}")
    return sides[0]
