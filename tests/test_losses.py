"""Losses against numbers and gradients worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfrobust import losses
from tfrobust.attacks import PGD
from tfrobust.threat_models import ThreatModel

LOGITS = tf.constant([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [1000.0, 0.0, -1000.0]])
Y = tf.constant([0, 2, 1, 1])


def gradient(loss, logits, y):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(logits, y)
    return tape.gradient(value, logits).numpy()


def test_cross_entropy():
    # log(e + e^2 + e^3) = 3.40760596..., log 3, and a loss too large for exp.
    np.testing.assert_allclose(losses.cross_entropy(LOGITS, Y), [2.4076059, 0.4076060, 1.0986123, 1000.0], rtol=1e-6)
    # softmax(1, 2, 3) less the label.
    np.testing.assert_allclose(
        gradient(losses.cross_entropy, LOGITS, Y)[0], [0.09003057 - 1, 0.24472847, 0.66524096], rtol=1e-5
    )


@pytest.mark.parametrize("lead", [-300.0, 0.0, 10.0, 17.0, 40.0, 80.0, 300.0, 1e6])
def test_cross_entropy_where_the_label_leads_by_far(lead):
    # Where softmax(logits)[0] rounds to 1, softmax less the label would be (0, p, ...): off by the largest entry.
    logits = np.array([[lead, 0.0, -1.0, -300.0]], np.float32)
    others = np.exp(np.array([0.0, -1.0, -300.0]))
    # The derivative by the log-odds is 1 - softmax(logits)[0], and somewhat more where that would be too small.
    slope = 1 / (1 + np.exp(lead) / others.sum()) + 1e-10 if lead < 300 else 1e-10
    exact = slope * np.array([-1.0, *others / others.sum()])
    found = gradient(losses.cross_entropy, tf.constant(logits), tf.constant([0]))[0]
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-40)
    value = losses.cross_entropy(logits, tf.constant([0]))[0]
    np.testing.assert_allclose(value, np.log1p(np.exp(-lead) * (1 + np.exp(-1.0))), rtol=1e-5, atol=1e-40)


@pytest.mark.parametrize("attack", [PGD(ThreatModel("linf", 0.1), 5, 0.03), PGD(ThreatModel("l2", 0.3), 5, 0.1)])
def test_no_scale_of_the_logits_hides_from_attacks_on_the_cross_entropy(attack):
    # Two classes: the loss rises in the same direction, whatever the scale.
    x, weights = np.full([3, 2, 2, 1], 0.5, np.float32), np.float32([[1.0, -1.0], [2.0, 0.5], [-1.0, 0.3], [0.2, -3.0]])
    found = [attack(lambda x, s=s: s * tf.reshape(x, [-1, 4]) @ weights, x, [0, 1, 0], seed=0) for s in (1.0, 1e4)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_log_odds():
    logits = tf.constant([[1.0, 2.0, 3.0], [500.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    y = tf.constant([0, 0, 1])
    others = np.logaddexp(2.0, 3.0)
    np.testing.assert_allclose(losses.log_odds(logits, y), [others - 1, others - 500, np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(losses.cross_entropy(logits, y)[0], np.logaddexp(0, others - 1), rtol=1e-6)
    # The same direction as the cross-entropy's, however large the lead.
    shares = [1 / (1 + np.e), np.e / (1 + np.e)]
    np.testing.assert_allclose(gradient(losses.log_odds, logits, y)[:2], [[-1, *shares]] * 2, rtol=1e-6)


def test_margin():
    np.testing.assert_allclose(losses.margin(LOGITS, Y), [2.0, -1.0, 0.0, 1000.0])
    np.testing.assert_array_equal(gradient(losses.margin, LOGITS, Y)[:2], [[-1, 0, 1], [0, 1, -1]])


def test_margin_of_ties():
    logits = tf.constant([[2.0, 2.0, 1.0], [2.0, 3.0, 3.0], [5.0, 5.0, 5.0]])
    np.testing.assert_array_equal(losses.margin(logits, tf.constant([0, 0, 2])), [0.0, 1.0, 0.0])


def test_margin_with_negative_logits_only():
    # A mask of zeros would make the other classes' maximum 0.
    np.testing.assert_array_equal(losses.margin(tf.constant([[-7.0, -9.0, -8.0]]), tf.constant([0])), [-1.0])


def test_margin_is_positive_exactly_where_the_class_is_wrong():
    logits = np.random.default_rng(0).normal(size=(500, 10)).astype(np.float32)
    y = np.random.default_rng(1).integers(0, 10, 500)
    np.testing.assert_array_equal(losses.margin(logits, y) > 0, logits.argmax(axis=1) != y)


def challenge_cw(logits, y, kappa):
    """The MNIST challenge's "cw" loss of a batch in float64; its kappa is 50."""
    is_label = np.eye(logits.shape[1])[y]
    label_logit = (is_label * logits).sum(axis=1)
    other_logit = ((1 - is_label) * logits - 1e4 * is_label).max(axis=1)
    return -np.maximum(label_logit - other_logit + kappa, 0)


@pytest.mark.parametrize("kappa", [0, 1.5, 50])
def test_cw_margin_is_the_challenges(kappa):
    logits = 20 * np.random.default_rng(0).normal(size=(300, 10))
    y = np.random.default_rng(1).integers(0, 10, 300)
    expected = challenge_cw(logits, y, kappa)
    assert 20 < np.sum(expected == 0) < 280 or kappa == 50
    actual = losses.CWMargin(kappa)(tf.constant(logits, tf.float32), tf.constant(y))
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_cw_margin_has_no_gradient_once_the_wrong_class_leads_by_kappa():
    logits = tf.constant([[0.0, 49.0, 0.0], [0.0, 51.0, 0.0], [3.0, 1.0, 2.0]])
    y = tf.constant([0, 0, 0])
    np.testing.assert_array_equal(losses.CWMargin(50)(logits, y), [-1.0, 0.0, -51.0])
    np.testing.assert_array_equal(gradient(losses.CWMargin(50), logits, y), [[-1, 1, 0], [0, 0, 0], [-1, 0, 1]])
    np.testing.assert_array_equal(losses.CWMargin()(logits, y), [0.0, 0.0, -1.0])
    np.testing.assert_array_equal(gradient(losses.CWMargin(), logits, y), [[0, 0, 0], [0, 0, 0], [-1, 0, 1]])


@pytest.mark.parametrize("kappa", [-1, float("nan")])
def test_kappa_must_not_be_negative(kappa):
    with pytest.raises(ValueError, match=f"kappa must be 0 or more, got {kappa}"):
        losses.CWMargin(kappa)


@pytest.mark.parametrize("kappa", [0, 1.5])
def test_targeted_cw_margin_is_flat_where_the_target_leads_by_kappa(kappa):
    targeted = losses.Targeted(losses.CWMargin(kappa))
    # The target trails by 2, trails by 1, leads by 1, leads by 2.
    logits, target = tf.constant([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]), tf.ones(4, tf.int64)
    expected = -np.maximum(0, np.array([2.0, 1.0, -1.0, -2.0]) + kappa)
    np.testing.assert_allclose(targeted(logits, target), expected)
    np.testing.assert_array_equal(gradient(targeted, logits, target)[:, 1] != 0, expected < 0)


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.margin, losses.CWMargin(), losses.dlr])
def test_labels_of_another_shape_are_refused(loss):
    with pytest.raises(ValueError, match=r"y must be labels \[B\], got shape \(4, 1\)"):
        loss(LOGITS, tf.reshape(Y, [4, 1]))


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.margin])
def test_targeted_is_the_negative(loss):
    targeted = losses.Targeted(loss)
    np.testing.assert_array_equal(targeted(LOGITS, Y), -loss(LOGITS, Y))
    np.testing.assert_array_equal(gradient(targeted, LOGITS, Y), -gradient(loss, LOGITS, Y))


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.margin, losses.CWMargin(), losses.Targeted()])
@pytest.mark.parametrize("label_dtype", [tf.int32, tf.int64])
@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16, tf.float32, tf.float64])
def test_losses_are_float32_numbers_of_each_example(loss, label_dtype, dtype):
    value = loss(tf.cast(LOGITS, dtype), tf.cast(Y, label_dtype))
    assert value.dtype == tf.float32 and value.shape == (4,)
    for i in range(4):
        np.testing.assert_array_equal(loss(LOGITS[i : i + 1], Y[i : i + 1])[0], value[i])


def test_dlr():
    # (3 - 1) / (3 - 1) where the label is last of three, (2 - 3) / (3 - 1) where it is first, 0 / 0 for equal logits.
    np.testing.assert_allclose(losses.dlr(LOGITS, Y), [1.0, -0.5, 0.0, 0.5], rtol=1e-6)
    # Neither scale nor shift matters.
    np.testing.assert_allclose(losses.dlr(1e3 * LOGITS[:2] + 7, Y[:2]), [1.0, -0.5], rtol=1e-6)
    # (z_1 - z_2) / (z_2 - z_0) at (1, 2, 3): derivatives -1/4, 1/2 and -1/2 + 1/4.
    np.testing.assert_allclose(gradient(losses.dlr, LOGITS[1:2], Y[1:2])[0], [-0.25, 0.5, -0.25], rtol=1e-6)


def test_dlr_targeted():
    logits, y, target = tf.constant([[4.0, 1.0, 3.0, 2.0]] * 2), tf.constant([0, 1]), tf.constant([2, 3])
    # (3 - 4) / (4 - (2 + 1) / 2), (2 - 1) / 2.5.
    np.testing.assert_allclose(losses.dlr_targeted(logits, (y, target)), [-0.4, 0.4], rtol=1e-6)
    np.testing.assert_allclose(losses.margin_targeted(logits, (y, target)), [-1.0, 1.0], rtol=1e-6)


def test_ratios_need_enough_classes():
    with pytest.raises(ValueError, match="dlr needs logits of at least 3 classes, got 2"):
        losses.dlr(LOGITS[:, :2], Y)
    with pytest.raises(ValueError, match="dlr_targeted needs logits of at least 4 classes, got 3"):
        losses.dlr_targeted(LOGITS, (Y, Y))
