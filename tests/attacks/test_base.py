"""What all attacks have in common: gradients are each example's own, and images and labels are checked."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust import losses
from tfrobust.attacks import APGD, DDN, FAB, ODI, PGD, RFGSM, MomentumPGD, Square, TargetedPGD, bim, catalogue, fgsm
from tfrobust.attacks.apgd import apgd_ce, apgd_t
from tfrobust.attacks.base import input_gradient, require_from_labels
from tfrobust.threat_models import ThreatModel

X = np.random.default_rng(0).uniform(size=(4, 2, 2, 1)).astype(np.float32)
Y = np.array([0, 1, 2, 0])


def test_input_gradient_by_hand():
    # Logits (0, w . x) with w = (2, -1): the margin of label 0 has the gradient w and that of label 1 has -w, with no
    # factor for the three examples of the batch.
    def logits_fn(x):
        return tf.pad(tf.reshape(x, [-1, 2]) @ [[2.0], [-1.0]], [[0, 0], [1, 0]])

    gradient = input_gradient(logits_fn, losses.margin, tf.zeros([3, 1, 2, 1]), tf.constant([0, 1, 0]))
    np.testing.assert_array_equal(gradient[:, 0, :, 0], [[2, -1], [-2, 1], [2, -1]])


@pytest.mark.parametrize("name", sorted(catalogue.CATALOGUE))
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X * 255, Y, r"images must be within \[0.0, 1.0\], got from"),
        ((X * 255).astype(np.uint8), Y, r"images must be floating point numbers in \[0.0, 1.0\], got uint8"),
        (X, Y[:, None], r"labels must be class numbers \[B\], one for each image, got \(4, 1\) for images \(4, 2, 2"),
        (X, np.eye(4)[Y], r"labels must be class numbers \[B\]"),
        (X, Y[:3], r"labels must be class numbers \[B\]"),
    ],
    ids=["grey levels", "integers", "a column of labels", "one-hot labels", "a label missing"],
)
def test_images_and_labels_are_checked(name, x, y, message):
    def logits_fn(x):
        raise AssertionError("asked about images that are not valid")

    norm = catalogue.CATALOGUE[name].norms[0]
    (attack,) = catalogue.parse(name, ThreatModel(norm, 0.1)).values()
    with pytest.raises(ValueError, match=message):
        attack(logits_fn, x, y, seed=0)


def test_pixels_are_checked_in_graphs_too():
    (attack,) = catalogue.parse("fgsm", ThreatModel("linf", 0.1)).values()
    in_graph = tf.function(lambda x: attack(tf.keras.layers.Flatten(), x, Y, seed=0), autograph=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"images must be within \[0.0, 1.0\], got from\] \[0\]"):
        in_graph(tf.constant(np.round(X) * 3))


@pytest.mark.parametrize(
    "attack",
    [
        FAB(ThreatModel("linf", 0.3), steps=2),
        FAB(ThreatModel("l2", 2.0), steps=5, targets=1),
        apgd_ce(ThreatModel("l2", 0.3), steps=3),
        apgd_t(ThreatModel("linf", 0.3), steps=3, targets=1),
        PGD(ThreatModel("linf", 0.3), 2, 0.2),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_images_are_constants_of_a_tape_around(attack):
    weights = tf.Variable(np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32))
    with tf.GradientTape() as tape:
        x_adv = attack(lambda x: tf.reshape(x, [-1, 4]) @ weights, X, Y, seed=0)
    assert np.abs(x_adv - X).max() > 0.05
    assert tape.gradient(x_adv, weights) is None


def test_targeted_losses_of_attacks_that_look_for_any_class():
    linf, targeted = ThreatModel("linf", 0.1), losses.Targeted()
    for make in (
        lambda: APGD(linf, loss=targeted),
        lambda: Square(linf, loss=targeted),
        lambda: ODI(PGD(linf, 1, 0.1, loss=targeted)),
        lambda: TargetedPGD(PGD(linf, 1, 0.1, loss=targeted)),
    ):
        with pytest.raises(ValueError, match=r"must have an untargeted loss, got Targeted\(loss=cross_entropy\)"):
            make()
    with pytest.raises(ValueError, match="attack must be a PGD, got MomentumPGD"):
        TargetedPGD(MomentumPGD(linf, 1, 0.1))


@pytest.mark.parametrize("make", [lambda threat: PGD(threat, 1, 0.1), fgsm, bim, RFGSM, APGD, Square])
@pytest.mark.parametrize("threat", [0.1, "linf"])
def test_what_is_no_threat_model(make, threat):
    with pytest.raises(ValueError, match=r"threat must be a ThreatModel, such as ThreatModel\('linf', 0.3\), got "):
        make(threat)


class OwnLoss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return losses.cross_entropy(y_pred, y_true)


@pytest.mark.parametrize("targeted", [1, True, np.True_])
def test_attacks_toward_labels(targeted):
    with pytest.raises(ValueError, match=r"attacks must lead away from the labels, got DDN\(.*targeted="):
        require_from_labels("attacks", DDN(targeted=targeted))
    require_from_labels("attacks", DDN(targeted=False))


@pytest.mark.parametrize(
    "make",
    [
        lambda loss: PGD(ThreatModel("linf", 0.1), 1, 0.1, loss=loss),
        lambda loss: MomentumPGD(ThreatModel("linf", 0.1), 1, 0.1, loss=loss),
        lambda loss: APGD(ThreatModel("linf", 0.1), loss=loss),
        lambda loss: RFGSM(ThreatModel("linf", 0.1), loss=loss),
    ],
)
@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ("cw", "got 'cw'"),
        (
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "got of Keras .*sparse_categorical_crossentropy",
        ),
        (OwnLoss(), "got of Keras .*OwnLoss"),
        (functools.partial(keras.losses.sparse_categorical_crossentropy, from_logits=True), "got of Keras "),
        (keras.losses.sparse_categorical_crossentropy, "got of Keras sparse_categorical_crossentropy"),
    ],
)
def test_what_is_no_loss(make, loss, said):
    with pytest.raises(ValueError, match=r"loss must be a function of logits \[B, K\] and labels \[B\].*" + said):
        make(loss)
