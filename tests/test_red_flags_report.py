"""Red flags of reports and their text: attacks that know or try less and fool more, on a masked model and by hand."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfrobust import losses
from tfrobust.attacks import PGD, TargetedPGD, fgsm
from tfrobust.attacks.square import Square
from tfrobust.attacks.transfer import Transfer
from tfrobust.evaluation import evaluate
from tfrobust.red_flags import RedFlag, inspect_report
from tfrobust.red_flags.flag import beyond_chance
from tfrobust.reports import AttackResult, Report
from tfrobust.threat_models import ThreatModel

LINF = ThreatModel("linf", 0.05)
WEIGHTS = np.random.default_rng(1).normal(size=[36, 3]).astype(np.float32)
IMAGES = np.random.default_rng(0).uniform(size=[50, 6, 6, 1]).astype(np.float32)


def linear(x):
    """Three classes, none of them at any distance from plain grey."""
    return tf.reshape(x - 0.5, [-1, 36]) @ WEIGHTS


LABELS = np.argmax(linear(IMAGES), axis=1)


@tf.custom_gradient
def masked(x):
    """`linear`, of which gradients say nothing."""
    return linear(x), lambda upstream: tf.zeros_like(x)


def test_a_masked_model_falls_to_black_box_attacks():
    white, transfer = PGD(LINF, 20, 0.01), Transfer(PGD(LINF, 20, 0.01), linear)
    for attacks in (
        {"FGSM": fgsm(LINF), "PGD": white, "transfer": transfer},
        {"transfer": transfer, "PGD": white, "FGSM": fgsm(LINF)},
    ):
        for classifier, expected in ((masked, ["black-box beats white-box"]), (linear, [])):
            flags = inspect_report(evaluate(classifier, IMAGES, LABELS, attacks, seed=0), attacks)
            assert [flag.name for flag in flags] == expected
    attacks = {"PGD": white, "Square": Square(LINF, 300)}
    (flag,) = inspect_report(evaluate(masked, IMAGES, LABELS, attacks, seed=0, only_standing=True), attacks)
    assert flag.observation.startswith("Square, which sees no gradient, fooled ")


def report_of(total, natural, *rows):
    """A report of `total` examples, `natural` of them misclassified; rows (name, own, union[, attacked]): how many
    examples the attack fooled, how many had fallen by then, how many it attacked."""
    results = [
        AttackResult(name, "", 1 - own / total, 1 - union / total, *(attacked or [total]), 0.0, 0.0, 0.0)
        for name, own, union, *attacked in rows
    ]
    return Report(
        clean_accuracy=1 - natural / total,
        clean_loss=0.0,
        robust_accuracy=results[-1].worst_case_accuracy,
        num_examples=total,
        seed=0,
        precision="float32",
        threat_model=LINF,
        attacks=tuple(results),
        x_adv=np.zeros(0),
        predictions=np.zeros(0),
        clean_predictions=np.zeros(0),
        fell_to=np.zeros(0),
    )


ATTACKS = {
    "FGSM": fgsm(LINF),
    "PGD": PGD(LINF, 40, 0.01),
    "PGD 100": PGD(LINF, 100, 0.01),
    "targeted": TargetedPGD(PGD(LINF, 40, 0.01)),
    "transfer": Transfer(PGD(LINF, 40, 0.01), linear),
    "Square": Square(LINF),
}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # Below white-box rows it may find 2 + 2 sqrt(2) = 4.8 of 1000 that they missed, whatever it fooled itself.
        ([("PGD", 100, 100), ("Square", 60, 104)], 0),
        ([("PGD", 100, 100), ("Square", 60, 105)], 1),
        # What it found before a white-box row came is not missed; by accuracies, 40 to 100 is no flag.
        ([("Square", 40, 40), ("PGD", 100, 110)], 0),
        # 70 to 50 where the union has 75: b + c = 2 75 - 120 = 30 and 2 sqrt(30) = 11.
        ([("Square", 70, 70), ("PGD", 50, 75)], 1),
        # 70 to 60 where the union has 100: b + c = 200 - 130 = 70 by the first bound, 130 - 20 = 110 by the second,
        # and 2 sqrt(70) = 17.
        ([("Square", 70, 70), ("PGD", 60, 100)], 0),
        # The strongest white-box row counts, a targeted one too.
        ([("Square", 70, 70), ("PGD", 50, 75), ("targeted", 70, 80)], 0),
        ([("transfer", 70, 70), ("PGD", 50, 75), ("Square", 50, 80)], 2),
        # FGSM is no rival.
        ([("FGSM", 50, 50), ("Square", 90, 100)], 0),
        ([("FGSM", 50, 50), ("transfer", 90, 100)], 0),
        # A row that attacked what stood has no accuracy of its own.
        ([("PGD", 50, 50), ("Square", 51, 51, 950), ("PGD 100", 90, 90, 949)], 0),
        ([("PGD", 50, 50, 990), ("PGD 100", 60, 60, 950), ("Square", 66, 66, 940)], 1),
    ],
)
def test_black_box_by_hand(rows, expected):
    flags = inspect_report(report_of(1000, 10, *rows), ATTACKS)
    assert [flag.name for flag in flags] == ["black-box beats white-box"] * expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # b + c = 2 * 160 - 250 = 70, 2 sqrt(70) = 17 < 50.
        ([("FGSM", 150, 150), ("PGD", 100, 160)], True),
        ([("FGSM", 100, 100), ("PGD", 150, 160)], False),
        # b + c = 2 * 120 - 190 = 50, 2 sqrt(50) = 14 > 10.
        ([("FGSM", 100, 100), ("PGD", 90, 120)], False),
        # The strongest of the iterated attacks counts, and no targeted one.
        ([("FGSM", 150, 150), ("PGD", 100, 160), ("PGD 100", 180, 190)], False),
        ([("FGSM", 150, 150), ("targeted", 100, 160)], False),
        ([("FGSM", 150, 150)], False),
    ],
)
def test_one_step_by_hand(rows, expected):
    flags = inspect_report(report_of(1000, 10, *rows), ATTACKS)
    assert [flag.name for flag in flags] == ["one step beats many"] * expected
    if flags:
        assert flags[0].observation == (
            "FGSM leaves an accuracy of 85.00% on 1000 examples, PGD, the strongest iterated white-box attack, 90.00%."
        )


def test_small_reports_raise_none():
    for rows in ([("PGD", 0, 0), ("Square", 1, 1)], [("FGSM", 4, 4), ("PGD", 0, 4)]):
        assert inspect_report(report_of(10, 0, *rows), ATTACKS) == []


@pytest.mark.parametrize(
    ("mean_loss", "attacked", "expected"), [(0.8, 100, True), (0.99, 100, False), (1.2, 100, False), (0.8, 90, False)]
)
def test_an_attack_that_makes_images_easier(mean_loss, attacked, expected):
    report = report_of(100, 1, ("PGD", 1, 1, attacked))
    row = dataclasses.replace(report.attacks[0], mean_loss=mean_loss)
    flags = inspect_report(dataclasses.replace(report, clean_loss=1.0, attacks=(row,)), ATTACKS)
    assert [flag.name for flag in flags] == ["attack lowers the loss"] * expected
    if flags:
        assert flags[0].observation == "The mean cross-entropy under PGD is 0.8, that of the natural images 1."


@pytest.mark.parametrize("row", [("transfer", 1, 1), ("PGD", 2, 2)])
def test_a_mean_loss_that_few_images_make(row):
    report = report_of(100, 1, row)
    rows = (dataclasses.replace(report.attacks[0], mean_loss=0.8),)
    assert inspect_report(dataclasses.replace(report, clean_loss=1.0, attacks=rows), ATTACKS) == []


def test_a_loss_of_the_wrong_sign():
    attacks = {"PGD": PGD(LINF, 5, 0.02, loss=lambda logits, y: -losses.cross_entropy(logits, y))}
    flags = inspect_report(evaluate(linear, IMAGES, LABELS, attacks, seed=0), attacks)
    assert [flag.name for flag in flags] == ["attack lowers the loss"]


def test_a_report_of_other_attacks_is_an_error():
    with pytest.raises(ValueError, match="attacks must have all of the report's, got none called 'PGD'"):
        inspect_report(report_of(10, 0, ("PGD", 0, 0)), {"FGSM": fgsm(LINF)})


@pytest.mark.parametrize(
    ("b", "c", "expected"), [(4, 0, False), (5, 0, True), (9, 1, True), (8, 2, False), (0, 0, False)]
)
def test_beyond_chance(b, c, expected):
    # 2 sqrt(4) = 4, 2 sqrt(5) = 4.5, 2 sqrt(10) = 6.3.
    assert beyond_chance(b - c, b + c) == expected


def test_text_of_a_flag():
    flag = RedFlag("name", "What was seen.", "Why and what to do.", "Source 2018")
    assert str(flag) == "name: What was seen. Why and what to do. (Source 2018)"
