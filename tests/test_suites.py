"""Suites: the rows of the paper's tables."""

import pytest

from tfrobust import losses, suites
from tfrobust.attacks import PGD, TargetedPGD, fgsm
from tfrobust.threat_models import ThreatModel

THREAT = ThreatModel("linf", 0.3)


def test_table_1_has_the_papers_attacks():
    suite = suites.mnist_table1_whitebox(THREAT)
    assert suite.pop("FGSM") == fgsm(THREAT)
    targeted = suite.pop("targeted 40x1 (runner-up class)")
    assert targeted == TargetedPGD(PGD(THREAT, steps=40, step_size=0.01))
    expected = {
        "PGD 40x1": (40, 1, losses.cross_entropy),
        "PGD 100x1": (100, 1, losses.cross_entropy),
        "PGD 40x20": (40, 20, losses.cross_entropy),
        "PGD 100x20": (100, 20, losses.cross_entropy),
        "CW 40x1": (40, 1, losses.CWMargin(0)),
        "CW+ 40x1": (40, 1, losses.CWMargin(50)),
    }
    assert {name: (a.steps, a.restarts, a.loss) for name, a in suite.items()} == expected
    assert all(a.step_size == 0.01 and a.random_start for a in suite.values())


def test_quick_reaches_any_point_of_the_ball_from_any_other():
    assert suites.quick(THREAT)["PGD-40"].reach == pytest.approx(2.5 * 0.3)


@pytest.mark.parametrize("name", sorted(suites.SUITES))
def test_every_suite_keeps_its_threat_model(name):
    threat = ThreatModel("l2", 1.5)
    assert {attack.threat for attack in suites.SUITES[name](threat).values()} == {threat}
