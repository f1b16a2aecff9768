"""Minimum-norm attacks beside Foolbox's and ART's: no farther away, and no fewer successes, with equal budgets."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust.attacks.carlini_wagner import CarliniWagnerL2
from tfrobust.attacks.ddn import DDN
from tfrobust.attacks.deepfool import DeepFool
from tfrobust.attacks.fmn import FMN
from tfrobust.threat_models import ThreatModel

CARLINI_WAGNER = {"steps": 60, "binary_search_steps": 4, "initial_const": 1.0}
FOOLBOX = {
    "CW-L2": (CarliniWagnerL2(**CARLINI_WAGNER), "L2CarliniWagnerAttack", {"stepsize": 0.01, **CARLINI_WAGNER}),
    "DDN": (DDN(), "DDNAttack", {}),
    "DeepFool l2": (DeepFool("l2"), "L2DeepFoolAttack", {"steps": 50, "candidates": 10, "overshoot": 0.02}),
    "DeepFool linf": (DeepFool("linf"), "LinfDeepFoolAttack", {"steps": 50, "candidates": 10, "overshoot": 0.02}),
    "FMN linf": (FMN("linf"), "LInfFMNAttack", {"steps": 100}),
    "FMN l2": (FMN("l2"), "L2FMNAttack", {"steps": 100}),
    "FMN l1": (FMN("l1"), "L1FMNAttack", {"steps": 100}),
}
COUNT = 40


@pytest.fixture(scope="module")
def problem(digits):
    """The network and images that it classifies correctly."""
    correct = np.flatnonzero(np.argmax(digits.model(digits.x), axis=1) == digits.y)[:COUNT]
    return digits.model, digits.x[correct], digits.y[correct]


def distances(problem, x_adv, norm):
    """From x, infinite where the image is not adversarial: failures come back as x, or as black images from Foolbox."""
    model, x, y = problem
    fooled = (np.argmax(model(x_adv), axis=1) != y) & np.any(np.not_equal(x_adv, 0), axis=(1, 2, 3))
    return np.where(fooled, ThreatModel(norm, 0.0).distance(tf.constant(x_adv), tf.constant(x)), np.inf)


def no_weaker(attack, problem, theirs):
    model, x, y = problem
    minimize = tf.function(functools.partial(attack.minimize, model, seed=0, judge_fn=model), autograph=False)
    found = minimize(tf.constant(x), tf.constant(y))
    ours = distances(problem, found.x_adv, attack.norm)
    np.testing.assert_allclose(ours, found.distance, rtol=1e-4)
    assert np.isfinite(ours).mean() >= max(np.isfinite(theirs).mean(), 0.9)
    assert np.median(ours) <= 1.02 * np.median(theirs)


@pytest.mark.parametrize("name", FOOLBOX)
def test_foolbox(problem, name):
    foolbox = pytest.importorskip("foolbox")
    attack, theirs, arguments = FOOLBOX[name]
    model, x, y = problem
    wrapped = foolbox.TensorFlowModel(tf.function(model), bounds=(0, 1), device="/CPU:0")
    criterion = foolbox.criteria.Misclassification(tf.constant(y))
    x_adv = getattr(foolbox.attacks, theirs)(**arguments).run(wrapped, tf.constant(x), criterion)
    no_weaker(attack, problem, distances(problem, x_adv.numpy(), attack.norm))


@pytest.fixture(scope="module")
def classifier(problem):
    """The network as ART wants it."""
    classification = pytest.importorskip("art.estimators.classification")
    compiled = tf.function(problem[0])
    return classification.TensorFlowV2Classifier(
        model=lambda x, training=False: compiled(x),
        nb_classes=10,
        input_shape=(28, 28, 1),
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, 1.0),
    )


def test_deepfool_of_art(problem, classifier):
    evasion = pytest.importorskip("art.attacks.evasion")
    attack = evasion.DeepFool(classifier, max_iter=15, epsilon=0.02, nb_grads=10, batch_size=COUNT, verbose=False)
    no_weaker(DeepFool("l2", steps=15), problem, distances(problem, attack.generate(problem[1]), "l2"))


@pytest.mark.slow  # ART's line search asks the model up to ten times in every step.
def test_carlini_wagner_of_art(problem, classifier):
    evasion = pytest.importorskip("art.attacks.evasion")
    model, x, y = problem
    problem = model, x[:10], y[:10]
    attack = evasion.CarliniL2Method(
        classifier, max_iter=60, binary_search_steps=4, initial_const=1.0, learning_rate=0.01, batch_size=10,
        verbose=False,
    )  # fmt: skip
    x_adv = attack.generate(problem[1], keras.utils.to_categorical(problem[2], 10))
    no_weaker(CarliniWagnerL2(**CARLINI_WAGNER), problem, distances(problem, x_adv, "l2"))
