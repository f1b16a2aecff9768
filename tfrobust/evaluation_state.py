"""How far an evaluation has come, kept in a file from which it goes on after a kill.

state = EvaluationState("evaluation.state.npz")
evaluate(classifier, images, labels, attacks, seed=0, state=state)      # the same call again goes on
"""

import dataclasses
import hashlib
import json
import pathlib
import time
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfrobust.attacks.base import Attack, NotDifferentiableError, describe, input_gradient
from tfrobust.attacks.transfer import Transfer
from tfrobust.held_code import held_code
from tfrobust.losses import margin
from tfrobust.reports import NATURAL, STANDING, UNKNOWN, AttackResult
from tfrobust.whole_files import whole_file

# Seconds from one save to the next within an attack.
SAVE_EVERY = 20.0
# Images by whose logits a surrogate is told from others.
SURROGATES_SEE = 100
# And those by whose gradients the model is told from one with other gradients.
GRADIENTS_SEE = 10


class WorstCase:
    """For each example the first image that fools the classifier, or else the one with the highest loss.

    Attributes:
      x_adv: float32 [N, H, W, C].
      predictions: int64 [N], the classes of x_adv.
      loss: float32 [N].
      fell_to: int64 [N], see `Report`.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.labels = labels
        self.x_adv = images.copy()
        self.predictions = labels.copy()
        self.loss = np.full(len(images), -np.inf, np.float32)
        self.fell_to = np.full(len(images), STANDING, np.int64)

    @property
    def standing(self) -> np.ndarray:
        """Which examples nothing has fooled yet, bool [N]."""
        return self.predictions == self.labels

    @property
    def accuracy(self) -> float:
        """Fraction of the examples that stand."""
        return float(np.mean(self.standing))

    def update(self, indices, x_adv, predictions, loss, position: int) -> tuple[float, float]:
        """Takes in an attack's result on the examples `indices`, each argument [len(indices), ...].

        Args:
          position: of the attack in the report, `NATURAL` for the natural images.

        Returns:
          The fraction of those that are classified correctly (1 where there are none), and the running worst case.
        """
        wrong = predictions != self.labels[indices]
        self.fell_to[indices[self.standing[indices] & wrong]] = position
        better = self.standing[indices] & (wrong | (loss > self.loss[indices]))
        chosen = indices[better]
        self.x_adv[chosen], self.predictions[chosen] = x_adv[better], predictions[better]
        self.loss[chosen] = loss[better]
        return float(np.mean(~wrong)) if len(indices) else 1.0, self.accuracy


class Progress:
    """Where an evaluation stands: attacks that are finished, and examples done in the one that is not.

    Attributes:
      worst: over the natural images and the finished attacks.
      results: of the finished attacks, by name.
      under_way: the attack that is not, by name; "" before its first batch, None in files that do not tell.
      done: examples that it has behind it.
      x_adv: its images, [N, H, W, C]; natural ones where it has none yet.
      seconds: that it has taken.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self._images = images
        self.worst = WorstCase(images, labels)
        self.results: dict[str, AttackResult] = {}
        self._begin()

    def behind(self, name: str) -> tuple[int, float]:
        """Examples that an attack which is not finished has behind it, and the seconds that it has taken."""
        return (self.done, self.seconds) if self.under_way in (name, None) else (0, 0.0)

    def add(self, name: str, indices: np.ndarray, x_adv: np.ndarray, seconds: float) -> None:
        """The attack under way has made images of some more examples."""
        self.under_way = name
        self.x_adv[indices] = x_adv
        self.done += len(indices)
        self.seconds = seconds

    def finish(self, result: AttackResult) -> None:
        """The attack under way is finished."""
        self.results[result.name] = result
        self._begin()

    def _begin(self):
        self.under_way, self.done, self.seconds, self.x_adv = "", 0, 0.0, self._images.copy()


class EvaluationState:
    """The file; it is written under another name and renamed, so that it is always whole.

    Args:
      path: of a .npz file; its folder is made when it is first written.
    """

    def __init__(self, path: str | pathlib.Path):
        self._path = pathlib.Path(path)
        self._fingerprint = ""
        self._saved = time.monotonic()

    def open(self, fingerprint: str) -> None:
        """Says which evaluation this is: results of another one are neither used nor overwritten.

        Raises:
          ValueError: if the file exists and is that of another evaluation, or no such file at all.
        """
        self._fingerprint = fingerprint
        if not self._path.exists():
            return
        try:
            with np.load(self._path) as file:
                found = str(file["fingerprint"])
        except Exception as error:
            raise ValueError(f"state must be a file that an evaluation has saved, got {self._path}") from error
        if found != fingerprint:
            raise ValueError(
                f"state {self._path} is that of another evaluation (other images, model, attacks, seed, precision or "
                "windows): delete it or name another file"
            )

    def resume(self, progress: Progress) -> None:
        """Brings a `progress` that has only the natural images to where the file is; leaves it where there is none."""
        if not self._path.exists():
            return
        with np.load(self._path) as file:
            worst = progress.worst
            worst.x_adv, worst.predictions, worst.loss = (file[name] for name in ("worst_x_adv", "predictions", "loss"))
            if "fell_to" in file:
                worst.fell_to = file["fell_to"]
            else:
                worst.fell_to[~worst.standing & (worst.fell_to != NATURAL)] = UNKNOWN
            results = (AttackResult(**fields) for fields in json.loads(str(file["results"])))
            progress.results = {result.name: result for result in results}
            progress.x_adv, progress.done, progress.seconds = file["x_adv"], int(file["done"]), float(file["seconds"])
            progress.under_way = str(file["under_way"]) if "under_way" in file else None

    def save(self, progress: Progress, now: bool = False) -> None:
        """Saves `progress` if it was not saved for a while, or `now`."""
        if not now and time.monotonic() - self._saved < SAVE_EVERY:
            return
        values = {
            "fingerprint": self._fingerprint,
            "results": json.dumps([dataclasses.asdict(result) for result in progress.results.values()]),
            "under_way": progress.under_way,
            "done": progress.done,
            "seconds": progress.seconds,
            "worst_x_adv": progress.worst.x_adv,
            "predictions": progress.worst.predictions,
            "loss": progress.worst.loss,
            "fell_to": progress.worst.fell_to,
            "x_adv": progress.x_adv,
        }
        with whole_file(self._path) as file:
            np.savez(file, **values)
        self._saved = time.monotonic()


def fingerprint(images, labels, logits, attacks: Mapping[str, Attack], gradient_fn, settings) -> str:
    """What tells one evaluation from another: data, attacks and settings, the model and surrogates by their logits, and
    the model by its gradients, too.

    Args:
      images, labels, logits: the arrays of all examples.
      gradient_fn: see `precision.Functions`.
      settings: whatever else matters and can be written as JSON.
    """
    digest = hashlib.sha256()
    surrogates = [attack.surrogate for attack in attacks.values() if isinstance(attack, Transfer)]
    some = images[:SURROGATES_SEE]
    # The logits' means are rounded far above what the size of a batch changes in them.
    for values in (logits, *(np.asarray(surrogate(some)) for surrogate in surrogates)):
        digest.update(np.argmax(values, axis=1).tobytes())
        digest.update(np.round(np.mean(values, axis=0, dtype=np.float64), 2).tobytes())
    digest.update(_gradients(gradient_fn, images[:GRADIENTS_SEE], labels[:GRADIENTS_SEE]))
    for array in (images, labels):
        digest.update(np.ascontiguousarray(array).tobytes())
    attacks = [[name, describe(attack), *held_code(attack)] for name, attack in attacks.items()]
    digest.update(json.dumps([attacks, settings]).encode())
    return digest.hexdigest()


def _gradients(gradient_fn, images, labels):
    """How long the gradients of these images are, and how they lie to one direction, rounded."""
    try:
        gradients = input_gradient(gradient_fn(), margin, tf.constant(images), tf.constant(labels)).numpy()
    except NotDifferentiableError:
        return b"none"
    flat = gradients.reshape(len(images), -1).astype(np.float64)
    direction = np.random.default_rng(0).normal(size=flat.shape[1])
    length = np.linalg.norm(flat, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = flat @ direction / (length * np.linalg.norm(direction))
        return np.round(np.log2(length)).tobytes() + np.round(cosine, 2).tobytes()
