"""Adversarial training: the update of the adversarial batch, Keras's own loop, one device or two."""

import json
import math
import pathlib
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfrobust import batches, datasets, seeds
from tfrobust.attacks import PGD, fgsm
from tfrobust.threat_models import ThreatModel
from tfrobust.trainers import AdversarialTrainer

ROOT = pathlib.Path(__file__).resolve().parents[2]
PGD_3 = PGD(ThreatModel("linf", 0.1), steps=3, step_size=0.05)
X = np.random.default_rng(0).uniform(size=(12, 6, 6, 1)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 12)


def classifier(*extra, **options):
    keras.utils.set_random_seed(1)
    conv = layers.Conv2D(4, 3, activation="relu", **options)
    return keras.Sequential([keras.Input((6, 6, 1)), conv, *extra, layers.Flatten(), layers.Dense(3)])


def compiled(model, learning_rate=0.1, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(learning_rate), loss, **options)
    return model


def trainer_of(model, attack=PGD_3, *, learning_rate=0.1, metrics=(), **options):
    options = {"seed": 0, "precision": "float32", "natural_accuracy_every": 0, **options}
    return compiled(AdversarialTrainer(model, attack, **options), learning_rate, metrics=list(metrics))


def fit(model, x=X, y=Y, **options):
    return model.fit(x, y, **{"batch_size": len(x), "shuffle": False, "verbose": 0, **options}).history


def assert_same_weights(a, b, tolerance=1e-6):
    for left, right in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, atol=tolerance)


# One update.


def hand_made_update(model, x, y, learning_rate=0.1, weights=1.0):
    with tf.GradientTape() as tape:
        loss = keras.losses.sparse_categorical_crossentropy(y, model(x, training=True), from_logits=True)
        loss = tf.reduce_mean(loss * weights)
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        variable.assign_sub(learning_rate * gradient)
    return float(loss)


@pytest.mark.parametrize("weights", [None, np.arange(12, dtype=np.float32)])
def test_a_step_is_the_update_of_the_adversarial_batch(weights):
    model, expected, natural = (classifier(layers.BatchNormalization()) for _ in range(3))
    trainer = trainer_of(model, metrics=["accuracy"])
    x_adv = trainer.perturb(tf.constant(X), tf.constant(Y)).numpy()
    assert np.all(np.max(np.abs(x_adv - X), axis=(1, 2, 3)) > 0.05)
    accuracy = np.mean(np.argmax(expected(x_adv, training=True), axis=1) == Y)
    expected.set_weights(model.get_weights())
    history = fit(trainer, sample_weight=weights)
    loss = hand_made_update(expected, x_adv, Y, weights=1.0 if weights is None else weights)
    assert_same_weights(model, expected)  # the moving statistics among them
    assert history["accuracy"][0] == pytest.approx(accuracy)
    assert history["loss"][0] == pytest.approx(loss, rel=1e-5)
    hand_made_update(natural, X, Y)
    assert np.max(np.abs(natural.get_weights()[0] - model.get_weights()[0])) > 1e-4


def test_labels_in_a_column_are_the_same_labels():
    """As keras.datasets.cifar10 has them."""
    model, expected = classifier(), classifier()
    options = {"natural_accuracy_every": 1, "metrics": ["accuracy"]}
    histories = [fit(trainer_of(m, **options), y=y) for m, y in ((expected, Y), (model, Y[:, np.newaxis]))]
    assert_same_weights(model, expected)
    for name, value in histories[0].items():
        assert histories[1][name] == pytest.approx(value)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X * 255, r"^images must be within \[0.0, 1.0\], got from \S+ to \S+$"),
        (np.where(X > 0.5, np.nan, X), r"^images must be within \[0.0, 1.0\], got from nan to nan$"),
        # As in keras.datasets.
        ((X * 255).astype(np.uint8), r"^images must be floating point numbers in \[0.0, 1.0\], got uint8"),
    ],
)
def test_pixels_that_the_attack_would_clip_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        fit(trainer_of(classifier()), x=x)


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"labels must be class numbers \[B\] or \[B, 1\], got shape \(12, 3\)"):
        fit(trainer_of(classifier()), y=np.eye(3, dtype=np.float32)[Y])


def test_accumulated_gradients_are_refused():
    trainer = AdversarialTrainer(classifier(), PGD_3, seed=0)
    with pytest.raises(ValueError, match="optimizer must not have gradient_accumulation_steps"):
        trainer.compile(keras.optimizers.Adam(gradient_accumulation_steps=2), "sparse_categorical_crossentropy")


def test_without_an_attack_it_is_natural_training():
    model, expected = (classifier(layers.BatchNormalization()) for _ in range(2))
    history = fit(trainer_of(model, attack=None), batch_size=4, epochs=2)
    assert history["loss"] == pytest.approx(fit(compiled(expected), batch_size=4, epochs=2)["loss"], rel=1e-5)
    assert_same_weights(model, expected)


@pytest.mark.parametrize("regularizer", ["kernel_regularizer", "activity_regularizer"])
def test_regularisation_of_the_classifier_is_in_the_loss(regularizer):
    model, expected = (classifier(**{regularizer: keras.regularizers.L2(0.1)}) for _ in range(2))
    loss = fit(trainer_of(model, attack=None))["loss"]
    assert loss == pytest.approx(fit(compiled(expected))["loss"], rel=1e-5)
    assert_same_weights(model, expected)


def test_weight_decay_is_a_penalty_on_kernels():
    # c/2 of the sum of squares of both kernels; not on biases, nor on the scale of the normalisation.
    model, expected = (classifier(layers.BatchNormalization()) for _ in range(2))
    kernels = [variable for variable in expected.trainable_variables if variable.name == "kernel"]
    assert len(kernels) == 2
    penalty = sum(0.15 * np.sum(np.square(kernel)) for kernel in kernels)
    plain = trainer_of(expected, attack=None)
    loss = fit(trainer_of(model, attack=None, weight_decay=0.3))["loss"][0]
    before = expected.get_weights()
    assert loss == pytest.approx(fit(plain)["loss"][0] + penalty, rel=1e-5)
    after = {v.path: 0.1 * 0.3 * w for v, w in zip(expected.variables, before, strict=True) if v.name == "kernel"}
    for variable, found in zip(expected.variables, model.get_weights(), strict=True):
        np.testing.assert_allclose(found, variable.numpy() - after.get(variable.path, 0.0), atol=1e-6)


def test_the_mixed_objective():
    # alpha J(x) + (1 - alpha) J(x_adv) with alpha 0.3, whose update is the mean of both, so weighted.
    attack = fgsm(ThreatModel("linf", 0.1))
    model, natural, adversarial = (classifier() for _ in range(3))
    x_adv = attack(natural, tf.constant(X), tf.constant(Y), seed=0).numpy()
    before = natural.get_weights()
    losses = hand_made_update(natural, X, Y), hand_made_update(adversarial, x_adv, Y)
    trainer = trainer_of(model, attack, clean_weight=0.3, metrics=["accuracy"])
    history = fit(trainer)
    assert history["loss"][0] == pytest.approx(0.3 * losses[0] + 0.7 * losses[1], rel=1e-5)
    for found, start, a, b in zip(
        model.get_weights(), before, natural.get_weights(), adversarial.get_weights(), strict=True
    ):
        np.testing.assert_allclose(found, start + 0.3 * (a - start) + 0.7 * (b - start), atol=1e-6)


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_clean_weight_out_of_range(value):
    with pytest.raises(ValueError, match=f"clean_weight must be from 0 to 1, got {value}"):
        trainer_of(classifier(), clean_weight=value)


def test_batch_statistics_during_the_attack():
    # As in the original for CIFAR10: gradients see the statistics of the batch, and each of them moves the average.
    def moving(attack_batch_norm):
        normalization = layers.BatchNormalization(momentum=0.5)
        model = classifier(normalization)
        trainer = trainer_of(model, learning_rate=0.0, attack_batch_norm=attack_batch_norm)
        assert np.all(normalization.moving_mean.numpy() == 0)
        x_adv = trainer.perturb(tf.constant(X), tf.constant(Y)).numpy()
        attacked = normalization.moving_mean.numpy()
        fit(trainer)
        return x_adv, attacked

    x_adv, attacked = moving("inference")
    assert np.all(attacked == 0)
    other, attacked = moving("batch")
    assert np.max(np.abs(attacked)) > 1e-3
    model = classifier(layers.BatchNormalization(momentum=0.5))
    seed = seeds.fold_in(seeds.fold_in(0, 0), 0)
    expected = PGD_3(lambda x: model(x, training=True), tf.constant(X), tf.constant(Y), seed=seed)
    np.testing.assert_allclose(other, expected, atol=1e-6)
    assert np.mean(np.abs(other - x_adv) > 1e-3) > 0.05


def test_validation_and_prediction_are_the_classifiers():
    model = classifier(layers.BatchNormalization())
    trainer = trainer_of(model, learning_rate=0.0, metrics=["accuracy"])
    history = fit(trainer, validation_data=(X, Y))
    np.testing.assert_allclose(trainer.predict(X, verbose=0), model(X, training=False), atol=1e-6)
    assert history["val_accuracy"][0] == pytest.approx(np.mean(np.argmax(model(X), axis=1) == Y))


# Noise and schedule.


def test_noise_depends_on_seed_and_step_alone():
    def perturb(seed, step):
        trainer = trainer_of(classifier(), PGD(ThreatModel("linf", 0.1), 1, 0.0), seed=seed)
        trainer.optimizer.iterations.assign(step)
        return trainer.perturb(tf.constant(X), tf.constant(Y)).numpy()

    first = perturb(seed=0, step=3)
    np.testing.assert_array_equal(perturb(seed=0, step=3), first)
    for seed, step in ((0, 4), (1, 3), (3, 0)):
        assert np.mean(perturb(seed, step) == first) < 0.2


def test_epsilon_warmup():
    # One step of length epsilon from x itself moves the pixels by epsilon, and all of X's are 0.1 inside of bounds.
    attack = fgsm(ThreatModel("linf", 0.08))
    trainer = trainer_of(classifier(), attack, epsilon_warmup_steps=4)
    distances = []
    for step in range(6):
        trainer.optimizer.iterations.assign(step)
        delta = trainer.perturb(tf.constant(0.1 + 0.8 * X), tf.constant(Y)) - (0.1 + 0.8 * X)
        distances.append(np.max(np.abs(delta)))
    np.testing.assert_allclose(distances, [0.02, 0.04, 0.06, 0.08, 0.08, 0.08], atol=1e-6)


def test_training_is_decided_by_the_seed():
    models = [classifier() for _ in range(3)]
    for model, seed in zip(models, (7, 7, 8), strict=True):
        fit(trainer_of(model, seed=seed), batch_size=4, epochs=2)
    assert_same_weights(models[0], models[1], tolerance=0)
    assert np.max(np.abs(models[0].get_weights()[0] - models[2].get_weights()[0])) > 1e-5


# Metrics.


def test_natural_accuracy_of_every_so_many_batches():
    # A learning rate of 0 keeps the classifier; batches of 4 are right, wrong, right by construction.
    model = classifier()
    right = np.argmax(model(X), axis=1)
    y = np.concatenate([right[:4], (right[4:8] + 1) % 3, right[8:]])
    options = {"learning_rate": 0.0}
    for every, expected in ((1, 2 / 3), (2, 1.0)):
        history = fit(trainer_of(model, natural_accuracy_every=every, **options), y=y, batch_size=4)
        assert history["natural_accuracy"] == pytest.approx([expected])
    assert "natural_accuracy" not in fit(trainer_of(model, natural_accuracy_every=0, **options), y=y)


def test_natural_accuracy_is_never_reported_where_it_was_not_measured():
    # The classifier is right everywhere. Epochs have 3 steps, so that the third and the fourth measure nothing.
    model = classifier()
    y = np.argmax(model(X), axis=1)
    trainer = trainer_of(model, learning_rate=0.0, natural_accuracy_every=5)
    history = fit(trainer, y=y, batch_size=4, epochs=4, validation_data=(X, y))
    reported = [value for name, values in history.items() if "natural_accuracy" in name for value in values]
    assert 1.0 in reported and all(value == 1.0 or np.isnan(value) for value in reported), history


@pytest.mark.parametrize("argument", ["epsilon_warmup_steps", "natural_accuracy_every", "weight_decay"])
def test_errors_name_argument_expectation_and_value(argument):
    for value in (-1, math.nan) if argument == "weight_decay" else (-1, 2.5):
        with pytest.raises(ValueError, match=f"{argument} must be .*(at least 0|0 or more), got {value}"):
            AdversarialTrainer(classifier(), PGD_3, seed=0, **{argument: value})


def test_a_seed_that_noise_cannot_have():
    with pytest.raises(ValueError, match=f"seed must be an integer from 0 to {2**31 - 1}, got {2**31}"):
        AdversarialTrainer(classifier(), PGD_3, seed=2**31)


def test_how_often_natural_accuracy_is_measured_may_change():
    trainer = trainer_of(classifier(), learning_rate=0.0, natural_accuracy_every=100)
    fit(trainer)
    trainer.natural_accuracy_every = 1
    assert fit(trainer)["natural_accuracy"][0] >= 0
    without = trainer_of(classifier(), natural_accuracy_every=0)
    with pytest.raises(ValueError, match="natural_accuracy_every must stay 0 in a trainer that was made with 0, got 1"):
        without.natural_accuracy_every = 1


def test_an_attack_that_looks_beyond_thresholds():
    plain, some, every = (trainer_of(classifier(), relu_window_share=share) for share in (0.0, 0.5, 1.0))
    some.classifier.set_weights(plain.classifier.get_weights())
    x_adv, looking, seeing = (
        trainer.perturb(tf.constant(X), tf.constant(Y)).numpy() for trainer in (plain, some, every)
    )
    assert np.any(looking != x_adv, axis=(1, 2, 3)).mean() > 0.3
    assert np.any(seeing != x_adv, axis=(1, 2, 3)).mean() > np.any(looking != x_adv, axis=(1, 2, 3)).mean() * 0.99
    assert np.any(seeing != looking)
    # The update is that of the images, by the function's own gradient.
    expected = classifier()
    expected.set_weights(every.classifier.get_weights())
    hand_made_update(expected, every.perturb(tf.constant(X), tf.constant(Y)), Y)
    fit(every)
    assert_same_weights(every.classifier, expected)


def test_validation_has_plain_gradients():
    plain, every = (trainer_of(classifier(), relu_window_share=s, validation_attack=PGD_3) for s in (0.0, 1.0))
    losses = [trainer.evaluate(X, Y, batch_size=12, verbose=0, return_dict=True)["loss"] for trainer in (plain, every)]
    assert losses[0] == losses[1]


def test_windows_that_cannot_be():
    def make(attack=PGD_3, model=None, **options):
        return trainer_of(model or classifier(), attack, **{"relu_window_share": 0.5, **options})

    for share in (-0.1, 1.5):
        with pytest.raises(ValueError, match=f"relu_window_share must be from 0 to 1, got {share}"):
            make(relu_window_share=share)
    with pytest.raises(ValueError, match="relu_window_share must be 0 with attack_batch_norm='batch'"):
        make(attack_batch_norm="batch")
    with pytest.raises(ValueError, match="relu_window_share must be 0 in other norms than linf, got 'l2'"):
        make(PGD(ThreatModel("l2", 1.0), 2, 0.5))
    with pytest.raises(ValueError, match="windows need a classifier"):
        make(model=keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(3)]))
    make(attack=None)


# Two devices.

TWO_DEVICES = """
    import json, sys
    import numpy as np, tensorflow as tf
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    from keras import layers
    from tests.trainers.test_adversarial import PGD, ThreatModel, classifier, fit, trainer_of

    def trained(strategy, *extra, attack_batch_norm="inference", **options):
        attack = PGD(ThreatModel("linf", 0.1), steps=2, step_size=0.05, **options)
        with strategy.scope():
            options = {"weight_decay": 0.1, "attack_batch_norm": attack_batch_norm, "natural_accuracy_every": 1}
            trainer = trainer_of(classifier(*extra), attack, metrics=["accuracy"], **options)
        history = fit(trainer, batch_size=4, epochs=2)
        if two.num_replicas_in_sync == strategy.num_replicas_in_sync:
            for variable in trainer.classifier.variables:
                np.testing.assert_array_equal(*variable.value.values)
        return [w.tolist() for w in trainer.classifier.get_weights()], history

    one, two = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    before = [w.tolist() for w in classifier().get_weights()]
    result = {"before": before, "replicas": two.num_replicas_in_sync}
    result["one"], result["one_history"] = trained(one, random_start=False)
    result["two"], result["two_history"] = trained(two, random_start=False)
    with two.scope():
        extra = layers.BatchNormalization()
    result["batch_norm"], _ = trained(two, extra, random_start=True)
    with two.scope():
        extra = layers.BatchNormalization()
    result["attack_batch_norm"], _ = trained(two, extra, random_start=True, attack_batch_norm="batch")
    json.dump(result, sys.stdout)
"""


def test_two_devices_train_as_one():
    command = [sys.executable, "-c", textwrap.dedent(TWO_DEVICES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout[done.stdout.index("{") :])
    assert result["replicas"] == 2
    for one, two, before in zip(result["one"], result["two"], result["before"], strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5)
        assert np.max(np.abs(np.subtract(one, before))) > 1e-3
    assert result["one_history"].keys() == result["two_history"].keys()
    for name, values in result["one_history"].items():
        np.testing.assert_allclose(result["two_history"][name], values, atol=1e-5, err_msg=name)
    # With random starts and batch normalisation: it trains, and its moving statistics leave their initial 0 and 1.
    for name in ("batch_norm", "attack_batch_norm"):
        _, _, _, shift, mean, variance, *_ = result[name]
        assert np.max(np.abs(shift)) > 1e-3 and np.max(mean) > 1e-3
        assert np.all(np.abs(np.subtract(variance, 1)) > 1e-3) and np.all(np.isfinite(variance))


# A dataset.


def test_digits():
    train = datasets.load("digits", "train")
    keras.utils.set_random_seed(1)
    stack = [layers.Conv2D(8, 5, strides=2, activation="relu"), layers.Flatten(), layers.Dense(10)]
    model = keras.Sequential([keras.Input((28, 28, 1)), *stack])
    trainer = trainer_of(model, precision="auto", epsilon_warmup_steps=5)
    trainer.compile(keras.optimizers.Adam(3e-3), trainer.loss)
    loss = []
    for start_step in range(0, 60, 15):
        stream = batches.training_batches(
            train.images, train.labels, batch_size=64, seed=0, start_step=start_step, num_steps=15
        )
        loss += trainer.fit(stream, shuffle=False, verbose=0).history["loss"]
    assert np.all(np.diff(loss) < 0) and loss[-1] < 0.5 * loss[0], loss
