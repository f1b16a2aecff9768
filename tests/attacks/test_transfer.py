"""Transfer: only the surrogate is asked, and reports call it by name."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfrobust import evaluation
from tfrobust.attacks.base import describe, scaled
from tfrobust.attacks.pgd import PGD, fgsm
from tfrobust.attacks.transfer import Transfer, named
from tfrobust.precision import AttackTwin
from tfrobust.threat_models import ThreatModel
from tfrobust.trainers import AdversarialTrainer

THREAT = ThreatModel("linf", 0.1)


def linear(*weights):
    """Logits (0, w . x) of images of len(weights) pixels."""
    return lambda x: tf.pad(
        tf.reshape(x, [-1, len(weights)]) @ tf.constant(weights, shape=[len(weights), 1]), [[0, 0], [1, 0]]
    )


def image(*pixels):
    return tf.constant(pixels, shape=[1, 1, len(pixels), 1])


def unasked(x):
    raise AssertionError("the attacked model was asked")


def test_the_surrogates_gradient_by_hand():
    # FGSM moves label 0 along the sign of the surrogate's w = (2, -1), and asks nobody else.
    attack = Transfer(fgsm(THREAT), linear(2.0, -1.0))
    x_adv = attack(unasked, image(0.5, 0.5), tf.constant([0]), seed=0, judge_fn=unasked)
    np.testing.assert_allclose(np.ravel(x_adv), [0.6, 0.4], atol=1e-7)
    assert attack.threat == THREAT


def test_restarts_are_chosen_by_the_surrogate():
    x, y, surrogate = tf.fill([4, 1, 3, 1], 0.5), tf.zeros([4], tf.int32), linear(1.0, -1.0, 2.0)
    attack = PGD(THREAT, 1, 0.0, restarts=5)
    actual = Transfer(attack, surrogate)(unasked, x, y, seed=3, judge_fn=unasked)
    np.testing.assert_array_equal(actual, attack(surrogate, x, y, seed=3))


@pytest.fixture
def model():
    # Dropout everywhere: in training mode every logit would be 0 or doubled.
    keras.utils.set_random_seed(0)
    inputs = keras.Input((1, 3, 1))
    outputs = layers.Dense(2)(layers.Dropout(0.5)(layers.Flatten()(inputs)))
    return keras.Model(inputs, outputs, name="model_a")


def test_a_keras_model_is_called_in_inference_mode_and_by_name(model):
    x, y = tf.fill([4, 1, 3, 1], 0.5), tf.zeros([4], tf.int32)
    attack = Transfer(PGD(THREAT, 3, 0.05), model)
    expected = PGD(THREAT, 3, 0.05)(lambda x: model(x, training=False), x, y, seed=0)
    np.testing.assert_allclose(attack(unasked, x, y, seed=0), expected, atol=1e-6)
    assert describe(attack) == f"Transfer(attack={describe(attack.attack)}, surrogate=model_a, precision='float32')"


def test_a_name_of_ones_own(model):
    x = tf.random.stateless_uniform([4, 1, 3, 1], [0, 0])
    for surrogate in (model, linear(1.0, 2.0, 3.0)):
        attack = Transfer(fgsm(THREAT), named(surrogate, "B, naturally trained"))
        assert describe(attack).endswith("surrogate=B, naturally trained, precision='float32')")
        np.testing.assert_allclose(attack.surrogate(x), surrogate(x), atol=1e-6)


def test_gradients_of_other_precision():
    keras.utils.set_random_seed(0)
    stack = [layers.Conv2D(4, 3, activation="relu"), layers.Conv2D(4, 3, activation="relu"), layers.Flatten()]
    model = keras.Sequential([keras.Input((8, 8, 1)), *stack, layers.Dense(3)])
    x, y = tf.random.stateless_uniform([4, 8, 8, 1], [0, 0]), tf.zeros([4], tf.int32)
    attack = PGD(ThreatModel("l2", 1.0), 3, 0.5, random_start=False)
    twin = AttackTwin(model, "bfloat16")
    expected = attack(twin.logits_fn(), x, y, seed=0)
    np.testing.assert_allclose(Transfer(attack, model, "bfloat16")(unasked, x, y, seed=0), expected, atol=1e-6)
    np.testing.assert_allclose(
        Transfer(attack, named(model, "B"), "bfloat16")(unasked, x, y, seed=0), expected, atol=1e-6
    )
    assert np.abs(Transfer(attack, model)(unasked, x, y, seed=0) - expected).max() > 1e-5


def test_evaluation_of_one_model_with_images_of_another():
    # The surrogate's FGSM image adds 0.1 (1, -1) to (0.5, 0.5). The model (0, a - b - 0.1) is fooled by it, and
    # (0, b - a - 0.1) is not.
    images, labels = np.full((3, 1, 2, 1), 0.5, np.float32), np.zeros(3, np.int64)
    attacks = {"transfer": Transfer(fgsm(THREAT), named(linear(1.0, -1.0), "A"))}
    for sign, accuracy in ((1.0, 0.0), (-1.0, 1.0)):
        report = evaluation.evaluate(lambda x, s=sign: linear(s, -s)(x) - [0.0, 0.1], images, labels, attacks, seed=0)
        assert report.robust_accuracy == accuracy


@pytest.mark.parametrize("surrogate", ["model", PGD(THREAT, 1, 0.1)])
def test_a_surrogate_has_a_name(surrogate):
    with pytest.raises(ValueError, match=r"surrogate must be a keras\.Model or a function with a name, got "):
        Transfer(fgsm(THREAT), surrogate)


def test_scaled():
    attack = Transfer(PGD(ThreatModel("linf", 0.2), 5, 0.1), named(lambda x: x, "surrogate"))
    assert attack.scaled(0.5) == Transfer(PGD(ThreatModel("linf", 0.1), 5, 0.05), attack.surrogate)


def test_a_scaled_attack_has_the_same_surrogate(model):
    # In a graph, as in a training step with a warm-up of epsilon, no other twin can be made.
    x, y = tf.fill([4, 1, 3, 1], 0.5), tf.zeros([4], tf.int32)
    attack = Transfer(PGD(THREAT, 3, 0.05), model)

    @tf.function(autograph=False)
    def at(share):
        return scaled(attack, share)(unasked, x, y, seed=0)

    assert scaled(attack, 0.5).threat.epsilon == 0.05 and attack.threat.epsilon == 0.1
    np.testing.assert_allclose(at(tf.constant(0.5)), scaled(attack, 0.5)(unasked, x, y, seed=0), atol=1e-6)
    np.testing.assert_allclose(at(tf.constant(1.0)), attack(unasked, x, y, seed=0), atol=1e-6)


def test_training_with_a_warmup_on_another_models_images(model):
    trainer = AdversarialTrainer(
        keras.models.clone_model(model), Transfer(fgsm(THREAT), model), seed=0, epsilon_warmup_steps=2
    )
    trainer.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trainer.fit(np.full([4, 1, 3, 1], 0.5, np.float32), np.zeros([4], np.int32), epochs=2, verbose=0)
