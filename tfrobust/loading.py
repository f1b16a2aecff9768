"""Classifiers from files: whatever `export`, Keras or a training run has written.

classifier = load_classifier("model.keras")   # or a SavedModel's folder, a training run's model_dir, a TF1 checkpoint
report = evaluation.evaluate(classifier, images, labels, attacks, seed=0)
"""

import hashlib
import pathlib
import zipfile

import keras
import tensorflow as tf

from tfrobust.attacks.base import LogitsFn
from tfrobust.checks import first_line

KERAS_FILE = "model.keras"

_KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
_SIGNATURE = "serving_default"


class ModelLoadError(RuntimeError):
    """There is no classifier at a path, or it cannot be read; the message is one line."""


class SavedModelClassifier:
    """The signature `serving_default` of a SavedModel as a function from pixels to logits.

    It can be differentiated with respect to the pixels, so attacks work on it. It is no keras.Model: it has no layers
    from which a faster twin could be made (see `precision`), and its attacks take their gradients from it as it is.

    Args:
      directory: a SavedModel's folder. The signature has one input, images [B, H, W, C], and an output `logits` or else
        only one output, [B, K].

    Attributes:
      input_shape: (None, H, W, C) as the signature says, None for a size that it leaves open; None if it says nothing.

    Raises:
      ModelLoadError: if it cannot be read or has no such signature.
    """

    def __init__(self, directory):
        self._directory = str(directory)
        # Kept: the variables live as long as the loaded object, and a signature alone may not hold them.
        self._loaded = _attempt(directory, "SavedModel", lambda: tf.saved_model.load(self._directory))
        self._signature = self._loaded.signatures.get(_SIGNATURE)
        if self._signature is None:
            found = sorted(self._loaded.signatures) or "none"
            raise ModelLoadError(f"SavedModel {directory} has no signature {_SIGNATURE!r}, its signatures: {found}")
        self._input = self._only_image_input()
        self._output = self._logits_output()
        shape = self._input.shape
        self.input_shape = None if shape.rank is None else tuple(shape.as_list())

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """The logits, [B, H, W, C] pixels -> [B, K] float32, in inference mode."""
        outputs = self._signature(**{self._input.name: tf.cast(x, self._input.dtype)})
        return tf.cast(outputs[self._output], tf.float32)

    def sha256(self) -> str:
        """SHA-256 of its files, in hexadecimal: the graph and the weights."""
        digest = hashlib.sha256()
        folder = pathlib.Path(self._directory)
        for path in sorted([folder / "saved_model.pb", *folder.glob("variables/*")]):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def __repr__(self):
        return f"SavedModelClassifier({self._directory!r}, input_shape={self.input_shape}, output={self._output!r})"

    def _only_image_input(self):
        inputs = self._signature.structured_input_signature[1]
        if len(inputs) == 1:
            [(name, spec)] = inputs.items()
            if spec.dtype.is_floating and spec.shape.rank in (4, None):
                return tf.TensorSpec(spec.shape, spec.dtype, name)
        raise ModelLoadError(
            f"SavedModel {self._directory}: the input of {_SIGNATURE!r} must be images [B, H, W, C], "
            f"got {_described(inputs)}"
        )

    def _logits_output(self):
        outputs = self._signature.structured_outputs
        name = "logits" if "logits" in outputs else next(iter(outputs), None)
        if name is not None and (name == "logits" or len(outputs) == 1):
            spec = outputs[name]
            if spec.dtype.is_floating and spec.shape.rank in (2, None):
                return name
        raise ModelLoadError(
            f"SavedModel {self._directory}: {_SIGNATURE!r} must have an output 'logits' [B, K], or that one alone, "
            f"got {_described(outputs)}"
        )


def load_classifier(path) -> keras.Model | LogitsFn:
    """The classifier at `path`.

    Args:
      path: a Keras file (`.keras`, or the older `.h5`), a SavedModel's folder, or that of its numbered versions, of
        which the highest is taken, as by TensorFlow Serving. Or a training run's model_dir, of which `model.keras` is
        taken, or else the newest checkpoint. Also one of its checkpoints ("model_dir/checkpoint-300"), or the folder or
        a checkpoint of an original challenge (`tf1_checkpoints`).

    Returns:
      a keras.Model; from a SavedModel's folder a `SavedModelClassifier`. Both map [B, H, W, C] pixels to [B, K] logits.

    Raises:
      ModelLoadError: if nothing is there, or nothing that can be read.
    """
    path = pathlib.Path(path)
    if saved := _saved_model(path):
        return SavedModelClassifier(saved)
    if path.is_dir() and (path / KERAS_FILE).is_file():
        return _load_keras(path / KERAS_FILE)
    if path.is_file() and path.suffix in _KERAS_SUFFIXES:
        return _load_keras(path)
    return _load_checkpoint(path)


def _saved_model(path):
    """The SavedModel's folder that `path` is, or the one of the highest version in it, or None."""
    if not path.is_dir():
        return None
    versions = sorted((folder for folder in path.iterdir() if folder.name.isdecimal()), key=lambda p: int(p.name))
    # The folder itself before the versions in it, and those from the highest on.
    found = (folder for folder in (path, *reversed(versions)) if tf.saved_model.contains_saved_model(str(folder)))
    return next(found, None)


def _load_checkpoint(path):
    """The classifier of a checkpoint of our training or of an original challenge: what is in it tells them apart."""
    from tfrobust import checkpoints, tf1_checkpoints  # here, because files do without them

    prefix = tf1_checkpoints.find(path)
    if prefix is None:
        raise ModelLoadError(_nothing_at(path))
    try:
        if tf1_checkpoints.is_checkpoint(path):
            return tf1_checkpoints.load(path)
        return checkpoints.load_classifier(pathlib.Path(prefix).parent, None if path.is_dir() else prefix)
    except FileNotFoundError as error:
        raise ModelLoadError(f"{path} is no model: {checkpoints.ARCHITECTURE} is missing beside {prefix}") from error
    except (checkpoints.CheckpointError, tf1_checkpoints.TF1CheckpointError) as error:
        raise ModelLoadError(first_line(error)) from error


def _nothing_at(path):
    if path.is_dir():
        return f"folder {path} is no model: it holds no saved_model.pb, no {KERAS_FILE} and no training checkpoint"
    if path.exists():
        return f"file {path} is no model: the name of a Keras file ends in .keras or .h5"
    return f"model {path} does not exist"


def _load_keras(path):
    # Keras says "file not found" of a file that is there and is no zip archive.
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise ModelLoadError(f"Keras file {path} cannot be read (it is no zip archive: damaged, or no Keras file)")
    return _attempt(path, "Keras file", lambda: keras.models.load_model(path, compile=False))


def _attempt(path, kind, load):
    try:
        return load()
    except Exception as error:  # damage shows as anything from zipfile.BadZipFile to KeyError
        raise ModelLoadError(f"{kind} {path} cannot be read ({first_line(error)})") from error


def _described(specs):
    return ", ".join(f"{name} {spec.dtype.name} {spec.shape}" for name, spec in sorted(specs.items())) or "none"


def weights_sha256(classifier: keras.Model) -> str:
    """SHA-256 of the weights, in hexadecimal: tells a model that was trained again from the one before."""
    digest = hashlib.sha256()
    for weight in classifier.get_weights():
        digest.update(weight.tobytes())
    return digest.hexdigest()


def fingerprint(classifier: keras.Model | LogitsFn) -> str | None:
    """`weights_sha256`, that of a SavedModel's files, or None where the classifier gives neither."""
    if isinstance(classifier, SavedModelClassifier):
        return classifier.sha256()
    return weights_sha256(classifier) if hasattr(classifier, "get_weights") else None
