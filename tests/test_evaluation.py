"""Evaluation: robust accuracy known by hand, the worst case of each example, and no belief in what attacks return."""

import dataclasses
import json
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfrobust import checks, losses
from tfrobust.attacks import PGD, TargetedPGD, Transfer, fgsm
from tfrobust.evaluation import InvalidAdversarialExampleError, evaluate
from tfrobust.reports import NATURAL, STANDING
from tfrobust.threat_models import ThreatModel

LINF = ThreatModel("linf", 0.1)
# Images of one pixel, of which those above 0.5 are of class 1. All but the last are classified correctly.
PIXELS = np.float32([0.0, 0.35, 0.45, 0.55, 0.65, 1.0, 0.2]).reshape(-1, 1, 1, 1)
LABELS = np.array([0, 0, 0, 1, 1, 1, 1])


def threshold(x):
    """Logits (0, 10 (pixel - 0.5))."""
    return tf.pad(10 * (tf.reshape(x, [-1, 1]) - 0.5), [[0, 0], [1, 0]])


@dataclasses.dataclass(frozen=True)
class Custom:
    """An attack that returns any function of the images."""

    move: Callable
    threat: ThreatModel = LINF

    def __call__(self, logits_fn, x, y, *, seed, judge_fn=None):
        return self.move(x)


def brighter(x):
    return tf.minimum(x + 0.1, 1)


def darker(x):
    return tf.maximum(x - 0.1, 0)


def convolutional():
    keras.utils.set_random_seed(1)
    stack = [layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization(), layers.Flatten(), layers.Dense(3)]
    return keras.Sequential([keras.Input((6, 6, 1)), *stack])


def examples(model, count=10):
    x = np.random.default_rng(0).uniform(size=(count, 6, 6, 1)).astype(np.float32)
    return x, np.argmax(model(x), axis=1)


# Numbers.


def test_mean_losses_by_hand():
    # The right class leads by 10 (pixel - 0.5), with the other sign for class 0.
    report = evaluate(threshold, PIXELS, LABELS, {"darker": Custom(darker)}, seed=0)
    for found, pixels in ((report.clean_loss, PIXELS), (report.attacks[0].mean_loss, np.maximum(PIXELS - 0.1, 0))):
        lead = 10 * (pixels.ravel() - 0.5) * np.where(LABELS == 1, 1, -1)
        assert found == pytest.approx(np.mean(np.log1p(np.exp(-lead))), rel=1e-5)


def test_images_of_each_attack():
    images = {}
    attacks = {"up": Custom(brighter), "down": Custom(darker)}
    report = evaluate(threshold, PIXELS, LABELS, attacks, seed=0, on_images=images.__setitem__)
    np.testing.assert_allclose(images["up"], np.minimum(PIXELS + 0.1, 1), atol=1e-6)
    # The report keeps the natural image of the last example, which is misclassified.
    np.testing.assert_allclose(images["down"], np.maximum(PIXELS - 0.1, 0), atol=1e-6)
    assert report.x_adv[-1] == PIXELS[-1]


def test_what_each_example_fell_to():
    attacks = {"up": Custom(brighter), "down": Custom(darker)}
    report = evaluate(threshold, PIXELS, LABELS, attacks, seed=0)
    np.testing.assert_array_equal(report.clean_predictions, [0, 0, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(report.fell_to, [STANDING, STANDING, 0, 1, STANDING, STANDING, NATURAL])
    assert set(report.as_json()) == {
        *("clean_accuracy", "clean_loss", "robust_accuracy", "num_examples", "seed", "precision", "threat_model"),
        *("attacks", "skipped", "relu_window"),
    }


@pytest.mark.parametrize("as_model", [False, True])
def test_accuracies_by_hand(as_model):
    # 0.45 and 0.55 are 0.05 from the threshold, hence lost; the others are 0.15 or more away.
    classifier = threshold
    if as_model:
        classifier = keras.Sequential([keras.Input((1, 1, 1)), layers.Flatten(), layers.Dense(2)])
        classifier.set_weights([np.float32([[0, 10]]), np.float32([0, -5])])
    report = evaluate(classifier, PIXELS, LABELS, {"FGSM": fgsm(LINF), "PGD": PGD(LINF, 5, 0.05)}, seed=0)
    assert report.clean_accuracy == pytest.approx(6 / 7)
    assert report.robust_accuracy == pytest.approx(4 / 7)
    assert [attack.accuracy for attack in report.attacks] == pytest.approx([4 / 7, 4 / 7])
    assert [attack.max_distance for attack in report.attacks] == pytest.approx([0.1, 0.1], abs=1e-6)
    np.testing.assert_array_equal(report.predictions, [0, 0, 1, 0, 1, 1, 0])
    # Fooled examples keep the first image that fooled, the misclassified one its natural image; of the others the
    # image of highest loss lies 0.1 towards the threshold.
    expected = [0.1, 0.45, 0.55, 0.45, 0.55, 0.9, 0.2]
    np.testing.assert_allclose(np.ravel(report.x_adv), expected, atol=1e-6)


def test_worst_case_is_taken_for_each_example():
    report = evaluate(threshold, PIXELS, LABELS, {"up": Custom(brighter), "down": Custom(darker)}, seed=0)
    # Brighter pixels cost 0.45; darker ones cost 0.55. The example of 0.2, wrong by nature, is right under none.
    assert [attack.accuracy for attack in report.attacks] == pytest.approx([5 / 7, 5 / 7])
    assert [attack.worst_case_accuracy for attack in report.attacks] == pytest.approx([5 / 7, 4 / 7])
    assert report.robust_accuracy == pytest.approx(4 / 7)


def test_an_attack_that_mends_a_misclassified_image_does_not_raise_the_worst_case():
    threat = ThreatModel("linf", 0.5)
    mend = Custom(lambda x: tf.where(x == PIXELS[-1, 0, 0, 0], 0.6, x), threat)
    report = evaluate(threshold, PIXELS, LABELS, {"mend": mend}, seed=0)
    assert report.attacks[0].accuracy == 1
    assert report.clean_accuracy == report.robust_accuracy == pytest.approx(6 / 7)


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_result_does_not_depend_on_the_batch_size(batch_size):
    model = convolutional()
    x, y = examples(model)
    threat = ThreatModel("l2", 0.3)
    attacks = {"PGD": PGD(threat, 4, 0.1, restarts=2), "targeted": TargetedPGD(PGD(threat, 4, 0.1))}
    one, many = (
        evaluate(model, x, y, attacks, seed=3, batch_size=size, precision="float32") for size in (100, batch_size)
    )
    assert 0 < one.robust_accuracy < one.clean_accuracy == 1
    np.testing.assert_allclose(many.x_adv, one.x_adv, atol=1e-5)
    np.testing.assert_array_equal(many.predictions, one.predictions)
    for a, b in zip(many.attacks, one.attacks, strict=True):
        assert a.mean_loss == pytest.approx(b.mean_loss, rel=1e-5)
        rounded = {"seconds": 0, "max_distance": 0, "mean_loss": 0}
        assert dataclasses.replace(a, **rounded) == dataclasses.replace(b, **rounded)
    other = evaluate(model, x, y, attacks, seed=4, precision="float32")
    assert not np.allclose(other.x_adv, one.x_adv, atol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_report_agrees_with_the_classifier(precision):
    model = convolutional()
    x, y = examples(model)
    before = [value.copy() for value in model.get_weights()]
    report = evaluate(model, x, y, {"PGD": PGD(LINF, 4, 0.05)}, seed=3, precision=precision)
    np.testing.assert_array_equal(report.predictions, np.argmax(model(report.x_adv), axis=1))
    assert report.robust_accuracy == np.mean(report.predictions == y)
    assert np.max(np.abs(report.x_adv - x)) <= 0.1 + 1e-6
    assert report.precision == precision and report.num_examples == 10 and report.seed == 3
    for value, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_graph_is_traced_once_for_all_batches():
    traces = []

    def counting(x):
        traces.append(x.shape)
        return threshold(x)

    counts = []
    for batch_size in (3, 7):
        traces.clear()
        evaluate(counting, PIXELS, LABELS, {"PGD": PGD(LINF, 5, 0.05)}, seed=0, batch_size=batch_size)
        counts.append(len(traces))
    assert counts[0] == counts[1]


def test_callbacks_and_json():
    results, progress = [], []
    attacks = {"FGSM": fgsm(LINF), "CW": PGD(LINF, 2, 0.05, loss=losses.CWMargin(50))}
    callbacks = {"on_result": results.append, "on_progress": lambda *arguments: progress.append(arguments)}
    report = evaluate(threshold, PIXELS, LABELS, attacks, seed=5, batch_size=3, **callbacks)
    assert tuple(results) == report.attacks
    assert progress == [(name, done, 7) for name in ("FGSM", "CW") for done in (3, 6, 7)]
    written = json.loads(json.dumps(report.as_json()))
    assert set(written) == set(report.as_json())
    assert written["clean_accuracy"] == report.clean_accuracy and written["robust_accuracy"] == report.robust_accuracy
    assert (written["num_examples"], written["seed"]) == (7, 5)
    assert written["threat_model"] == {"norm": "linf", "epsilon": 0.1, "bounds": [0.0, 1.0]}
    assert [attack["name"] for attack in written["attacks"]] == ["FGSM", "CW"]
    for row, result in zip(written["attacks"], report.attacks, strict=True):
        assert row["accuracy"] == result.accuracy and row["seconds"] == result.seconds > 0
    # The configuration that made the number.
    for part in ("PGD(", "epsilon=0.1", "steps=2", "step_size=0.05", "CWMargin(kappa=50)", "restarts=1"):
        assert part in written["attacks"][1]["attack"]


# Attacks that lie.


@pytest.mark.parametrize(
    ("move", "message"),
    [
        (lambda x: tf.minimum(x + 0.1001, 1.0), "moved an image by 0.1001.* in linf, allowed is 0.1"),
        (lambda x: tf.where(x == 0.55, 0.4, x), "moved an image by 0.15.* in linf, allowed is 0.1"),
        (lambda x: x - 0.09, r"returned pixels in \[-0.09, 0.91\], allowed are \[0.0, 1.0\]"),
        (lambda x: x + 0.09, r"returned pixels in \[0.09, 1.09\], allowed are \[0.0, 1.0\]"),
        (lambda x: tf.where(x == 0.55, np.nan, x), "not finite"),
        (lambda x: tf.where(x == 0.55, np.inf, x), "not finite"),
        (lambda x: x[:1], "shape"),
        (lambda x: tf.concat([x, x], axis=0), "shape"),
    ],
)
def test_attacks_that_break_their_threat_model_are_errors(move, message):
    with pytest.raises(InvalidAdversarialExampleError, match=f"liar.*{message}"):
        evaluate(threshold, PIXELS, LABELS, {"FGSM": fgsm(LINF), "liar": Custom(move)}, seed=0, batch_size=4)


def test_l2_distance_is_checked_in_l2():
    threat = ThreatModel("l2", 0.1)
    x = np.full([2, 2, 2, 1], 0.5, np.float32)
    classifier = lambda x: threshold(x[:, 0, 0])  # noqa: E731
    evaluate(classifier, x, [0, 0], {"inside": Custom(lambda x: x + 0.05, threat)}, seed=0)
    with pytest.raises(InvalidAdversarialExampleError, match=r"moved an image by 0.12.* in l2"):
        evaluate(classifier, x, [0, 0], {"liar": Custom(lambda x: x + 0.06, threat)}, seed=0)


@pytest.mark.parametrize("restarts", [1, 2])
def test_a_gradient_that_is_not_a_number_is_no_robustness(restarts):
    # The gradient of sqrt(relu(x - 2)) is infinity times 0.
    broken = lambda x: threshold(x) + tf.reshape(tf.sqrt(tf.nn.relu(x - 2)), [-1, 1]) * [1.0, 0.0]  # noqa: E731
    with pytest.raises(InvalidAdversarialExampleError, match="not finite"):
        evaluate(broken, PIXELS, LABELS, {"PGD": PGD(LINF, 2, 0.05, restarts=restarts)}, seed=0)


# Bad input.

IMAGES = np.full([4, 6, 6, 1], 0.5, np.float32)


def changed(value):
    images = IMAGES.copy()
    images[2, 0, 0, 0] = value
    return images


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": changed(np.nan)}, "images must be finite, got NaN or infinity in 1 of 4 images, .* number 2"),
        ({"images": 255 * IMAGES}, r"images must be within \[0.0, 1.0\], got \[127.5, 127.5\] in 4 of 4 images"),
        ({"images": changed(-0.01)}, r"images must be within \[0.0, 1.0\], got \[-0.01, 0.5\] in 1 of 4 .* number 2"),
        ({"images": IMAGES[:3]}, r"labels must be one for each image.*got \(4,\) for \(3, 6, 6, 1\)"),
        ({"images": IMAGES[:0], "labels": []}, "labels must be .* at least one"),
        ({"labels": np.eye(4)}, r"labels must be one for each image.*got \(4, 4\)"),
        ({"labels": [0, 1, 2, 3]}, r"class for every label, got 3 classes and labels in \[0, 3\]"),
        ({"labels": [0, 1, 2, -1]}, r"class for every label, got 3 classes and labels in \[-1, 2\]"),
        ({"labels": [0.0, 0.5, 1.0, 2.0]}, "labels must be .*integer"),
        ({"images": IMAGES[:, :4]}, r"classifier must take images of shape \(4, 6, 1\), got: .*(compatible|shape)"),
        ({"attacks": {}}, "attacks must be one or more of a single threat model"),
        ({"attacks": {"a": fgsm(LINF), "b": fgsm(ThreatModel("linf", 0.2))}}, "attacks must be .*single threat model"),
        ({"attacks": {"a": PGD(LINF, 1, 0.1, loss=losses.Targeted())}}, r"attacks must lead away .* got PGD\("),
        (
            {"attacks": {"a": Transfer(PGD(LINF, 1, 0.1, loss=losses.Targeted()), tf.identity)}},
            "attacks must lead away",
        ),
        ({"seed": None}, "seed must be an integer of at least 0, got None"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"precision": "half"}, "precision must be .*, got 'half'"),
    ],
)
def test_bad_input_is_a_value_error_of_one_line(arguments, message):
    given = {"images": IMAGES, "labels": [0, 1, 2, 0], "attacks": {"FGSM": fgsm(LINF)}, "seed": 0, **arguments}
    with pytest.raises(ValueError, match=message) as error:
        evaluate(convolutional(), **given)
    assert "\n" not in str(error.value)


def test_labels_may_be_a_column_as_in_keras_datasets():
    attacks = {"FGSM": fgsm(LINF)}
    one, other = (evaluate(threshold, PIXELS, y, attacks, seed=0) for y in (LABELS, LABELS[:, np.newaxis]))
    assert one.robust_accuracy == other.robust_accuracy


def test_labels_may_be_targets():
    attacks = {"a": PGD(LINF, 5, 0.05, loss=losses.Targeted())}
    report = evaluate(threshold, PIXELS, 1 - LABELS, attacks, seed=0, labels_are_targets=True)
    assert report.attacks[0].accuracy > report.clean_accuracy


@pytest.mark.parametrize("make", [lambda z: {"logits": z}, lambda z: [z, z], lambda z: (z,)])
def test_a_classifier_of_several_outputs(make):
    with pytest.raises(ValueError, match=r"must return one tensor of logits \[B, K\], got a (dict|list|tuple)"):
        evaluate(lambda x: make(threshold(x)), PIXELS, LABELS, {"FGSM": fgsm(LINF)}, seed=0)


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        (lambda x: tf.nn.softmax(threshold(x)), "classifier must return logits, got probabilities"),
        (lambda x: threshold(x) * np.nan, "classifier must return finite logits"),
        (lambda x: threshold(x)[:, 0], r"classifier must return logits \[B, K\], got shape \(7,\) for 7 images"),
        (lambda x: threshold(x)[:1], r"classifier must return logits \[B, K\], got shape \(1, 2\) for 7 images"),
    ],
)
def test_a_classifier_without_logits_is_a_value_error(classifier, message):
    with pytest.raises(ValueError, match=message):
        evaluate(classifier, PIXELS, LABELS, {"FGSM": fgsm(LINF)}, seed=0)


def test_logits_that_only_look_like_probabilities_are_accepted():
    logits = checks.check_classifier(lambda x: threshold(x) + [0.0, 1.0], PIXELS, LABELS)
    np.testing.assert_array_equal(logits, threshold(PIXELS) + [0.0, 1.0])
