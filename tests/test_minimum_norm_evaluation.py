"""Smallest changes: distances known by hand, the nearest over attacks, and no belief in what attacks claim."""

import dataclasses
import json
import math

import numpy as np
import pytest
import tensorflow as tf

from tfrobust.attacks.carlini_wagner import CarliniWagnerL2
from tfrobust.attacks.deepfool import DeepFool
from tfrobust.attacks.minimum_norm import MinimumNorm, WithinBall
from tfrobust.evaluation import InvalidAdversarialExampleError
from tfrobust.minimum_norm_evaluation import evaluate_minimum_norm
from tfrobust.threat_models import ThreatModel

# Images of one pixel, of which those above 0.5 are of class 1; the last one is misclassified as it is.
PIXELS = np.float32([0.0, 0.4, 0.7, 0.9, 0.2]).reshape(-1, 1, 1, 1)
LABELS = np.array([0, 0, 1, 1, 1])
# How far each is from the other side, a little more than to 0.5.
EXACT = np.array([0.5, 0.1, 0.2, 0.4, 0.0])


def threshold(x):
    """Logits (0, 10 (pixel - 0.5))."""
    return tf.pad(10 * (tf.reshape(x, [-1, 1]) - 0.5), [[0, 0], [1, 0]])


@dataclasses.dataclass(frozen=True)
class To:
    """Moves every pixel to `place` and says that this is adversarial, `off` from its distance."""

    place: float
    off: float = 0.0
    only_class: int | None = None
    norm: str = "l2"
    bounds: tuple = (0.0, 1.0)

    def minimize(self, logits_fn, x, y, *, seed, judge_fn=None):
        success = tf.fill(tf.shape(y), True) if self.only_class is None else tf.equal(y, self.only_class)
        x_adv = tf.where(tf.reshape(success, [-1, 1, 1, 1]), self.place, x)
        distance = tf.abs(tf.reshape(x_adv - x, [-1])) + self.off
        return MinimumNorm(x_adv, tf.where(success, distance, math.inf), success)


def test_distances_by_hand():
    seen = []
    report = evaluate_minimum_norm(
        threshold, PIXELS, LABELS, {"DeepFool": DeepFool("l2")}, seed=0, batch_size=2, on_result=seen.append
    )
    (result,) = report.attacks
    assert seen == [result] and report.norm == "l2" and report.clean_accuracy == pytest.approx(0.8)
    # DeepFool oversteps by 2 % of the way.
    np.testing.assert_allclose(result.distance, 1.02 * EXACT, atol=1e-5)
    assert result.success_rate == 1
    assert result.median_distance == pytest.approx(0.204, abs=1e-5)
    assert result.mean_distance == pytest.approx(1.02 * EXACT.mean(), abs=1e-5)
    np.testing.assert_allclose(result.accuracy_at([0.0, 0.15, 0.3, 0.6]), [0.8, 0.6, 0.4, 0.0])
    np.testing.assert_array_equal(report.clean_predictions, [0, 0, 1, 1, 0])
    np.testing.assert_array_equal(report.predictions, [1, 1, 0, 0, 0])
    json.dumps(report.as_json(), allow_nan=False)


def test_the_nearest_of_several_attacks_counts():
    attacks = {"up": To(0.6, only_class=0), "down": To(0.1, only_class=1), "DeepFool": DeepFool("l2")}
    report = evaluate_minimum_norm(threshold, PIXELS, LABELS, {**attacks, "nothing": To(0.6, only_class=2)}, seed=0)
    up, down, _, nothing = report.attacks
    np.testing.assert_allclose(up.distance, [0.6, 0.2, np.inf, np.inf, 0], atol=1e-6)
    assert up.success_rate == pytest.approx(0.6) and up.median_distance == pytest.approx(0.6)
    assert up.mean_distance == pytest.approx(0.8 / 3)
    assert nothing.median_distance == math.inf and nothing.as_json()["median_distance"] is None
    np.testing.assert_allclose(down.distance, [np.inf, np.inf, 0.6, 0.8, 0], atol=1e-6)
    np.testing.assert_allclose(report.nearest.distance, 1.02 * EXACT, atol=1e-5)
    np.testing.assert_allclose(np.abs(report.x_adv - PIXELS).ravel(), 1.02 * EXACT, atol=1e-5)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (To(0.6), "counts 3 images as adversarial that are classified correctly"),
        (To(0.6, off=0.01, only_class=0), "off by 0.01 in the distance"),
        (To(1.5, only_class=0), r"returned pixels outside of \[0.0, 1.0\]"),
        (To(math.nan, only_class=0), "returned images that are not finite, . of 5"),
    ],
)
def test_what_an_attack_claims_is_checked(attack, message):
    with pytest.raises(InvalidAdversarialExampleError, match=message):
        evaluate_minimum_norm(threshold, PIXELS, LABELS, {"attack": attack}, seed=0)


def test_attacks_of_several_norms_are_refused():
    with pytest.raises(ValueError, match="attacks must be one or more of a single norm and bounds"):
        evaluate_minimum_norm(threshold, PIXELS, LABELS, {"a": DeepFool("l2"), "b": DeepFool("linf")}, seed=0)


def test_within_a_ball():
    attack = WithinBall(DeepFool("l2"), ThreatModel("l2", 0.25))
    x_adv = attack(threshold, tf.constant(PIXELS), tf.constant(LABELS), seed=0)
    moved = 1.02 * EXACT * np.array([0, 1, 1, 0, 0])
    np.testing.assert_allclose(np.abs(x_adv - PIXELS).ravel(), moved, atol=1e-5)
    with pytest.raises(ValueError, match="threat must have the attack's norm 'l2', got 'linf'"):
        WithinBall(DeepFool("l2"), ThreatModel("linf", 0.25))


def test_what_is_misclassified_counts_whatever_lead_an_attack_wants():
    attacks = {"kappa": CarliniWagnerL2(kappa=3.0, steps=50, binary_search_steps=2), "nothing": To(0.6, only_class=2)}
    report = evaluate_minimum_norm(threshold, PIXELS, LABELS, attacks, seed=0)
    for result in (*report.attacks, report.nearest):
        assert result.distance[4] == 0 and np.all(result.distance[:4] > 0)
        assert result.accuracy_at([0.0])[0] == report.clean_accuracy
    np.testing.assert_array_equal(report.x_adv[4], PIXELS[4])
    assert report.predictions[4] == 0
