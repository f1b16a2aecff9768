"""How far the nearest adversarial images are: minimum-norm attacks on every example, checked and summed up.

report = evaluate_minimum_norm(classifier, images, labels, suites.min_norm("l2"), seed=0)
report.median_distance                 # of the nearest image over all attacks, example by example
report.accuracy_at([0.5, 1.0, 2.0])    # fraction of the examples with no adversarial image within these distances
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfrobust import frozen_weights, seeds
from tfrobust.attacks.base import LogitsFn, describe
from tfrobust.attacks.minimum_norm import MinimumNormAttack
from tfrobust.checks import check_examples, checked_functions, checked_seed, require_integer, require_named
from tfrobust.evaluation import InvalidAdversarialExampleError, require_finite_images
from tfrobust.precision import Precision
from tfrobust.threat_models import ThreatModel


@dataclasses.dataclass(frozen=True)
class Distances:
    """The nearest adversarial image of every example that was found.

    Attributes:
      name: of the attack, or "nearest of all".
      attack: its full configuration, as text.
      distance: float32 [N], in pixel units of the norm; 0 where the image is misclassified as it is, infinity where
        none was found.
      seconds: wall-clock time, graph building included.
    """

    name: str
    attack: str
    distance: np.ndarray = dataclasses.field(repr=False)
    seconds: float

    @property
    def success_rate(self) -> float:
        """Fraction of the examples with an adversarial image, those that are misclassified as they are included."""
        return float(np.mean(np.isfinite(self.distance)))

    @property
    def median_distance(self) -> float:
        """Median over all examples; infinite where fewer than half have an adversarial image."""
        return float(np.median(self.distance))

    @property
    def mean_distance(self) -> float:
        """Mean over the examples that have one; NaN where none has."""
        found = self.distance[np.isfinite(self.distance)]
        return float(np.mean(found)) if len(found) else float("nan")

    def accuracy_at(self, epsilons: Sequence[float]) -> np.ndarray:
        """Fraction of the examples with no adversarial image at any distance up to each epsilon, [len(epsilons)]."""
        return np.array([np.mean(self.distance > epsilon) for epsilon in epsilons])

    def as_json(self) -> dict:
        """Names and numbers without the array; what is not finite is None."""
        numbers = {name: getattr(self, name) for name in ("success_rate", "median_distance", "mean_distance")}
        numbers = {name: value if np.isfinite(value) else None for name, value in numbers.items()}
        return {"name": self.name, "attack": self.attack, **numbers, "seconds": self.seconds}


@dataclasses.dataclass(frozen=True)
class MinimumNormReport:
    """The result of `evaluate_minimum_norm`.

    Attributes:
      nearest: over all attacks, example by example; x_adv holds those images, float32 [N, H, W, C], natural ones where
        none was found, and `predictions` their classes, int64 [N].
      clean_predictions: int64 [N], the classes of the natural images.
    """

    norm: str
    clean_accuracy: float
    num_examples: int
    seed: int
    precision: str
    attacks: tuple[Distances, ...]
    nearest: Distances
    x_adv: np.ndarray = dataclasses.field(repr=False)
    predictions: np.ndarray = dataclasses.field(repr=False)
    clean_predictions: np.ndarray = dataclasses.field(repr=False)

    def as_json(self) -> dict:
        """Everything but the arrays, as plain dicts, lists and numbers."""
        return {
            "norm": self.norm,
            "clean_accuracy": self.clean_accuracy,
            "num_examples": self.num_examples,
            "seed": self.seed,
            "precision": self.precision,
            "attacks": [attack.as_json() for attack in self.attacks],
            "nearest": self.nearest.as_json(),
        }


def evaluate_minimum_norm(
    classifier: keras.Model | LogitsFn,
    images: np.ndarray,
    labels: np.ndarray,
    attacks: Mapping[str, MinimumNormAttack],
    *,
    seed: int,
    batch_size: int = 100,
    precision: Precision = "auto",
    on_result: Callable[[Distances], None] | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> MinimumNormReport:
    """Looks for the nearest adversarial image of every example with every attack.

    These images lie on the decision boundary, which is elsewhere in a lower precision: whatever the precision of the
    gradients, the classifier itself, in float32, judges every image before it counts as nearer. Each image that an
    attack returns is checked again: its class, its range, and the distance that was claimed.

    Args:
      classifier: a keras.Model, or any function from pixels to logits; it is called in inference mode.
      images: float32 [N, H, W, C] within the attacks' bounds.
      labels: int [N].
      attacks: at least one, all of one norm and bounds.
      seed: of all noise.
      batch_size: examples for each compiled call.
      precision: of the attacks' gradients; see `precision.AttackTwin`. Medians in bfloat16 were 0.8 % farther at most
        than in float32 on an undefended MNIST network, and up to 27 % nearer on a robust one, whose masked gradients
        profit from a little noise. Not used where `classifier` is no keras.Model.
      on_result: called after each attack.
      on_progress: called with the attack's name, examples done and N, after each batch.

    Raises:
      ValueError: as for `evaluation.evaluate`.
      InvalidAdversarialExampleError: if an attack returns an image that is not what it claims.
    """
    require_named(attacks, "minimize", "minimum-norm ones, which have no budget")
    seed = checked_seed(seed)
    kinds = {(attack.norm, attack.bounds) for attack in attacks.values()}
    if len(kinds) != 1:
        raise ValueError(f"attacks must be one or more of a single norm and bounds, got {sorted(map(str, kinds))}")
    norm, bounds = kinds.pop()
    images, labels = check_examples(images, labels, bounds)
    require_integer("batch_size", batch_size, 1)
    judge_fn, gradient_fn, precision = checked_functions(
        classifier, precision, images[:batch_size], labels, frozen=frozen_weights.pay(batch_size, len(images))
    )
    threat = ThreatModel(norm, 0.0, bounds)

    @tf.function(autograph=False)
    def look(x_adv, x):
        return tf.argmax(judge_fn(x_adv), axis=-1), threat.distance(x_adv, x)

    def judge(*arrays):
        # Through its graph, as below; one that has been traced is found again.
        tensors = [tf.convert_to_tensor(array) for array in arrays]
        return [np.array(part) for part in look.get_concrete_function(*tensors)(*tensors)]

    results = []
    batches = [np.arange(i, min(i + batch_size, len(images))) for i in range(0, len(images), batch_size)]
    clean_predictions = np.concatenate([judge(images[batch], images[batch])[0] for batch in batches])
    nearest, best = images.copy(), np.full(len(images), np.inf, np.float32)
    nearest_predictions = clean_predictions.copy()
    for name, attack in attacks.items():
        start, found = time.perf_counter(), []

        traced = {}

        @tf.function(autograph=False)
        def minimize(x, y, index, attack=attack):
            return attack.minimize(gradient_fn(), x, y, seed=seeds.per_example(seed, index), judge_fn=judge_fn)

        for batch in batches:
            x, y = images[batch], labels[batch]
            arguments = [tf.convert_to_tensor(part) for part in (x, y, batch)]
            # Called through its graph, of which the last batch may need one of its own: TensorFlow warns of functions
            # that are traced again and again, as one is here for each attack.
            if len(batch) not in traced:
                traced[len(batch)] = minimize.get_concrete_function(*arguments)
            x_adv, claimed, success = (np.array(part) for part in traced[len(batch)](*arguments))
            predictions, distance = judge(x_adv, x)
            _check(name, x_adv, distance, claimed, success, predictions != y, bounds)
            # Also for an attack that wants more than another class, such as a lead of kappa.
            as_it_is = clean_predictions[batch] != y
            x_adv[as_it_is], distance[as_it_is], success[as_it_is] = x[as_it_is], 0, True
            predictions[as_it_is] = clean_predictions[batch][as_it_is]
            found.append(np.where(success, distance, np.inf))
            nearer = success & (distance < best[batch])
            nearest[batch[nearer]], best[batch[nearer]] = x_adv[nearer], distance[nearer]
            nearest_predictions[batch[nearer]] = predictions[nearer]
            if on_progress:
                on_progress(name, batch[-1] + 1, len(images))
        distances = np.concatenate(found).astype(np.float32)
        results.append(Distances(name, describe(attack), distances, time.perf_counter() - start))
        if on_result:
            on_result(results[-1])
    seconds = sum(result.seconds for result in results)
    return MinimumNormReport(
        norm=norm,
        clean_accuracy=float(np.mean(clean_predictions == labels)),
        num_examples=len(images),
        seed=seed,
        precision=precision,
        attacks=tuple(results),
        nearest=Distances("nearest of all", "", best, seconds),
        x_adv=nearest,
        predictions=nearest_predictions,
        clean_predictions=clean_predictions,
    )


def _check(name, x_adv, distance, claimed, success, wrong, bounds):
    """An image that is taken for adversarial must be so, where the attack says it is."""
    found = x_adv[success]
    require_finite_images(name, x_adv)
    if len(found) and (found.min() < bounds[0] or found.max() > bounds[1]):
        raise InvalidAdversarialExampleError(f"{name} returned pixels outside of {list(bounds)}")
    if np.any(success & ~wrong):
        raise InvalidAdversarialExampleError(
            f"{name} counts {int(np.sum(success & ~wrong))} images as adversarial that are classified correctly"
        )
    gap = np.abs(distance - claimed)[success]
    if len(gap) and np.any(gap > 1e-4 * np.maximum(1.0, distance[success])):
        raise InvalidAdversarialExampleError(f"{name} is off by {gap.max():g} in the distance of an image")
