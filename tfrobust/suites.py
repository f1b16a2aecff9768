"""Named tables of attacks, each a dict from the name of a row to an attack; all rows share one threat model.

AutoAttack (Croce and Hein 2020; l1: 2021) is a table too, whose rows attack only what the rows before left standing:

    evaluate(classifier, images, labels, autoattack(threat), seed=0, only_standing=True)
"""

from collections.abc import Callable

from tfrobust import madry_tables
from tfrobust.attacks.apgd import apgd_ce, apgd_dlr, apgd_t
from tfrobust.attacks.base import Attack
from tfrobust.attacks.carlini_wagner import CarliniWagnerL2
from tfrobust.attacks.carlini_wagner_linf import CarliniWagnerLinf
from tfrobust.attacks.ddn import DDN
from tfrobust.attacks.deepfool import DeepFool
from tfrobust.attacks.fab import FAB
from tfrobust.attacks.fmn import FMN
from tfrobust.attacks.minimum_norm import MinimumNormAttack
from tfrobust.attacks.pgd import PGD, fgsm
from tfrobust.attacks.square import Square
from tfrobust.threat_models import ThreatModel

Suite = dict[str, Attack]

# What the steps of `quick` add up to, in epsilons. Madry et al.'s MNIST attack (40 x 0.01 at 0.3) reaches 1.3, and
# is weaker: it left 40.3 and not 35.7 % of a small network for CIFAR-10, 95.4 and not 94.2 % of one for MNIST.
QUICK_REACH = 2.5


def quick(threat: ThreatModel) -> Suite:
    """FGSM and PGD of 40 steps: a first look, and an upper bound of the robust accuracy.

    The second is not Madry et al.'s "PGD 40x1", whose steps are shorter.
    """
    return {"FGSM": fgsm(threat), "PGD-40": PGD(threat, 40, QUICK_REACH * threat.epsilon / 40)}


def mnist_table1_whitebox(threat: ThreatModel) -> Suite:
    """The rows of Madry et al. 2018, Table 1, with source A; see `madry_tables.table1`."""
    return madry_tables.table1(threat)


def autoattack(threat: ThreatModel) -> Suite:
    """AutoAttack "standard": APGD-CE, APGD-T, FAB-T and Square, with the published budgets.

    In linf and l2 one restart and nine target classes; in l1 five restarts of APGD-CE and five target classes of
    APGD-T. Classifiers with fewer classes have fewer targets.
    """
    l1 = threat.norm == "l1"
    return {
        "APGD-CE": apgd_ce(threat, restarts=5 if l1 else 1),
        "APGD-T": apgd_t(threat, targets=5 if l1 else 9),
        "FAB-T": FAB(threat, steps=100, targets=9),
        "Square": Square(threat, queries=5000),
    }


def autoattack_plus(threat: ThreatModel) -> Suite:
    """AutoAttack "plus": also APGD on the untargeted ratio and untargeted FAB, with five restarts."""
    return {
        "APGD-CE": apgd_ce(threat, restarts=5),
        "APGD-DLR": apgd_dlr(threat, restarts=5),
        "FAB": FAB(threat, steps=100, restarts=5),
        "Square": Square(threat, queries=5000),
        "APGD-T": apgd_t(threat, targets=9),
        "FAB-T": FAB(threat, steps=100, targets=9),
    }


def autoattack_rand(threat: ThreatModel) -> Suite:
    """AutoAttack "rand", for randomised classifiers: APGD on gradients averaged over 20 evaluations."""
    return {
        "APGD-CE": apgd_ce(threat, eot_samples=20),
        "APGD-DLR": apgd_dlr(threat, eot_samples=20),
    }


def min_norm(norm: str, bounds: tuple[float, float] = (0.0, 1.0)) -> dict[str, MinimumNormAttack]:
    """The minimum-norm attacks of a norm, for `minimum_norm_evaluation.evaluate_minimum_norm`."""
    # The lengths that attacks begin with are for pixels in [0, 1].
    width = float(bounds[1] - bounds[0])
    fab = FAB(ThreatModel(norm, width, bounds), steps=100, targets=9)
    if norm == "l2":
        return {
            "DeepFool": DeepFool("l2", bounds),
            "DDN": DDN(bounds=bounds, initial_norm=width, step_size=width),
            "FMN": FMN("l2", bounds, step_size=width),
            "FAB-T": fab,
            "CW-L2": CarliniWagnerL2(bounds=bounds),
        }
    if norm == "linf":
        return {
            "DeepFool": DeepFool("linf", bounds),
            "FMN": FMN("linf", bounds, step_size=width),
            "FAB-T": fab,
            "CW-Linf": CarliniWagnerLinf(bounds=bounds),
        }
    return {"FMN": FMN("l1", bounds, step_size=width), "FAB-T": fab}


SUITES: dict[str, Callable[[ThreatModel], Suite]] = {
    "quick": quick,
    "mnist_table1_whitebox": mnist_table1_whitebox,
    "madry_table1": madry_tables.table1,
    "madry_table2": madry_tables.table2,
    "leaderboard_mnist": madry_tables.leaderboard_mnist,
    "leaderboard_cifar10": madry_tables.leaderboard_cifar10,
    "autoattack": autoattack,
    "autoattack_plus": autoattack_plus,
    "autoattack_rand": autoattack_rand,
}
# They take sources of black-box rows, too, and the precision of these.
WITH_SOURCES = frozenset({"madry_table1", "madry_table2"})
# Their rows attack what still stands.
ONLY_STANDING = frozenset({"autoattack", "autoattack_plus", "autoattack_rand"})
