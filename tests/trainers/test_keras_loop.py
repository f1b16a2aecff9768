"""The trainers in Keras's own loop: validation, callbacks, what is saved, and what does not fit."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfrobust import losses
from tfrobust.attacks import PGD
from tfrobust.attacks.apgd import apgd_ce
from tfrobust.threat_models import ThreatModel
from tfrobust.trainers import AdversarialTrainer, DeepDefenseTrainer
from tfrobust.trainers.deep_defense import DeepDefense

THREAT = ThreatModel("linf", 0.1)
PGD_2 = PGD(THREAT, steps=2, step_size=0.06)
X = np.random.default_rng(0).uniform(size=(24, 6, 6, 1)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 24)
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def classifier(*extra, classes=3):
    keras.utils.set_random_seed(1)
    conv = layers.Conv2D(4, 3, activation="relu")
    return keras.Sequential([keras.Input((6, 6, 1)), conv, *extra, layers.Flatten(), layers.Dense(classes)])


def trainer_of(model, attack=PGD_2, *, learning_rate=0.1, jit_compile="auto", **options):
    trainer = AdversarialTrainer(model, attack, seed=0, **options)
    trainer.compile(keras.optimizers.SGD(learning_rate), CROSS_ENTROPY, metrics=["accuracy"], jit_compile=jit_compile)
    return trainer


def fit(trainer, x=X, y=Y, **options):
    return trainer.fit(x, y, **{"batch_size": 12, "shuffle": False, "verbose": 0, **options}).history


# Validation.


def test_validation_is_under_its_attack():
    model = classifier()
    strong = PGD(ThreatModel("linf", 0.5), steps=3, step_size=0.3, random_start=False)
    trainer = trainer_of(model, validation_attack=strong)
    x_adv = strong(model, X, Y, seed=0)
    loss, accuracy = trainer.evaluate(X, Y, batch_size=12, verbose=0)
    assert float(loss) == pytest.approx(float(CROSS_ENTROPY(Y, model(x_adv))), rel=1e-4)
    assert accuracy == np.mean(np.argmax(model(x_adv), axis=1) == Y)
    natural, _ = trainer_of(model).evaluate(X, Y, batch_size=12, verbose=0)
    assert float(natural) == pytest.approx(float(CROSS_ENTROPY(Y, model(X))), rel=1e-5) and loss > natural + 0.1
    history = fit(trainer, validation_data=(X, Y), epochs=1)
    assert set(history) == {"loss", "accuracy", "natural_accuracy", "val_loss", "val_accuracy"}


def test_a_deep_defense_has_no_regularizer_in_evaluation():
    trainer = DeepDefenseTrainer(classifier(), DeepDefense(iterations=1), seed=0)
    trainer.compile("sgd", CROSS_ENTROPY)
    assert set(fit(trainer, validation_data=(X, Y))) >= {"regularizer", "val_loss"}
    assert list(trainer.evaluate(X, Y, verbose=0, return_dict=True)) == ["loss"]


# What is saved.


def test_callbacks_keep_the_best_classifier(tmp_path):
    trainer = trainer_of(classifier(), validation_attack=PGD_2)
    path = tmp_path / "best.keras"
    best = keras.callbacks.ModelCheckpoint(path, monitor="val_loss", save_best_only=True)
    fit(trainer, validation_data=(X, Y), callbacks=[best], epochs=2)
    loaded = keras.models.load_model(path)
    assert type(loaded) is keras.Sequential
    np.testing.assert_array_equal(loaded(X), trainer.classifier(X))


def test_training_goes_on_from_a_backup(tmp_path):
    whole = trainer_of(classifier())
    fit(whole, epochs=3)
    stop = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: 1 / (epoch - 2))
    with pytest.raises(ZeroDivisionError):
        fit(trainer_of(classifier()), epochs=3, callbacks=[keras.callbacks.BackupAndRestore(tmp_path), stop])
    resumed = trainer_of(classifier())
    fit(resumed, epochs=3, callbacks=[keras.callbacks.BackupAndRestore(tmp_path)])
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# What a step is.


@pytest.mark.parametrize(
    ("name", "value"), [("attack", PGD(ThreatModel("linf", 0.5), 2, 0.5)), ("clean_weight", 1.0), ("weight_decay", 1.0)]
)
def test_what_is_changed_between_two_fits_counts(name, value):
    trainer = trainer_of(classifier(), learning_rate=0.0)
    before = fit(trainer)["loss"]
    setattr(trainer, name, value)
    assert abs(fit(trainer)["loss"][0] - before[0]) > 0.01


def test_any_attack_and_type_of_images_is_warmed_up():
    trainer = trainer_of(classifier(), apgd_ce(THREAT, steps=4), epsilon_warmup_steps=4)
    trainer.optimizer.iterations.assign(1)
    x_adv = trainer.perturb(tf.constant(X), tf.constant(Y))
    assert np.abs(x_adv - X).max() == pytest.approx(0.05, abs=1e-6)
    trainer.attack = PGD_2
    x = tf.cast(X, tf.float16)
    assert np.abs(trainer.perturb(x, tf.constant(Y)) - x).max() == pytest.approx(0.05, abs=2e-3)


def test_xla_compiles_a_step():
    # Signs of gradients that are almost 0 may differ.
    compiled, same = (fit(trainer_of(classifier(), jit_compile=jit))["loss"] for jit in (True, False))
    assert compiled == pytest.approx(same, rel=1e-2)


def test_activations_with_weights_are_trained():
    # Keras makes their weights when they are first called.
    activation = layers.PReLU()
    trainer = trainer_of(classifier(layers.Conv2D(4, 3, activation=activation)))
    fit(trainer)
    before = np.array(activation.alpha)
    fit(trainer)
    assert np.abs(activation.alpha - before).max() > 1e-4


def test_weight_decay_is_of_every_kernel():
    model = classifier(layers.SeparableConv2D(2, 3))
    decay = trainer_of(model, None, weight_decay=2.0).compute_loss(X, Y, model(X)) - CROSS_ENTROPY(Y, model(X))
    kernels = [v for v in model.trainable_variables if "kernel" in v.name]
    assert len(kernels) == 4
    assert float(decay) == pytest.approx(sum(float(tf.reduce_sum(v**2)) for v in kernels), rel=1e-4)
    model.trainable = False
    assert float(trainer_of(model, None, weight_decay=2.0).compute_loss(X, Y, model(X))) > 0


def test_images_without_weight_do_not_move_deep_defense():
    def trained(x):
        trainer = DeepDefenseTrainer(classifier(), DeepDefense(iterations=2), seed=0)
        trainer.compile(keras.optimizers.SGD(0.1), CROSS_ENTROPY)
        fit(trainer, x, batch_size=24, sample_weight=np.r_[np.ones(12), np.zeros(12)])
        return trainer.get_weights()

    for a, b in zip(trained(X), trained(np.r_[X[:12], 1 - X[12:]]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(("images", "policy"), [(np.float64, "float32"), (np.float16, "mixed_bfloat16")])
def test_deep_defense_of_other_types(images, policy):
    keras.config.set_dtype_policy(policy)
    try:
        trainer = DeepDefenseTrainer(classifier(), DeepDefense(iterations=1), PGD_2, seed=0, epsilon_warmup_steps=2)
    finally:
        keras.config.set_dtype_policy("float32")
    trainer.compile("sgd", CROSS_ENTROPY)
    batches = tf.data.Dataset.from_tensor_slices((X.astype(images), Y)).batch(12)
    assert np.isfinite(trainer.fit(batches, shuffle=False, verbose=0).history["loss"]).all()


# What does not fit.


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        keras.losses.sparse_categorical_crossentropy,
        keras.losses.SparseCategoricalCrossentropy(),
    ],
)
def test_losses_of_probabilities(loss):
    for arguments, options in (((), {"optimizer": "sgd", "loss": loss}), (("sgd", loss), {})):
        with pytest.raises(ValueError, match=r"loss must be one of logits, such as .* got \w+ of probabilities"):
            AdversarialTrainer(classifier(), PGD_2, seed=0).compile(*arguments, **options)


def test_other_losses_may_be_of_logits():
    for loss in (CROSS_ENTROPY, lambda y, z: tf.reduce_mean(losses.cross_entropy(z, y)), "mse", "no_such_loss"):
        AdversarialTrainer(classifier(), PGD_2, seed=0).compile("sgd", loss)


def test_accumulated_gradients_behind_scaled_losses():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(gradient_accumulation_steps=2))
    with pytest.raises(ValueError, match="optimizer must not have gradient_accumulation_steps"):
        AdversarialTrainer(classifier(), PGD_2, seed=0).compile(optimizer, CROSS_ENTROPY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attack": THREAT}, r"attack must be an attack, such as PGD\(threat, .* got ThreatModel"),
        ({"attack": None, "validation_attack": 0.1}, r"validation_attack must be an attack, .* got 0.1"),
        ({"attack": PGD(THREAT, 2, 0.1, loss=losses.Targeted())}, r"attack must lead away from the labels, got PGD\("),
        ({"attack": PGD_2, "seed": None}, "seed must be an integer from 0 to 2147483647, got None"),
    ],
)
def test_what_is_no_attack_or_seed(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdversarialTrainer(classifier(), **{"seed": 0, **arguments})


def classifier_of(last):
    return keras.Sequential([keras.Input(X.shape[1:]), classifier(), last])


def several_outputs(kind):
    images = keras.Input(X.shape[1:])
    flat = layers.Flatten()(images)
    outputs = [layers.Dense(3)(flat), layers.Dense(2)(flat)]
    return keras.Model(images, outputs if kind == "list" else {"logits": outputs[0], "features": outputs[1]})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: classifier_of(layers.Lambda(keras.ops.softmax)), "got probabilities"),
        (lambda: several_outputs("list"), r"must return one tensor of logits \[B, K\], got a list: make a keras.Model"),
        (lambda: several_outputs("dict"), r"must return one tensor of logits \[B, K\], got a dict: make a keras.Model"),
        (lambda: lambda x: x, "classifier must be a keras.Model, got <function"),
    ],
)
def test_what_is_no_classifier_of_logits(make, message):
    with pytest.raises(ValueError, match=message):
        AdversarialTrainer(make(), PGD_2, seed=0)


def test_a_model_of_a_fixed_batch_size():
    images = keras.Input(batch_shape=(12, *X.shape[1:]))
    flat = keras.ops.reshape(images, (12, 36))
    fit(trainer_of(keras.Model(images, layers.Dense(3)(flat)), natural_accuracy_every=0))


@pytest.mark.parametrize(
    "loss",
    ["categorical_crossentropy", keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)],
)
def test_losses_of_other_labels_than_class_numbers(loss):
    with pytest.raises(ValueError, match=r"loss must be one of class numbers, such as .* got CategoricalCrossentropy"):
        AdversarialTrainer(classifier(), PGD_2, seed=0).compile("sgd", loss)


@pytest.mark.parametrize("attack", [None, PGD_2])
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, Y + 1, r"labels must be class numbers from 0 to 2, got from 1 to 3"),
        (X, Y - 1, r"labels must be class numbers from 0 to 2, got from -1 to 1"),
        (255 * X, Y, r"images must be within \[0.0, 1.0\], got from .* to 25"),
    ],
)
def test_data_that_does_not_fit_is_one_line_whether_it_is_attacked_or_not(attack, x, y, message):
    trainer = trainer_of(classifier(), attack, validation_attack=None if attack else PGD_2)
    for call in (
        lambda: fit(trainer, x, y),
        lambda: trainer.evaluate(x, y, verbose=0),
        lambda: fit(trainer, validation_data=(x, y)),
        lambda: trainer.train_on_batch(x, y),
    ):
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_two_inputs():
    inputs = [keras.Input(X.shape[1:]), keras.Input((3,))]
    flat = layers.Concatenate()([layers.Flatten()(inputs[0]), inputs[1]])
    with pytest.raises(ValueError, match=r"classifier must have one input, images \[B, H, W, C\], got 2"):
        AdversarialTrainer(keras.Model(inputs, layers.Dense(3)(flat)), PGD_2, seed=0)


def test_a_list_of_losses():
    trainer = AdversarialTrainer(classifier(), PGD_2, seed=0)
    with pytest.raises(ValueError, match=r"loss must be one of logits, .* got SparseCategoricalCrossentropy of prob"):
        trainer.compile("sgd", [keras.losses.SparseCategoricalCrossentropy()])


def test_saved_weights_are_those_of_a_trainer(tmp_path):
    trainer, path = trainer_of(classifier()), tmp_path / "last.weights.h5"
    fit(trainer, callbacks=[keras.callbacks.ModelCheckpoint(path, save_weights_only=True)])
    other = classifier()
    other.set_weights([value + 1 for value in other.get_weights()])
    AdversarialTrainer(other, None, seed=0).load_weights(path)
    for actual, expected in zip(other.get_weights(), trainer.classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_a_single_logit():
    model = classifier(classes=1)
    message = r"classifier must return logits \[B, K\] of two classes or more, got \(\S+ 1\)"
    with pytest.raises(ValueError, match=message):
        PGD_2(model, X, Y, seed=0)
    trainer = AdversarialTrainer(model, PGD_2, seed=0)
    trainer.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match=message):
        fit(trainer, y=Y % 2)


def test_a_classifier_that_does_not_know_its_images():
    with pytest.raises(ValueError, match=r"classifier must be built: begin it with keras.Input\(shape\), or call it"):
        AdversarialTrainer(keras.Sequential([layers.Flatten(), layers.Dense(3)]), PGD_2, seed=0)


def test_named_images():
    inputs = keras.Input((6, 6, 1), name="image")
    model = keras.Model({"image": inputs}, layers.Dense(3)(layers.Flatten()(inputs)))
    with pytest.raises(ValueError, match="batches must be of images and labels, one tensor each, got dict and"):
        fit(trainer_of(model), x={"image": X})


def test_arrays_of_a_single_batch_when_run_eagerly():
    found = []
    for eagerly in (False, True):
        trainer = trainer_of(classifier(), precision="float32")
        trainer.run_eagerly = eagerly
        results = trainer.train_on_batch(X, Y), trainer.test_on_batch(X, Y, np.ones(len(X), np.float32))
        found.append([value for result in results for value in result])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)
    for function in (trainer.train_on_batch, trainer.test_on_batch):
        with pytest.raises(ValueError, match="labels must be class numbers from 0 to 2") as error:
            function(X, Y + 1)
        assert "\n" not in str(error.value)
