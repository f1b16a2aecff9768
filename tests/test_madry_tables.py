"""The published tables: every row is there, with the paper's attack."""

import pytest
import tensorflow as tf

from tfrobust import losses, madry_tables, suites
from tfrobust.attacks import PGD, TargetedPGD, fgsm
from tfrobust.attacks.transfer import Transfer
from tfrobust.madry_tables import A_NATURAL, A_PRIME, PUBLISHED, B
from tfrobust.threat_models import ThreatModel

MNIST, CIFAR10 = ThreatModel("linf", 0.3), ThreatModel("linf", 8 / 255)
SOURCES = {name: (lambda x: tf.reshape(x, [-1, 2])) for name in (A_PRIME, A_NATURAL, B)}


def test_rows_and_published_numbers_go_together():
    # No published number is without its row; the rows that the papers do not have are those of A_nat in table 1, and of
    # B in table 2.
    for name, rows in (
        ("madry_table1", madry_tables.table1(MNIST, SOURCES)),
        ("madry_table2", madry_tables.table2(CIFAR10, SOURCES)),
        ("leaderboard_mnist", madry_tables.leaderboard_mnist(MNIST)),
        ("leaderboard_cifar10", madry_tables.leaderboard_cifar10(CIFAR10)),
    ):
        assert set(PUBLISHED[name]) - {"natural"} <= set(rows)
        extra = {row.rpartition("source ")[2] for row in set(rows) - set(PUBLISHED[name])}
        assert extra == {"madry_table1": {A_NATURAL}, "madry_table2": {B}}.get(name, set())
        assert all(attack.threat.norm == "linf" for attack in rows.values())
        assert all(0 < accuracy < 1 for accuracy in PUBLISHED[name].values())


def test_published_numbers_are_for_their_data_and_threat_model():
    assert set(madry_tables.PUBLISHED_FOR) == set(PUBLISHED)
    assert madry_tables.published("madry_table1", "mnist", "linf", 0.3) == PUBLISHED["madry_table1"]
    assert madry_tables.published("madry_table2", "cifar10", "linf", 0.0314) == PUBLISHED["madry_table2"]
    for other in (("digits", "linf", 0.3), ("mnist", "l2", 0.3), ("mnist", "linf", 0.25)):
        assert madry_tables.published("madry_table1", *other) == {}
    assert madry_tables.published("quick", "mnist", "linf", 0.3) == {}


def test_table_2():
    rows = madry_tables.table2(CIFAR10)
    cw = losses.CWMargin(50)
    assert rows == {
        "FGSM": fgsm(CIFAR10),
        "PGD 7x1": PGD(CIFAR10, 7, 2 / 255),
        "PGD 20x1": PGD(CIFAR10, 20, 2 / 255),
        "CW 30x1": PGD(CIFAR10, 30, 2 / 255, loss=cw),
    }


def test_black_box_rows_attack_their_source():
    rows = madry_tables.table1(MNIST, {B: SOURCES[B]}, precision="bfloat16")
    white_box = madry_tables.table1(MNIST)
    assert set(rows) - set(white_box) == {"FGSM, source B", "PGD 40x1, source B", "CW+ 40x1, source B"}
    for name in set(rows) - set(white_box):
        attack = rows[name]
        assert isinstance(attack, Transfer) and attack.surrogate.__name__ == B and attack.precision == "bfloat16"
        assert attack.attack == white_box[name.removesuffix(", source B")]


def test_leaderboards():
    rows = madry_tables.leaderboard_mnist(MNIST)
    assert rows["PGD-CW 100x50"] == PGD(MNIST, 100, 0.01, loss=losses.CWMargin(50), restarts=50)
    assert rows["FGSM-CW"] == fgsm(MNIST, loss=losses.CWMargin(50))
    rows = madry_tables.leaderboard_cifar10(CIFAR10)
    assert rows["PGD 20x10"] == PGD(CIFAR10, 20, 1 / 255, restarts=10)


@pytest.mark.parametrize("name", ["madry_table1", "mnist_table1_whitebox"])
def test_white_box_rows_of_table_1(name):
    rows = suites.SUITES[name](MNIST)
    assert rows["targeted 40x1 (runner-up class)"] == TargetedPGD(PGD(MNIST, 40, 0.01))
    assert rows["PGD 100x20"].restarts == 20 and "FGSM, source B" not in rows
