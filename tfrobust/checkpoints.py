"""Training checkpoints: everything that a stopped run needs to go on as if it had not been stopped.

A checkpoint holds the classifier's weights and the optimizer's variables, its step count among them; data order
and noise follow from seed and step alone. Checkpoints are TensorFlow's own (`checkpoint-300.index`, ...): tensors
have checksums, and files get their name when they are complete.
"""

import math
import os
import pathlib
import re

import keras
import tensorflow as tf

from tfrobust.whole_files import whole_file

NAME = "checkpoint"
ARCHITECTURE = "architecture.json"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read or written.

    Attributes:
      path: the checkpoint's prefix.
      previous: the prefix of the newest older checkpoint, or None.
    """

    def __init__(self, message: str, path: str, previous: str | None = None):
        super().__init__(message)
        self.path = path
        self.previous = previous


class TrainingCheckpoints:
    """Saves and restores a trainer in `model_dir`, keeping the newest checkpoints.

    Args:
      model_dir: existing folder.
      trainer: a compiled keras.Model with the attribute `classifier`; its optimizer is built here.
      keep: how many checkpoints stay.
    """

    def __init__(self, model_dir, trainer: keras.Model, *, keep: int = 3):
        self._folder = pathlib.Path(model_dir)
        self._optimizer = trainer.optimizer
        self._optimizer.build(trainer.trainable_variables)
        self._checkpoint = _checkpoint(trainer.classifier, self._optimizer)
        self._keep, self._manager = keep, None

    @property
    def step(self) -> int:
        """Updates that the trainer has made."""
        return int(self._optimizer.iterations.numpy())

    def save(self) -> str:
        """Writes the present step's checkpoint and then removes those that are too old; returns its prefix.

        Raises:
          CheckpointError: if it cannot be written; earlier ones are intact.
        """
        prefix = f"{self._folder / NAME}-{self.step}"
        existed = pathlib.Path(f"{prefix}.index").exists()
        try:
            if self._manager is None:
                # Not before: what cannot be restored is left as it is.
                _list_checkpoints(self._folder)
                self._remove_orphans()
                self._manager = tf.train.CheckpointManager(
                    self._checkpoint, str(self._folder), max_to_keep=self._keep, checkpoint_name=NAME
                )
            return self._manager.save(checkpoint_number=self.step)
        except (tf.errors.OpError, OSError) as error:
            if not existed:
                self._remove_leftovers(prefix)
            kept = newest(self._folder)
            state = f"the one before it, {kept}, is intact" if kept else "there is none before it"
            raise CheckpointError(
                f"checkpoint {prefix} cannot be written ({_reason(error)}); {state}", prefix, kept
            ) from error

    def restore(self, prefix: str | None = None) -> int:
        """Puts the trainer in the state of a checkpoint and returns its step; 0 if there is none to restore.

        Args:
          prefix: "model_dir/checkpoint-300"; None for the newest.

        Raises:
          CheckpointError: if it is missing, damaged, or of another model or optimizer.
        """
        prefix = prefix or newest(self._folder)
        if prefix is None:
            return 0
        _read(self._checkpoint, prefix, lambda status: status.assert_consumed())
        return self.step

    def _remove_orphans(self):
        """What a save that was killed has left: the index is written last."""
        for path in self._folder.glob(f"{NAME}-*.data-*"):
            if not path.with_suffix(".index").exists():
                self._remove_leftovers(path.with_suffix(""))

    def _remove_leftovers(self, prefix):
        name = pathlib.Path(prefix).name
        for path in (*self._folder.glob(f"{name}.*"), *self._folder.glob(f"{name}_temp*")):
            for part in [*path.glob("*"), path] if path.is_dir() else [path]:
                part.rmdir() if part.is_dir() else part.unlink(missing_ok=True)


def newest(model_dir, *, below: float = math.inf) -> str | None:
    """The prefix of the checkpoint with the highest step in a folder, or with the highest step `below` one.

    By the files themselves: TensorFlow's list of them, the file `checkpoint`, may be missing from a copied folder.
    """
    older = [prefix for prefix in _all(model_dir) if step_of(prefix) < below]
    return older[-1] if older else None


def save_architecture(model_dir, classifier: keras.Model) -> None:
    """Writes the classifier's layers to `model_dir`, so that its checkpoints can be opened by `load_classifier`."""
    with whole_file(pathlib.Path(model_dir) / ARCHITECTURE) as file:
        file.write(classifier.to_json(indent=1).encode())


def load_classifier(model_dir, prefix: str | None = None) -> keras.Model:
    """The classifier of a training run's newest checkpoint, or of `prefix`; the averaged weights if the run keeps them.

    Raises:
      FileNotFoundError: if `model_dir` holds no checkpoint or no architecture.
      CheckpointError: if the checkpoint or the architecture cannot be read.
    """
    prefix = prefix or newest(model_dir)
    architecture = pathlib.Path(model_dir) / ARCHITECTURE
    if prefix is None or not architecture.is_file():
        raise FileNotFoundError(f"{model_dir} holds no training checkpoint with its {ARCHITECTURE}")
    try:
        classifier = keras.models.model_from_json(architecture.read_text(encoding="utf-8"))
        if not isinstance(classifier, keras.Model):
            raise TypeError(f"it holds a {type(classifier).__name__}")
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{architecture} describes no Keras model ({_reason(error)})", prefix) from error
    _read(_checkpoint(classifier), prefix, lambda status: status.assert_existing_objects_matched().expect_partial())
    if any(name.startswith("averages/") for name, _ in tf.train.list_variables(prefix)):
        checkpoint = tf.train.Checkpoint(averages=[variable.value for variable in classifier.trainable_variables])
        _read(checkpoint, prefix, lambda status: status.assert_existing_objects_matched().expect_partial())
    return classifier


def _checkpoint(classifier, optimizer=None):
    """What a checkpoint holds, as lists of variables: their order is the model's, and layers may be renamed."""
    groups = {"classifier": [variable.value for variable in classifier.variables]}
    if optimizer is not None:
        groups["optimizer"] = [variable.value for variable in optimizer.variables]
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of one that scales losses
        if optimizer.use_ema:
            # Written once more under a name of their own, for readers that know no optimizer.
            groups["averages"] = [v.value for v in optimizer.variables if v.path.endswith("_average")]
    return tf.train.Checkpoint(**groups)


def _read(checkpoint, prefix, check):
    try:
        check(checkpoint.restore(prefix))
    # TensorFlow reports damage in many ways, an IndexError for a file cut short among them.
    except (tf.errors.OpError, ValueError, AssertionError, LookupError, RuntimeError, OSError) as error:
        previous = newest(pathlib.Path(prefix).parent, below=step_of(prefix))
        offer = f"; the one before it is {previous}" if previous else ""
        raise CheckpointError(
            f"checkpoint {prefix} cannot be read ({_reason(error)}){offer}", prefix, previous
        ) from error


def _list_checkpoints(folder):
    """Writes TensorFlow's list of checkpoints, a file that may be damaged or missing from a copied folder, anew."""
    prefixes = _all(folder)
    if prefixes:
        lines = [f'model_checkpoint_path: "{pathlib.Path(prefixes[-1]).name}"']
        for prefix in prefixes:
            lines.append(f'all_model_checkpoint_paths: "{pathlib.Path(prefix).name}"')
            # Without its time a checkpoint is never removed.
            lines.append(f"all_model_checkpoint_timestamps: {os.path.getmtime(f'{prefix}.index')}")
        with whole_file(folder / NAME) as file:
            file.write(("\n".join(lines) + "\n").encode())


def _all(model_dir):
    """The prefixes of all checkpoints in a folder, by step."""
    prefixes = [str(path.with_suffix("")) for path in pathlib.Path(model_dir).glob(f"{NAME}-*.index")]
    return sorted((prefix for prefix in prefixes if step_of(prefix) < math.inf), key=step_of)


def step_of(prefix: str) -> float:
    """The step in a checkpoint's name, or infinity for any other name."""
    found = re.fullmatch(rf"{NAME}-(\d+)", pathlib.Path(prefix).name)
    return int(found[1]) if found else math.inf


def _reason(error):
    """The first line of an error, without the graph node that TensorFlow puts in front."""
    text = re.sub(r"^\{\{.*?\}\}( \S+:\S+)?", "", str(error).strip()).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
