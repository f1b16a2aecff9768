"""Robust accuracy: attack a classifier, check what the attacks return, count what still stands.

    report = evaluate(classifier, images, labels, suites.quick(ThreatModel("linf", 0.3)), seed=0)
    report.robust_accuracy                     # of the worst case over all attacks, example by example

No attack is believed: distance, range and finiteness of every adversarial example are checked, and its prediction is
the classifier's own in float32, whatever the attack's gradients were computed with.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from tfrobust import losses, seeds
from tfrobust.attacks.base import Attack, LogitsFn, describe
from tfrobust.checks import check_classifier, check_examples
from tfrobust.precision import AttackTwin, Precision
from tfrobust.threat_models import ThreatModel


class InvalidAdversarialExampleError(RuntimeError):
    """An attack returned images outside of its threat model."""


@dataclasses.dataclass(frozen=True)
class AttackResult:
    """What one attack left standing.

    Attributes:
      name: the row's name in the suite.
      attack: the attack's full configuration, as text.
      accuracy: fraction in [0, 1] of the examples that are classified correctly under this attack alone.
      worst_case_accuracy: the same under the natural image and every attack up to this one.
      max_distance: the largest distance that the attack used, in pixel units of the threat's norm.
      seconds: wall-clock time, graph building included.
    """

    name: str
    attack: str
    accuracy: float
    worst_case_accuracy: float
    max_distance: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of `evaluate`; accuracies are fractions in [0, 1].

    Attributes:
      robust_accuracy: of the worst case of all attacks and the natural image, for each example.
      x_adv: float32 [N, H, W, C], for each example the first adversarial image that fooled the classifier, or else the
        one with the highest cross-entropy.
      predictions: int64 [N], the classes of `x_adv`.
    """

    clean_accuracy: float
    robust_accuracy: float
    num_examples: int
    seed: int
    precision: str
    threat_model: ThreatModel
    attacks: tuple[AttackResult, ...]
    x_adv: np.ndarray = dataclasses.field(repr=False)
    predictions: np.ndarray = dataclasses.field(repr=False)

    def as_json(self) -> dict:
        """Everything but the arrays, as plain dicts, lists and numbers."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del fields["x_adv"], fields["predictions"]
        threat_model = {**dataclasses.asdict(self.threat_model), "bounds": list(self.threat_model.bounds)}
        return {**fields, "threat_model": threat_model, "attacks": [dataclasses.asdict(a) for a in self.attacks]}


def evaluate(
    classifier: keras.Model | LogitsFn,
    images: np.ndarray,
    labels: np.ndarray,
    attacks: Mapping[str, Attack],
    *,
    seed: int,
    batch_size: int = 100,
    precision: Precision = "auto",
    on_clean: Callable[[float, float], None] | None = None,
    on_result: Callable[[AttackResult], None] | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Runs every attack on every example and reports what stands.

    The result does not depend on `batch_size`: each example has its own noise, and a last batch that is not full is
    filled up with copies whose results are dropped.

    Args:
      classifier: a keras.Model, or any function from pixels to logits; it is called in inference mode.
      images: float32 [N, H, W, C] within the bounds of the attacks' threat model.
      labels: int [N].
      attacks: at least one, all with one threat model; see `suites`.
      seed: of all noise.
      batch_size: examples for each compiled call.
      precision: of the attacks' gradients; see `precision.AttackTwin`. Not used where `classifier` is no keras.Model.
      on_clean: called with the clean accuracy and its seconds, before the attacks.
      on_result: called after each attack.
      on_progress: called with the attack's name, examples done and N, after each batch.

    Raises:
      ValueError: for images that are not finite or out of bounds, labels that do not fit, attacks of several threat
        models, or a classifier that does not take the images or does not return logits.
      InvalidAdversarialExampleError: if an attack breaks its threat model.
    """
    threat = _common_threat(attacks)
    images, labels = check_examples(images, labels, threat.bounds)
    if isinstance(classifier, keras.Model):
        twin = AttackTwin(classifier, precision)
        judge_fn, gradient_fn, precision = (lambda x: classifier(x, training=False)), twin.logits_fn, twin.precision
    else:
        judge_fn, gradient_fn, precision = classifier, (lambda: classifier), "float32"
    batches = _Batches(images, labels, batch_size)
    check_classifier(judge_fn, images[: batches.size], labels)

    @tf.function
    def judge(x, y, x_clean):
        logits = tf.cast(judge_fn(x), tf.float32)
        return tf.argmax(logits, axis=-1), losses.cross_entropy(logits, y), threat.distance(x, x_clean)

    # Clean images are adversarial examples of distance 0: the start of the worst case.
    worst, start = _WorstCase(images, labels), time.perf_counter()
    judged = batches.run(judge, images)
    _require_finite("the clean images", judged[1])
    clean, _ = worst.update(images, *judged)
    if on_clean:
        on_clean(clean, time.perf_counter() - start)
    results = []
    for name, attack in attacks.items():
        start = time.perf_counter()

        @tf.function
        def perturb(x, y, index, attack=attack):
            return attack(gradient_fn(), x, y, seed=seeds.per_example(seed, index), judge_fn=judge_fn)

        x_adv = batches.perturb(
            name, perturb, lambda done, name=name: on_progress and on_progress(name, done, len(images))
        )
        predictions, loss, distance = batches.run(judge, x_adv)
        _verify(name, x_adv, distance, threat)
        _require_finite(name, loss)
        accuracy, worst_case_accuracy = worst.update(x_adv, predictions, loss, distance)
        seconds = time.perf_counter() - start
        result = AttackResult(name, describe(attack), accuracy, worst_case_accuracy, float(distance.max()), seconds)
        results.append(result)
        if on_result:
            on_result(result)
    return Report(
        clean_accuracy=clean,
        robust_accuracy=worst.accuracy,
        num_examples=len(images),
        seed=seed,
        precision=precision,
        threat_model=threat,
        attacks=tuple(results),
        x_adv=worst.x_adv,
        predictions=worst.predictions,
    )


class _Batches:
    """Runs compiled functions over all examples in batches of one fixed shape, so that nothing is traced twice."""

    def __init__(self, images, labels, batch_size):
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, got {batch_size!r}")
        self.images, self.labels = images, labels
        self.size = min(batch_size, len(images))

    def run(self, fn, x):
        """`fn(x, labels, images)` of all examples: a list of arrays [N, ...]."""
        parts = [[part.numpy() for part in fn(x[i], self.labels[i], self.images[i])] for i in self._indices()]
        return [np.concatenate(part)[: len(x)] for part in zip(*parts, strict=True)]

    def perturb(self, name, fn, on_batch):
        """`fn(images, labels, index)` of all examples: an array [N, H, W, C]."""
        parts = []
        for i in self._indices():
            x_adv = np.asarray(fn(self.images[i], self.labels[i], i))
            if x_adv.shape != self.images[i].shape:
                raise InvalidAdversarialExampleError(
                    f"{name} returned images of shape {x_adv.shape}, expected {self.images[i].shape}"
                )
            parts.append(x_adv)
            on_batch(min(len(parts) * self.size, len(self.images)))
        return np.concatenate(parts)[: len(self.images)]

    def _indices(self):
        for start in range(0, len(self.images), self.size):
            yield np.minimum(np.arange(start, start + self.size), len(self.images) - 1)


class _WorstCase:
    """For each example the first image that fools the classifier, or else the one with the highest loss."""

    def __init__(self, images, labels):
        self.labels = labels
        self.x_adv = images.copy()
        self.predictions = labels.copy()
        self.loss = np.full(len(images), -np.inf)

    @property
    def accuracy(self):
        return float(np.mean(self.predictions == self.labels))

    def update(self, x_adv, predictions, loss, distance):
        """Takes in an attack's result; returns its accuracy and the running worst case."""
        standing = self.predictions == self.labels
        better = standing & ((predictions != self.labels) | (loss > self.loss))
        self.x_adv[better], self.predictions[better] = x_adv[better], predictions[better]
        self.loss[better] = loss[better]
        return float(np.mean(predictions == self.labels)), self.accuracy


def _common_threat(attacks):
    threats = {attack.threat for attack in attacks.values()}
    if len(threats) != 1:
        raise ValueError(f"attacks must be one or more of a single threat model, got {sorted(map(str, threats))}")
    return threats.pop()


def _require_finite(name, loss):
    """An argmax over NaN is some class all the same, and would count as one that stands."""
    bad = int(np.sum(~np.isfinite(loss)))
    if bad:
        raise ValueError(f"classifier must return finite logits, got NaN or infinity for {bad} images under {name}")


def _verify(name, x_adv, distance, threat):
    low, high = threat.bounds
    if not np.isfinite(x_adv).all():
        raise InvalidAdversarialExampleError(f"{name} returned images that are not finite")
    if x_adv.min() < low or x_adv.max() > high:
        raise InvalidAdversarialExampleError(
            f"{name} returned pixels in [{x_adv.min():g}, {x_adv.max():g}], allowed are {list(threat.bounds)}"
        )
    if distance.max() > threat.epsilon + threat.tolerance:
        raise InvalidAdversarialExampleError(
            f"{name} moved an image by {distance.max():.8g} in {threat.norm}, allowed is {threat.epsilon:g}"
        )
