"""Checkpoints of the original MNIST and CIFAR-10 challenges (TensorFlow 1), read and written.

    classifier = load("models/secret")                          # or "models/secret/checkpoint-99900"
    save(classifier, "models/mine/checkpoint", global_step=0)   # for the challenges' own scripts

Such a checkpoint is a table of variables by name. Those of the networks are known here; an optimizer's and the global
step may be there or not. How wide and deep a residual network is follows from its variables. Pixels of the CIFAR-10
challenge are in [0, 255]; the classifier takes the same pixels in [0, 1] and returns the same logits.
"""

import pathlib
import re

import keras
import tensorflow as tf

from tfrobust import checkpoints
from tfrobust.models import cifar10, mnist
from tfrobust.whole_files import whole_file

# In every checkpoint that TensorFlow 2 writes from objects, our own training's among them.
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_TRAINING_STATE = re.compile("global_step|beta[12]_power")
_SLOT = re.compile("/(Adam|Adam_1|Momentum)$")
_NAMES_SHOWN = 10


class TF1CheckpointError(RuntimeError):
    """A checkpoint cannot be read or written, or is of no known network; the message is one line."""


def is_checkpoint(path) -> bool:
    """Whether there is a checkpoint at `path`, as `find` has it, that TensorFlow 1 wrote: not our own training."""
    prefix = find(path)
    if prefix is None:
        return False
    try:
        return _OBJECT_GRAPH not in _open(prefix).get_variable_to_shape_map()
    except TF1CheckpointError:
        # Damaged. Our own training leaves a file beside its checkpoints that tells.
        return not (pathlib.Path(prefix).parent / checkpoints.ARCHITECTURE).exists()


def find(path) -> str | None:
    """The prefix of the checkpoint at `path`, or None.

    Args:
      path: a prefix ("models/secret/checkpoint-99900"), one of its files, or a folder, of which the checkpoint is taken
        that its file `checkpoint` names, or else the one of the highest step. A folder may have been moved: the
        checkpoint is looked for in it, whatever folder the file names.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return _newest(path)
    # A prefix may have a dot of its own, so the suffix of a file is taken off second.
    return next((str(p) for p in (path, path.with_suffix("")) if pathlib.Path(f"{p}.index").is_file()), None)


def load(path) -> keras.Model:
    """The classifier of a checkpoint that the training of one of the challenges has written.

    Args:
      path: as for `find`.

    Returns:
      `models.mnist.challenge_cnn` or `models.cifar10.challenge_resnet`, [B, H, W, C] pixels in [0, 1] -> [B, K] logits.

    Raises:
      TF1CheckpointError: if there is none, if it is damaged, or if its variables are not exactly the network's.
    """
    prefix = find(path)
    if prefix is None:
        raise TF1CheckpointError(f"there is no checkpoint at {path}")
    reader = _open(prefix)
    shapes = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
    model = _network(prefix, shapes)
    variables = variable_names(model)
    _check_variables(prefix, shapes, {name: tuple(variable.shape) for name, variable in variables.items()})
    for name, variable in variables.items():
        _attempt(prefix, lambda name=name, variable=variable: variable.assign(reader.get_tensor(name)))
    return model


def save(classifier: keras.Model, prefix, global_step: int) -> str:
    """Writes a classifier under the original's names, so that the challenges' scripts can restore it.

    It also becomes the folder's latest checkpoint.

    Args:
      classifier: as for `variable_names`.
      prefix: without the step, "models/mine/checkpoint".
      global_step: the step that the checkpoint carries.

    Returns:
      The prefix with the step, "models/mine/checkpoint-99900".

    Raises:
      ValueError: for another classifier.
      TF1CheckpointError: if it cannot be written.
    """
    values = {name: tf.constant(variable.numpy()) for name, variable in variable_names(classifier).items()}
    values["global_step"] = tf.constant(global_step, tf.int64)
    path = pathlib.Path(f"{prefix}-{global_step}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tf.raw_ops.SaveV2(
            prefix=str(path),
            tensor_names=list(values),
            shape_and_slices=[""] * len(values),
            tensors=list(values.values()),
        )
        # TensorFlow's own function for this is deprecated and says so at every call.
        with whole_file(path.parent / "checkpoint") as file:
            file.write(f'model_checkpoint_path: "{path.name}"\n'.encode())
    except (tf.errors.OpError, OSError) as error:
        raise TF1CheckpointError(f"checkpoint {path} cannot be written ({_reason(error)})") from error
    return str(path)


def variable_names(model: keras.Model) -> dict[str, keras.Variable]:
    """The variables of a challenge's network by the original's names.

    Args:
      model: from `models.mnist.challenge_cnn` or `models.cifar10.challenge_resnet`, or loaded again from a file.

    Raises:
      ValueError: for another model.
    """
    if model.name == "mnist_challenge_cnn":
        # The original gave no names. Its variables were numbered in the order in which they were made: ours.
        return {f"Variable_{i}" if i else "Variable": variable for i, variable in enumerate(model.weights)}
    if model.name != "cifar10_challenge_resnet":
        raise ValueError(f"model must be a challenge_cnn or a challenge_resnet, got one that is named {model.name!r}")
    renamed = {"kernel": "DW", "bias": "biases"}
    return {
        f"{layer.name.replace('.', '/')}/{renamed.get(variable.name, variable.name)}": variable
        for layer in model.layers
        for variable in layer.variables
    }


def _newest(folder):
    """The prefix of a folder's newest checkpoint, or None."""
    prefixes = [str(file.with_suffix("")) for file in folder.glob("*.index")]
    listed = folder / "checkpoint"
    text = listed.read_text(encoding="utf-8", errors="replace") if listed.is_file() else ""
    named = re.search(r'^model_checkpoint_path: "(?:.*[/\\])?([^"/\\]+)"', text, re.MULTILINE)
    if named and str(folder / named[1]) in prefixes:
        return str(folder / named[1])

    def step(prefix):
        found = re.search(r"-(\d+)$", prefix)
        return int(found[1]) if found else -1

    return max(prefixes, key=step, default=None)


def _open(prefix):
    return _attempt(prefix, lambda: tf.train.load_checkpoint(prefix))


def _attempt(prefix, read):
    try:
        return read()
    # TensorFlow reports damage in many ways, an IndexError for a file cut short among them.
    except (tf.errors.OpError, ValueError, LookupError, RuntimeError, OSError) as error:
        raise TF1CheckpointError(f"checkpoint {prefix} cannot be read ({_reason(error)})") from error


def _network(prefix, shapes):
    """The network that a checkpoint's names and shapes speak of, with weights that do not matter."""
    if any(re.fullmatch(r"Variable(_\d+)?", name) for name in shapes):
        return mnist.challenge_cnn(seed=0)
    deciding = ["input/init_conv/DW", *(f"unit_{stage}_0/sub1/conv1/DW" for stage in (1, 2, 3)), "logit/DW"]
    missing = [name for name in deciding if not shapes.get(name)]
    if len(missing) == len(deciding):
        raise TF1CheckpointError(
            f"checkpoint {prefix} is of no network of the challenges; its variables: {_listed(sorted(shapes))}"
        )
    if missing:
        raise TF1CheckpointError(f"checkpoint {prefix} is incomplete: missing {_listed(missing)}")
    *filters, num_classes = (shapes[name][-1] for name in deciding)
    units = 1 + max(int(found[1]) for name in shapes if (found := re.match(r"unit_\d+_(\d+)/", name)))
    try:
        return cifar10.challenge_resnet(seed=0, filters=filters, units=units, num_classes=num_classes)
    except ValueError as error:
        raise TF1CheckpointError(f"checkpoint {prefix} is of no such network: {error}") from error


def _check_variables(prefix, found, expected):
    """Raises TF1CheckpointError unless a checkpoint has the expected shapes by name, and no more but training state."""
    extra = {
        name
        for name in found.keys() - expected.keys()
        if not _TRAINING_STATE.fullmatch(name) and _SLOT.sub("", name) not in expected
    }
    misshapen = {
        f"{name} is {list(found[name])}, should be {list(shape)}"
        for name, shape in expected.items()
        if found.get(name, shape) != shape
    }
    wrong = {"missing": expected.keys() - found.keys(), "unknown": extra, "of another shape": misshapen}
    if any(wrong.values()):
        lists = "; ".join(f"{kind}: {_listed(sorted(names))}" for kind, names in wrong.items() if names)
        raise TF1CheckpointError(f"checkpoint {prefix} does not fit its network; variables {lists}")


def _listed(names):
    rest = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _reason(error):
    """The first line of an error, without the graph node that TensorFlow puts in front."""
    text = re.sub(r"^\{\{.*?\}\}", "", str(error).strip()).strip()
    return text.partition("\n")[0] or type(error).__name__
