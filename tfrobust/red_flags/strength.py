"""What small attacks show: more steps, a gradient and a larger ball must each fool more examples, never fewer."""

import numpy as np

from tfrobust.red_flags.flag import ATHALYE, CARLINI, RedFlag, beyond_chance
from tfrobust.red_flags.probe import Probe
from tfrobust.threat_models import ThreatModel

FEW_STEPS, MANY_STEPS, GROWTH_STEPS = 10, 100, 25
NOISE_DRAWS = 20
# Of the linf epsilon at which every image can become plain grey.
GROWTH = (0.25, 0.5, 1.0)
# What PGD of few steps may leave standing in a ball that holds everything: so many examples, or one.
NEARLY_ALL = 0.05


def steps(fgsm: np.ndarray, few: np.ndarray, many: np.ndarray) -> list[RedFlag]:
    """Flags where less work fools more: FGSM against PGD, and PGD of few steps against PGD of many.

    Both PGDs travel equally far and begin at the same random points. Arguments: which examples were fooled, bool [N].
    """
    flags = []
    if _beats(few, many):
        flags.append(
            RedFlag(
                "more steps are weaker",
                f"PGD of {FEW_STEPS} steps fools {_only(few, many)} of {len(few)} examples that PGD of {MANY_STEPS} "
                f"steps does not, and {_only(many, few)} the other way round.",
                "The loss is rugged, and small steps are caught in local maxima that long ones pass over. Try several "
                "step sizes, losses and restarts and take the worst case over them, and smooth the operation that "
                "makes it rugged in the backward pass.",
                f"{ATHALYE}; {CARLINI}",
            )
        )
    if _beats(fgsm, many):
        flags.append(
            RedFlag(
                "one step beats many",
                f"FGSM fools {_only(fgsm, many)} of {len(fgsm)} examples that PGD of {MANY_STEPS} steps does not, and "
                f"PGD {_only(many, fgsm)} that FGSM does not.",
                "Iterated attacks are stuck in local maxima of the loss (masked gradients), so that the accuracy under "
                "them is too high. Try other losses, step sizes and random restarts, and attacks without gradients.",
                f"{ATHALYE}; {CARLINI}",
            )
        )
    return flags


def noise(random: np.ndarray, pgd: np.ndarray, threat: ThreatModel) -> list[RedFlag]:
    """A flag where random points of the ball fool more examples than PGD. Which were fooled: bool [N] each."""
    if not _beats(random, pgd):
        return []
    return [
        RedFlag(
            "noise beats gradients",
            f"{NOISE_DRAWS} random points within {threat.norm} epsilon {threat.epsilon:g} fool {_only(random, pgd)} of "
            f"{len(pgd)} examples that PGD does not, and PGD {_only(pgd, random)} that they do not.",
            "Gradients lead away from adversarial examples that lie all around. Look for what makes them useless "
            "(zeros, a wrong backward pass, randomness) and rely on attacks without gradients until it is found.",
            f"{ATHALYE}; {CARLINI}",
        )
    ]


def growth(probe: Probe, total: int) -> list[RedFlag]:
    """Flags where accuracy does not fall to nearly 0 as epsilon grows in linf, or rises with it.

    Half the range of pixels, 0.5 for [0, 1], is no bound at all: every image can become the same plain grey, and no
    classifier is robust. An example counts as fooled there if it was so in any smaller ball, since that lies within.
    Allowed are 5 % of the examples, or one, that few steps may miss.

    Args:
      probe: its threat has the norm linf.
      total: the number of examples that were looked at, of which the probe has those that are classified correctly.
    """
    low, high = probe.threat.bounds
    epsilons = [fraction * (high - low) / 2 for fraction in GROWTH]
    fooled = [probe.pgd(epsilon, GROWTH_STEPS) for epsilon in epsilons]
    curve = ", ".join(
        f"{np.sum(~now) / total:.1%} at {epsilon:.3g}" for epsilon, now in zip(epsilons, fooled, strict=True)
    )
    observed = f"Accuracy under PGD of {GROWTH_STEPS} steps by linf epsilon: {curve}"
    flags = []
    standing = int(np.sum(~np.any(fooled, axis=0)))
    if standing > max(1, NEARLY_ALL * total):
        flags.append(
            RedFlag(
                "unbounded attack fails",
                f"{observed}; {standing} of {total} examples fell at none of them.",
                "At the last epsilon every image can become the same plain grey, which has one class only: what stands "
                "there is the attack's failure (masked gradients), and it fails at small epsilons no less; or the "
                "classifier always answers the same. Find out why this attack fails before believing any other.",
                f"{ATHALYE}; {CARLINI}",
            )
        )
    if any(_beats(fooled[i], fooled[j]) for i in range(len(fooled)) for j in range(i + 1, len(fooled))):
        flags.append(
            RedFlag(
                "a larger epsilon is weaker",
                f"{observed}.",
                "A larger ball holds the smaller one, so that accuracy can only rise where the attack loses its way "
                "(masked gradients, or steps so long that gradients mean nothing). Take the worst case over step sizes "
                "and epsilons up to the one reported, and attacks without gradients.",
                f"{ATHALYE}; {CARLINI}",
            )
        )
    return flags


def _only(a, b):
    return int(np.sum(a & ~b))


def _beats(a, b):
    """Whether attack `a` fools more than `b` beyond chance."""
    return beyond_chance(_only(a, b) - _only(b, a), _only(a, b) + _only(b, a))
