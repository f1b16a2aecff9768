"""Sentences that pages on robustness share."""

import pathlib

from eval import html_page
from tfrobust import loading
from tfrobust.confidence import Interval, wilson_interval
from tfrobust.threat_models import ThreatModel

INTERVAL = (
    "95 % intervals (Wilson) say how far the accuracy on all such examples may be from that on these; they know "
    "nothing of stronger attacks."
)
LIMITS = (
    "Robust accuracy is an upper bound: every attack shows that some examples fall, and none shows that the others "
    "stand. A stronger attack, or one made for this model, may find more.",
    "It holds for this threat model alone: not for a larger epsilon, another norm, or other changes such as rotation, "
    "blur or noise of the camera.",
    "It holds for images like those of this test set. The interval has the chance of drawing these examples in it; it "
    "does not have that of training the model again.",
    "That no red flag was found does not prove that the attacks were strong.",
)
RED_FLAG_CHECKS = (
    "outputs that are probabilities, or random",
    "gradients that are missing, zero or not finite",
    "PGD of many steps weaker than of few, or than FGSM",
    "random noise that fools more than PGD",
    "accuracy that does not fall to nearly 0 as epsilon grows",
    "a black-box attack that beats the white-box ones, or one step that beats many",
)


def percent(interval: Interval) -> str:
    """An interval of fractions, in percent."""
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f} %"


def with_interval(accuracy: float, total: int) -> tuple[str, str]:
    """An accuracy that was measured on `total` examples, and its interval."""
    return f"{accuracy:.2%}", f"95 % interval: {percent(wilson_interval(round(accuracy * total), total))}"


def radius(epsilon: float) -> str:
    """An epsilon in pixel units, and as the part of 255 that it is."""
    return f"{epsilon:.4g} ({255 * epsilon:.4g}/255)" if epsilon else "0"


def threat_words(threat: ThreatModel) -> str:
    """What the adversary may do, in a sentence."""
    low, high = threat.bounds
    size = radius(threat.epsilon)
    what = {
        "linf": f"The adversary may change every pixel by up to {size}",
        "l2": f"The adversary may change all pixels at once, by a Euclidean length of up to {size}",
        "l1": f"The adversary may change all pixels at once, by up to {size} in the sum of all changes",
    }[threat.norm]
    return f"{what}; pixels stay from {low:g} to {high:g}. Threat model: {threat.norm}, epsilon {threat.epsilon:.4g}."


def heading(words: str, model: str) -> html_page.Html:
    """The words and the end of the model's path."""
    return html_page.joined(words, " ", html_page.path("/".join(pathlib.Path(model).parts[-2:])))


def model_words(model: str, classifier) -> html_page.Html:
    """What the model is: its path, its size and a fingerprint of its weights, where it has them."""
    parts = ["The model is ", html_page.element("code", html_page.path(model))]
    if hasattr(classifier, "count_params"):
        parts.append(f", {classifier.count_params():,} parameters")
    if hasattr(classifier, "get_weights"):
        parts += ["; SHA-256 of its weights ", html_page.element("code", loading.weights_sha256(classifier))]
    return html_page.joined(*parts, ".")
