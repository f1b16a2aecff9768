"""The attacks of eval.imagenet in pixels or in normalised units, and what is counted: ranks of labels and targets."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from eval import batched_logits, common, tables
from tfrobust import losses, precision, top_k
from tfrobust.attacks import PGD, CarliniWagnerL2
from tfrobust.attacks.base import Attack
from tfrobust.attacks.minimum_norm import WithinBall
from tfrobust.datasets import Arrays
from tfrobust.models.imagenet import CHANNEL_DEVIATION, CHANNEL_MEAN
from tfrobust.threat_models import ThreatModel

UNITS = ("pixels", "normalized")
# Behind the columns that name a row.
MEASURES = {
    **{"top1": float, "top5": float, "target_top1": float, "target_top5": float},
    **{"mean_l2": float, "mean_linf": float, "seconds": float},
}


class View(NamedTuple):
    """Classifier and images as an attack sees them.

    Attributes:
      classifier: of images in these units.
      images: float32 [N, H, W, 3] in these units.
      bounds: of the images and what an attack may make of them.
    """

    classifier: object
    images: np.ndarray
    bounds: tuple[float, float]


def view(units: str, classifier, images: np.ndarray, epsilon: float) -> View:
    """Pixels, which attacks keep in [0, 1]; or pixels less ImageNet's mean over its deviation by channel, which they do
    not clip, as in Madan and Anand's experiments: epsilon is then another number of grey levels in each channel."""
    if units == "pixels":
        return View(classifier, images, bounds(units, epsilon))
    mean, deviation = np.float32(CHANNEL_MEAN), np.float32(CHANNEL_DEVIATION)
    inference = precision.inference(classifier)
    return View(lambda z: inference(z * deviation + mean), (images - mean) / deviation, bounds(units, epsilon))


def bounds(units: str, epsilon: float) -> tuple[float, float]:
    """The lowest and highest value of these units: pixels are from 0 to 1; what is normalised has no bounds, and gets
    some that no image reaches."""
    if units == "pixels":
        return (0.0, 1.0)
    # Not wider, because rounding is measured by it.
    bound = math.ceil(epsilon + 1 / min(CHANNEL_DEVIATION))
    return (-float(bound), float(bound))


def in_pixels(units: str, images: np.ndarray) -> np.ndarray:
    """Images of these units with pixels in [0, 1], or beyond where nothing was clipped."""
    return images if units == "pixels" else images * np.float32(CHANNEL_DEVIATION) + np.float32(CHANNEL_MEAN)


def targeted(threat: ThreatModel, steps: int) -> dict[str, Attack]:
    """Targeted FGSM and BIM; called with targets in place of labels."""
    loss = losses.Targeted(losses.cross_entropy)
    return {
        "fgsm, targeted": PGD(threat, 1, threat.epsilon, loss=loss, random_start=False),
        "bim, targeted": PGD(threat, steps, 1.25 * threat.epsilon / steps, loss=loss, random_start=False),
    }


def carlini_wagner(shape, steps: int, binary_search_steps: int) -> dict[str, Attack]:
    """The targeted l2 attack with the whole range of pixels as its budget; called with targets in place of labels."""
    attack = CarliniWagnerL2(steps=steps, binary_search_steps=binary_search_steps, initial_const=0.01, targeted=True)
    return {"cw_l2, targeted": WithinBall(attack, ThreatModel("l2", float(np.sqrt(np.prod(shape)))))}


def measure(
    seen: View,
    labels: np.ndarray,
    targets: np.ndarray,
    attacks: Mapping[str, Attack],
    *,
    aims: bool,
    on_row: Callable[[str, dict], None],
    on_images: Callable[[str, np.ndarray], None],
) -> None:
    """Runs attacks; `on_row` gets each one's name and its MEASURES as soon as they are known.

    Norms are in the units of `seen`: of normalised images they count deviations. Those of a minimum-norm attack are
    means over the images that have reached their targets, or without targets over those that are misclassified, NaN if
    there are none.

    Args:
      labels, targets: [N].
      aims: whether the attacks are targeted.
      on_images: called with each attack's name and its images, in the units of `seen`, before `on_row`.

    Raises:
      ValueError: if the classifier has no gradient.
    """
    found = {}
    ranks = ranks_of(seen.classifier)

    def look(name, x_adv):
        delta = (x_adv - seen.images).reshape(len(x_adv), -1)
        of_label, of_target = ranks(x_adv, labels), ranks(x_adv, targets)
        # Where it found nothing, a minimum-norm attack returns the image as it is.
        reached = of_target < 1 if aims else of_label >= 1
        counted = delta[reached] if isinstance(attacks[name], WithinBall) else delta
        found[name] = {
            "top1": float(np.mean(of_label < 1)),
            "top5": float(np.mean(of_label < 5)),
            "target_top1": float(np.mean(of_target < 1)) if aims else math.nan,
            "target_top5": float(np.mean(of_target < 5)) if aims else math.nan,
            "mean_l2": float(np.linalg.norm(counted, axis=1).mean()) if len(counted) else math.nan,
            "mean_linf": float(np.abs(counted).max(axis=1).mean()) if len(counted) else math.nan,
        }
        on_images(name, x_adv)

    def keep(result):
        tables.clear_progress()
        on_row(result.name, {**found[result.name], "seconds": round(result.seconds, 1)})

    data = Arrays(seen.images, targets if aims else labels)
    table = common.Table(dict(attacks), False)
    common.evaluate(
        seen.classifier,
        data,
        table,
        labels_are_targets=aims,
        on_images=look,
        on_result=keep,
        on_skip=tables.refuse_skipped,
        on_progress=tables.show_progress,
    )


def ranks_of(classifier):
    """A function (images [N, H, W, 3], classes [N]) -> how many classes are more likely [N]; see `top_k.ranks`."""
    logits_of = batched_logits.of(classifier)
    return lambda images, classes: top_k.ranks(logits_of(images), classes)
