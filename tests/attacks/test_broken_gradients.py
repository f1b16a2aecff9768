"""A classifier with finite logits whose gradients are NaN must not pass for a robust one under any attack."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfrobust import evaluation, minimum_norm_evaluation, seeds
from tfrobust.attacks import DDN, FAB, FMN, ODI, PGD, CarliniWagnerL2, CarliniWagnerLinf, DeepFool, MomentumPGD
from tfrobust.attacks.apgd import apgd_ce, apgd_t
from tfrobust.attacks.minimum_norm import WithinBall
from tfrobust.attacks.multi_targeted import MultiTargeted
from tfrobust.threat_models import ThreatModel

LINF, L2, L1 = ThreatModel("linf", 0.05), ThreatModel("l2", 0.2), ThreatModel("l1", 0.2)
MINIMUM_NORM = {
    "DDN": (DDN(steps=3), L2),
    "FMN linf": (FMN("linf", steps=3), LINF),
    "FMN l2": (FMN("l2", steps=3), L2),
    "FMN l1": (FMN("l1", steps=3), L1),
    "DeepFool linf": (DeepFool("linf", steps=3), LINF),
    "DeepFool l2": (DeepFool("l2", steps=3), L2),
    "CW-L2": (CarliniWagnerL2(steps=3, binary_search_steps=2), L2),
    "CW-linf": (CarliniWagnerLinf(steps=3, initial_const=1.0), LINF),
    "FAB": (FAB(LINF, 2), LINF),
}
WITHIN_BUDGET = {
    "PGD": PGD(LINF, 2, 0.1),
    "PGD with restarts": PGD(LINF, 2, 0.1, restarts=2),
    "MI-FGSM": MomentumPGD(LINF, 2, 0.1),
    "ODI": ODI(PGD(LINF, 2, 0.1)),
    "MultiTargeted": MultiTargeted(LINF, 2, 0.1),
    "PGD l1": PGD(L1, 2, 0.1),
    "APGD-CE linf": apgd_ce(LINF, steps=4),
    "APGD-CE l2": apgd_ce(L2, steps=4),
    "APGD-CE l1": apgd_ce(L1, steps=10),
    "APGD-T": apgd_t(LINF, steps=4, targets=2),
    **{f"{name} within epsilon": WithinBall(attack, threat) for name, (attack, threat) in MINIMUM_NORM.items()},
}
BROKEN, SOUND = slice(0, 4), slice(4, 8)


def logits_fn(x):
    """Finite logits of class 0. Gradients are NaN for images whose last pixel is above 0.9 and sound for others."""
    flat = tf.reshape(x, [-1, 16])
    # The root's slope at 0 is infinite, and 0 times infinity no number. Where its own gradient is 0 it has none.
    root = tf.where(flat[:, 15:] > 0.9, tf.sqrt(0 * flat[:, :1]), 0.0)
    return flat[:, :4] * [1.0, -1.0, 0.5, -0.5] + [3.0, 1.0, 1.5, 1.2] + root * [0.0, 1.0, 2.0, 3.0]


@pytest.fixture(scope="module")
def x():
    x = np.random.RandomState(0).uniform(0.3, 0.6, [8, 4, 4, 1]).astype(np.float32)
    x[BROKEN, 3, 3], x[SOUND, 3, 3] = 1.0, 0.0
    return x


Y = np.zeros(8, np.int64)


@pytest.mark.parametrize("name", WITHIN_BUDGET)
def test_images_are_nan_where_gradients_are(name, x):
    x_adv = tf.function(lambda x: WITHIN_BUDGET[name](logits_fn, x, Y, seed=0))(tf.constant(x)).numpy()
    assert np.isnan(x_adv[BROKEN]).any(axis=(1, 2, 3)).all()
    assert np.isfinite(x_adv[SOUND]).all()


def test_evaluations_say_so(x):
    say = r"returned images that are not finite, 4 of 8, as it does where gradients are not"
    with pytest.raises(evaluation.InvalidAdversarialExampleError, match=f"APGD {say}"):
        evaluation.evaluate(logits_fn, x, Y, {"APGD": apgd_ce(LINF, steps=4)}, seed=0)
    with pytest.raises(evaluation.InvalidAdversarialExampleError, match=f"DDN {say}"):
        minimum_norm_evaluation.evaluate_minimum_norm(logits_fn, x, Y, {"DDN": DDN(steps=3)}, seed=0)


@pytest.mark.parametrize("name", ["APGD-CE linf", "APGD-CE l2", "APGD-CE l1", "APGD-T", "PGD with restarts"])
def test_a_surrogate_without_a_logit_that_is_a_number(name, x):
    def surrogate(x):
        return logits_fn(x) * math.nan

    x_adv = tf.function(lambda x: WITHIN_BUDGET[name](surrogate, x, Y, seed=0, judge_fn=logits_fn))(tf.constant(x))
    assert np.isnan(x_adv).any(axis=(1, 2, 3)).all()


def test_a_restart_that_breaks_down_takes_no_success_away():
    # With a step size of 0 a run is its random start, but for those whose gradient is NaN.
    x, y = tf.fill([40, 1, 1, 1], 0.5), tf.zeros([40], tf.int64)
    threat = ThreatModel("linf", 0.3)
    starts = np.stack([np.ravel(threat.random_start(x, seeds.fold_in(1, restart))) for restart in range(3)])

    def broken_in_the_middle(x):
        pixel = x[:, 0, 0]
        root = tf.where(tf.abs(pixel - 0.5) < 0.1, tf.sqrt(0 * pixel), 0.0)
        return tf.concat([tf.zeros_like(pixel), pixel - 0.5 + root], axis=1)

    x_adv = np.ravel(PGD(threat, 1, 0.0, restarts=3)(broken_in_the_middle, x, y, seed=1))
    fooled, broken = np.any(starts >= 0.6, axis=0), np.any(np.abs(starts - 0.5) < 0.1, axis=0)
    assert np.any(fooled & broken) and np.any(~fooled & ~broken)
    np.testing.assert_array_equal(x_adv[fooled], starts.max(axis=0)[fooled])
    assert np.isnan(x_adv[~fooled & broken]).all() and np.all(x_adv[~fooled & ~broken] < 0.5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_goes_on_from_its_best_point(x, norm):
    """The first step leads from any start to where the gradient is NaN, and only shorter ones to the wrong class."""

    def broken_at_the_end(x):
        pixel = x[:, 0, 0]
        root = tf.where(pixel > 0.94, tf.sqrt(0 * pixel), 0.0)
        wrong = tf.minimum(pixel - 0.8, 100 * (0.9 - pixel)) + root
        return tf.concat([tf.zeros_like(wrong), wrong], axis=1)

    start = np.where(np.arange(16).reshape(4, 4, 1) == 0, 0.5, x).astype(np.float32)
    attack = apgd_ce(ThreatModel(norm, 0.45), steps=100)
    x_adv = tf.function(lambda x: attack(broken_at_the_end, x, Y, seed=0))(tf.constant(start)).numpy()
    assert np.isfinite(x_adv).all()
    assert np.all((x_adv[:, 0, 0] > 0.8) & (x_adv[:, 0, 0] < 0.9))
