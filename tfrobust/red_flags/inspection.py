"""A classifier's red flags: every check that needs the classifier itself."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfrobust import losses
from tfrobust.attacks.base import LogitsFn, NotDifferentiableError
from tfrobust.checks import check_classifier, check_examples, require_integer
from tfrobust.precision import functions
from tfrobust.red_flags import gradients, outputs, strength
from tfrobust.red_flags.flag import RedFlag
from tfrobust.red_flags.probe import BATCH_SIZE, Probe
from tfrobust.threat_models import ThreatModel

CHECKS = ("forward passes", "gradients", "numbers of steps", "random noise", "growing epsilon")


def inspect_classifier(
    classifier: keras.Model | LogitsFn,
    images: np.ndarray,
    labels: np.ndarray,
    threat: ThreatModel,
    *,
    seed: int,
    max_examples: int = 100,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> list[RedFlag]:
    """Looks at the classifier's outputs and gradients and runs small attacks on a few examples.

    In this order: natural accuracy no better than chance; probabilities instead of logits; a randomised classifier; no
    gradient (the rest is left out then); gradients that are zero or not finite; PGD of many steps weaker than of few,
    or than FGSM; random noise stronger than PGD; accuracy that does not fall to nearly 0 as epsilon grows (in linf,
    whatever the threat's norm).

    Only examples that are classified correctly are attacked. About 190 gradients and 30 predictions of each are
    computed: for 100 images and the MNIST challenge's network that is 11 seconds of CPU time.

    Args:
      classifier: a keras.Model, called in inference mode, or a function from pixels to logits.
      images: float32 [N, H, W, C] within the threat's bounds.
      labels: int [N].
      threat: the robustness that is claimed.
      seed: an int, of all noise.
      max_examples: only the first so many examples are looked at.
      on_progress: called with a check's name, checks done and their number, after each.

    Returns:
      The flags; none for a classifier without these symptoms, which does not prove that it is robust.

    Raises:
      ValueError: for bad images or labels, max_examples below 1, or a classifier that does not take the images, or
        returns no [B, K] finite outputs with a class for every label.
    """
    require_integer("max_examples", max_examples, 1)
    images, labels = check_examples(images, labels, threat.bounds)
    images, labels = images[:max_examples], labels[:max_examples]
    judge_fn, gradient_fn, _ = functions(classifier, "float32")
    check_classifier(lambda x: _as_logits(judge_fn(x)), images[:BATCH_SIZE], labels)
    flags = []
    for number, found in enumerate(_checks(judge_fn, gradient_fn, images, labels, threat, seed)):
        flags += found
        if on_progress:
            on_progress(CHECKS[number], number + 1, len(CHECKS))
    return flags


def _checks(judge_fn, gradient_fn, images, labels, threat, seed):
    """Yields the flags of each of CHECKS, and stops early where the rest has nothing to work with."""
    first, second = _forward(judge_fn, images), _forward(judge_fn, images)
    yield outputs.guessing(first, labels) + outputs.probabilities(first) + outputs.randomness(first, second)
    correct = np.flatnonzero(first.argmax(axis=1) == labels)
    if not len(correct):
        return
    examples = images[correct], labels[correct], correct.astype(np.int32)
    probe = Probe(judge_fn, gradient_fn, *examples, threat, seed)
    gaps = -losses.margin(first[correct], labels[correct]).numpy()
    try:
        found = gradients.gradients(probe, gaps)
    except NotDifferentiableError:
        yield [gradients.no_gradient()]
        return
    yield found
    fgsm = probe.pgd(threat.epsilon, 1, travel=1.0, random_start=False)
    few, many = (probe.pgd(threat.epsilon, steps) for steps in (strength.FEW_STEPS, strength.MANY_STEPS))
    yield strength.steps(fgsm, few, many)
    yield strength.noise(probe.noise(strength.NOISE_DRAWS), few | many, threat)
    if threat.norm != "linf":
        probe = Probe(judge_fn, gradient_fn, *examples, ThreatModel("linf", 0.0, threat.bounds), seed)
    yield strength.growth(probe, len(images))


def _forward(judge_fn, images):
    """Outputs [N, K], not in a graph: there, random numbers that Python draws would be drawn once and for all."""
    parts = [judge_fn(tf.constant(images[i : i + BATCH_SIZE])) for i in range(0, len(images), BATCH_SIZE)]
    return np.concatenate([np.asarray(part, np.float32) for part in parts])


def _as_logits(values):
    """Probabilities as logits, so that all else can be checked of them; other outputs as they are."""
    values = np.asarray(values, np.float32)
    return np.log(values + 1e-30) if values.ndim == 2 and outputs.are_probabilities(values) else values
