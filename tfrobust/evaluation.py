"""Robust accuracy: attack a classifier, check what the attacks return, count what still stands.

    report = evaluate(classifier, images, labels, suites.quick(ThreatModel("linf", 0.3)), seed=0)
    report.robust_accuracy                     # of the worst case over all attacks, example by example

No attack is believed: distance, range and finiteness of every adversarial example are checked, and its prediction is
the classifier's own in float32, whatever the attack's gradients were computed with.
"""

import time
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from tfrobust import losses, seeds
from tfrobust.attacks.base import Attack, LogitsFn, NotDifferentiableError, describe
from tfrobust.checks import check_examples, checked_seed, require_integer, require_named
from tfrobust.evaluation_state import EvaluationState, Progress, fingerprint
from tfrobust.gradient_agreement import agreeing_functions
from tfrobust.precision import Precision
from tfrobust.reports import NATURAL, AttackResult, Report


class InvalidAdversarialExampleError(RuntimeError):
    """An attack returned images outside of its threat model."""


def evaluate(
    classifier: keras.Model | LogitsFn,
    images: np.ndarray,
    labels: np.ndarray,
    attacks: Mapping[str, Attack],
    *,
    seed: int,
    batch_size: int = 100,
    precision: Precision = "auto",
    relu_window: float = 0.0,
    only_standing: bool = False,
    labels_are_targets: bool = False,
    state: EvaluationState | None = None,
    on_clean: Callable[[float, float], None] | None = None,
    on_result: Callable[[AttackResult], None] | None = None,
    on_skip: Callable[[str, str], None] | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
    on_images: Callable[[str, np.ndarray], None] | None = None,
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
      precision: of the attacks' gradients; see `precision.AttackTwin`. "auto" takes bfloat16 only where it leads
        attacks the same way, see `gradient_agreement`. Not used where `classifier` is no keras.Model.
      relu_window: 0, or how far in pixel units the attacks' gradients look beyond the threshold of the first ReLU;
        with twice epsilon they see all that a pixel can do. See `relu_windows`. A rounding error draws another width.
      only_standing: attack only what every attack before has left standing, as AutoAttack does. The worst case is the
        same, and cheaper; the accuracy under a later attack alone is not known then.
      labels_are_targets: the labels are classes to reach, and so the attacks may lead toward what they are called with.
        What the report calls accuracy is the part of the images that are of their targets' classes then.
      state: where the evaluation is saved as it goes, and resumed from.
      on_clean: called with the clean accuracy and its seconds, before the attacks.
      on_result: called after each attack; for those that a resumed evaluation had behind it too.
      on_skip: called with the name of an attack that cannot be run and the reason.
      on_progress: called with the attack's name, examples done and their number, after each batch.
      on_images: called with each attack's name and its own images, float32 [N, H, W, C], natural where it did not
        attack. The report has the worst case of all attacks and the natural image instead.

    An attack that needs gradients of a classifier that has none is skipped; the others are run.

    Raises:
      NotDifferentiableError: if all attacks need gradients and there are none.
      ValueError: for images that are not finite or out of bounds, labels that do not fit, attacks of several threat
        models or toward the labels, a classifier that does not take the images or does not return logits, or a state of
        another evaluation.
      InvalidAdversarialExampleError: if an attack breaks its threat model.
    """
    require_named(
        attacks, "threat", "norm-bounded ones, which have a threat model", labels_are_targets=labels_are_targets
    )
    threat, seed = _common_threat(attacks), checked_seed(seed)
    images, labels = check_examples(images, labels, threat.bounds)
    require_integer("batch_size", batch_size, 1)
    judge_fn, gradient_fn, precision = agreeing_functions(
        classifier, precision, images, labels, threat, batch_size=batch_size, relu_window=relu_window
    )
    examples = _Examples(images, labels, threat, judge_fn, batch_size)

    start, everything = time.perf_counter(), np.arange(len(images))
    clean_predictions, loss, _, logits = examples.judge("the clean images", images, everything)
    progress = Progress(images, labels)
    clean, _ = progress.worst.update(everything, images, clean_predictions, loss, NATURAL)
    clean_loss = float(np.mean(loss))
    if on_clean:
        on_clean(clean, time.perf_counter() - start)
    if state is not None:
        settings = (seed, precision, only_standing, *([float(relu_window)] if relu_window else []))
        state.open(fingerprint(images, labels, logits, attacks, gradient_fn, settings))
        state.resume(progress)
    skipped = []
    for name, attack in attacks.items():
        if name not in progress.results:
            done, seconds = progress.behind(name)
            start = time.perf_counter() - seconds
            indices = np.flatnonzero(progress.worst.standing) if only_standing else everything
            try:
                for batch, x_adv in examples.perturb(name, attack, gradient_fn, seed, indices[done:]):
                    progress.add(name, batch, x_adv, time.perf_counter() - start)
                    if on_progress:
                        on_progress(name, progress.done, len(indices))
                    if state is not None:
                        state.save(progress)
            except NotDifferentiableError as error:
                skipped.append(name)
                if len(skipped) == len(attacks):
                    raise
                if on_skip:
                    on_skip(name, str(error))
                continue
            predictions, loss, distance, _ = examples.judge(name, progress.x_adv, indices)
            accuracy, worst_case = progress.worst.update(
                indices, progress.x_adv[indices], predictions, loss, position=len(progress.results)
            )
            if on_images:
                on_images(name, progress.x_adv)
            progress.finish(
                AttackResult(
                    name=name,
                    attack=describe(attack),
                    accuracy=worst_case if only_standing else accuracy,
                    worst_case_accuracy=worst_case,
                    num_attacked=len(indices),
                    max_distance=float(distance.max(initial=0.0)),
                    seconds=time.perf_counter() - start,
                    mean_loss=float(np.mean(loss)) if len(loss) else 0.0,
                )
            )
            if state is not None:
                state.save(progress, now=True)
        if on_result:
            on_result(progress.results[name])
    return Report(
        clean_accuracy=clean,
        clean_loss=clean_loss,
        robust_accuracy=progress.worst.accuracy,
        num_examples=len(images),
        seed=seed,
        precision=precision,
        threat_model=threat,
        attacks=tuple(progress.results.values()),
        x_adv=progress.worst.x_adv,
        predictions=progress.worst.predictions,
        clean_predictions=clean_predictions,
        fell_to=progress.worst.fell_to,
        skipped=tuple(skipped),
        relu_window=float(relu_window),
    )


class _Examples:
    """The examples of an evaluation, attacked and judged in batches of one shape, so that nothing is traced twice."""

    def __init__(self, images, labels, threat, judge_fn, batch_size):
        self._images, self._labels, self._threat = images, labels, threat
        self._judge_fn, self._batch_size = judge_fn, batch_size

        @tf.function(autograph=False)
        def look(x, y, x_clean):
            logits = tf.cast(judge_fn(x), tf.float32)
            return tf.argmax(logits, axis=-1), losses.cross_entropy(logits, y), threat.distance(x, x_clean), logits

        self._look = look

    def perturb(self, name, attack, gradient_fn, seed, indices):
        """Yields batches of `indices` with the attack's images of them, [B, H, W, C]."""

        @tf.function(autograph=False)
        def perturb(x, y, index):
            return attack(gradient_fn(), x, y, seed=seeds.per_example(seed, index), judge_fn=self._judge_fn)

        traced = None
        for batch, count in self._batches(indices):
            arguments = [tf.convert_to_tensor(part) for part in (self._images[batch], self._labels[batch], batch)]
            # All batches have one shape. Called through its graph: TensorFlow warns of functions that are traced again
            # and again, as one is here for each attack.
            traced = traced or perturb.get_concrete_function(*arguments)
            x_adv = np.asarray(traced(*arguments))
            if x_adv.shape != self._images[batch].shape:
                raise InvalidAdversarialExampleError(
                    f"{name} returned images of shape {x_adv.shape}, expected {self._images[batch].shape}"
                )
            yield batch[:count], x_adv[:count]

    def judge(self, name, x_adv, indices):
        """Predictions, losses, distances and logits of the images x_adv [N, H, W, C] at `indices`, all checked."""
        parts = [[], [], [], []]
        for batch, count in self._batches(indices):
            arguments = [tf.convert_to_tensor(values[batch]) for values in (x_adv, self._labels, self._images)]
            # Through its graph, as in `perturb`; one that has been traced is found again.
            found = self._look.get_concrete_function(*arguments)(*arguments)
            for part, values in zip(parts, found, strict=True):
                part.append(values.numpy()[:count])
        predictions, loss, distance, logits = (np.concatenate(part) if part else np.zeros(0) for part in parts)
        _verify(name, x_adv[indices], distance, self._threat)
        _require_finite(name, loss)
        return predictions, loss, distance, logits

    def _batches(self, indices):
        """The indices in batches of one size, with the number of those that count: a last batch that is not full is
        filled up with copies of its last index."""
        number = -(-len(indices) // self._batch_size)
        size = -(-len(indices) // max(number, 1))
        for start in range(0, len(indices), max(size, 1)):
            batch = np.minimum(np.arange(start, start + size), len(indices) - 1)
            yield indices[batch], min(size, len(indices) - start)


def require_finite_images(name: str, x_adv: np.ndarray) -> None:
    """Raises InvalidAdversarialExampleError if pixels that the attack `name` returned are NaN or infinite."""
    bad = int(np.sum(~np.isfinite(x_adv).reshape(len(x_adv), -1).all(axis=1)))
    if bad:
        raise InvalidAdversarialExampleError(
            f"{name} returned images that are not finite, {bad} of {len(x_adv)}, as it does where gradients are not"
        )


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
    if not len(x_adv):
        return
    low, high = threat.bounds
    require_finite_images(name, x_adv)
    if x_adv.min() < low or x_adv.max() > high:
        raise InvalidAdversarialExampleError(
            f"{name} returned pixels in [{x_adv.min():g}, {x_adv.max():g}], allowed are {list(threat.bounds)}"
        )
    if distance.max() > threat.epsilon + threat.tolerance:
        raise InvalidAdversarialExampleError(
            f"{name} moved an image by {distance.max():.8g} in {threat.norm}, allowed is {threat.epsilon:g}"
        )
