"""What an evaluation found."""

import dataclasses

import numpy as np

from tfrobust.threat_models import ThreatModel

# What `Report.fell_to` says instead of an attack's position: the natural image is misclassified; nothing fooled the
# example; an attack did, but the evaluation was resumed from a state of a version that did not keep which.
NATURAL, STANDING, UNKNOWN = -1, -2, -3


@dataclasses.dataclass(frozen=True)
class AttackResult:
    """What one attack left standing.

    Attributes:
      name: the row's name in the suite.
      attack: the attack's full configuration, as text.
      accuracy: fraction in [0, 1] of the examples that are classified correctly under this attack alone.
      worst_case_accuracy: the same under the natural image and every attack up to this one.
      num_attacked: how many examples were attacked: all, or those that still stood. In the latter case there is no
        accuracy of the attack alone, and `accuracy` is the worst case too.
      max_distance: the largest distance that the attack used, in pixel units of the threat's norm.
      seconds: wall-clock time, graph building included.
      mean_loss: the mean cross-entropy of the attacked examples; 0 where there was none.
    """

    name: str
    attack: str
    accuracy: float
    worst_case_accuracy: float
    num_attacked: int
    max_distance: float
    seconds: float
    mean_loss: float


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of `evaluate`; accuracies are fractions in [0, 1].

    Attributes:
      clean_loss: the mean cross-entropy of the natural images.
      precision: of the attacks' gradients, see `precision.Functions`.
      relu_window: of the attacks' gradients, see `precision.AttackTwin`.
      skipped: names of the attacks that were not run, because the classifier has no gradient and they need one.
      robust_accuracy: of the worst case of all attacks and the natural image, for each example.
      x_adv: float32 [N, H, W, C], for each example the first adversarial image that fooled the classifier, or else the
        one with the highest cross-entropy.
      predictions: int64 [N], the classes of `x_adv`.
      clean_predictions: int64 [N], the classes of the natural images.
      fell_to: int64 [N], the position in `attacks` of the first one that fooled the classifier on the example, or else
        `NATURAL`, `STANDING` or `UNKNOWN`.
    """

    clean_accuracy: float
    clean_loss: float
    robust_accuracy: float
    num_examples: int
    seed: int
    precision: str
    threat_model: ThreatModel
    attacks: tuple[AttackResult, ...]
    x_adv: np.ndarray = dataclasses.field(repr=False)
    predictions: np.ndarray = dataclasses.field(repr=False)
    clean_predictions: np.ndarray = dataclasses.field(repr=False)
    fell_to: np.ndarray = dataclasses.field(repr=False)
    skipped: tuple[str, ...] = ()
    relu_window: float = 0.0

    @property
    def gradients(self) -> str:
        """What the attacks' gradients are, in words."""
        return gradient_words(self.precision, self.relu_window)

    def as_json(self) -> dict:
        """Everything but the arrays, as plain dicts, lists and numbers."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields = {name: value for name, value in fields.items() if not isinstance(value, np.ndarray)}
        threat_model = {**dataclasses.asdict(self.threat_model), "bounds": list(self.threat_model.bounds)}
        attacks = [dataclasses.asdict(attack) for attack in self.attacks]
        return {**fields, "threat_model": threat_model, "attacks": attacks, "skipped": list(self.skipped)}


def gradient_words(precision: str, relu_window: float) -> str:
    """What the gradients of attacks are: their precision, and windows if there are any."""
    return f"{precision} through ReLU windows up to {relu_window:g}" if relu_window else precision
