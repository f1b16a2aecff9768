"""Named tables of attacks, each a dict from the name of a row to an attack; all rows share one threat model."""

from collections.abc import Callable

from tfrobust import losses
from tfrobust.attacks.base import Attack
from tfrobust.attacks.pgd import PGD, fgsm
from tfrobust.attacks.targets import TargetedPGD, runner_up
from tfrobust.threat_models import ThreatModel

Suite = dict[str, Attack]

# The ratio of epsilon to step size in Madry et al.'s MNIST attacks, 0.3 to 0.01.
STEPS_ACROSS_BALL = 30


def quick(threat: ThreatModel) -> Suite:
    """FGSM and PGD of 40 steps: a first look, and an upper bound of the robust accuracy."""
    return {"FGSM": fgsm(threat), "PGD 40x1": _pgd(threat, 40)}


def mnist_table1_whitebox(threat: ThreatModel) -> Suite:
    """The rows of Madry et al. 2018, Table 1, with source A, in its order.

    The step size is epsilon / 30, which is the paper's 0.01 at its epsilon of 0.3. The paper does not say how targets
    were chosen; here it is the most likely wrong class of the clean image.
    """
    return {
        "FGSM": fgsm(threat),
        "PGD 40x1": _pgd(threat, 40),
        "PGD 100x1": _pgd(threat, 100),
        "PGD 40x20": _pgd(threat, 40, restarts=20),
        "PGD 100x20": _pgd(threat, 100, restarts=20),
        "targeted 40x1 (runner-up class)": TargetedPGD(_pgd(threat, 40), target=runner_up),
        "CW 40x1": _pgd(threat, 40, loss=losses.CWMargin(kappa=0)),
        "CW+ 40x1": _pgd(threat, 40, loss=losses.CWMargin(kappa=50)),
    }


SUITES: dict[str, Callable[[ThreatModel], Suite]] = {
    "quick": quick,
    "mnist_table1_whitebox": mnist_table1_whitebox,
}


def _pgd(threat, steps, **arguments):
    return PGD(threat, steps=steps, step_size=threat.epsilon / STEPS_ACROSS_BALL, **arguments)
