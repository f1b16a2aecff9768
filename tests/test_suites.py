"""Suites: the rows of the paper's tables."""

import numpy as np
import pytest
import tensorflow as tf

from tfrobust import losses, suites
from tfrobust.attacks import PGD, TargetedPGD, fgsm
from tfrobust.evaluation import evaluate
from tfrobust.minimum_norm_evaluation import evaluate_minimum_norm
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


@pytest.mark.parametrize(("norm", "names"), [("l2", ["DDN", "FMN"]), ("l1", ["FMN"])])
def test_distances_grow_with_the_range_of_pixels(norm, names):
    weights = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    x = np.random.default_rng(1).uniform(0.2, 0.8, (5, 4, 4, 1)).astype(np.float32)

    def logits_fn(x):
        return tf.reshape(x, [-1, 16]) @ weights

    y = np.argmax(logits_fn(x), axis=1)

    def distances(scale):
        attacks = {name: suites.min_norm(norm, (0.0, scale))[name] for name in names}
        report = evaluate_minimum_norm(lambda x: logits_fn(x / scale), scale * x, y, attacks, seed=0)
        return [attack.distance / scale for attack in report.attacks]

    for wide, narrow in zip(distances(256.0), distances(1.0), strict=True):
        assert np.isfinite(narrow).all()
        np.testing.assert_allclose(wide, narrow, rtol=1e-3)


def test_attacks_of_the_other_kind():
    x, y = np.zeros([2, 2, 2, 1], np.float32), np.zeros(2, int)
    with pytest.raises(ValueError, match=r"attacks must be minimum-norm ones, .* got PGD\(.* for 'FGSM'"):
        evaluate_minimum_norm(lambda x: x[:, 0, :, 0], x, y, suites.quick(ThreatModel("linf", 0.1)), seed=0)
    with pytest.raises(ValueError, match=r"attacks must be norm-bounded ones, .* got DeepFool\(.* for 'DeepFool'"):
        evaluate(lambda x: x[:, 0, :, 0], x, y, suites.min_norm("l2"), seed=0)
