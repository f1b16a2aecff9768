"""A report's red flags: attacks that know less, or try less, and fool more, and what they were hampered by."""

import math
from collections.abc import Mapping

from tfrobust.attacks.base import Attack
from tfrobust.attacks.minimum_norm import WithinBall
from tfrobust.attacks.pgd import PGD, RFGSM
from tfrobust.attacks.square import Square
from tfrobust.attacks.targets import TargetedPGD
from tfrobust.attacks.transfer import Transfer
from tfrobust.red_flags.flag import ATHALYE, CARLINI, CROCE, TRAMER, RedFlag, beyond_chance
from tfrobust.reports import Report

# By class: those that see no gradient of the model.
BLACK_BOX = (Square, Transfer)
# Of all examples, what a black-box attack may find beyond white-box ones: what AutoAttack's own check allows Square.
MISSED_BY_CHANCE = 0.002
# Of the natural images' mean cross-entropy, what an attack may leave: less than all where it ascends another loss.
LOWERED_BY_CHANCE = 0.95


def inspect_report(report: Report, attacks: Mapping[str, Attack]) -> list[RedFlag]:
    """Flags where a black-box attack is stronger than the white-box ones, or FGSM than the iterated ones.

    Also where an attack makes images that are easier than the natural ones, and where gradients are float16.

    A black-box attack sees no gradient of the model: `Transfer` and `Square`. It is compared
    - example by example where all iterated white-box attacks are above it in the report: the fall of the worst case in
      its row counts the examples that it fooled and none of them did. Allowed are 0.2 % of all examples and two
      standard deviations of such a count, or one example;
    - else by accuracies with the strongest iterated white-box attack, as FGSM always is. How many examples one of the
      two fools and the other does not is bounded by the report's accuracies, and the allowance is that of
      `flag.beyond_chance`. A row that attacked only what stood before it has no accuracy of its own and is left out.

    Args:
      report: of `evaluation.evaluate`.
      attacks: the attacks of that evaluation, by the names of the report's rows.

    Raises:
      ValueError: if the report has an attack that `attacks` does not.
    """
    missing = [row.name for row in report.attacks if row.name not in attacks]
    if missing:
        raise ValueError(f"attacks must have all of the report's, got none called {missing[0]!r}")
    rows = _Rows(report)
    kinds = [_kind(attacks[row.name]) for row in report.attacks]
    white_box = [i for i, kind in enumerate(kinds) if kind in ("iterated", "targeted")]
    flags = [_float16()] if report.precision == "float16" else []
    for row, kind in zip(report.attacks, kinds, strict=True):
        if kind != "black-box" and _is_easier(row, report):
            flags.append(_lowers(row, report.clean_loss))
    for i, kind in enumerate(kinds):
        if kind == "black-box" and white_box:
            all_above = max(white_box) < i
            flags += _missed(rows, i, white_box) if all_above else _beaten(rows, i, white_box, _black_box_beats)
        if kind == "one step":
            iterated = [j for j, other in enumerate(kinds) if other == "iterated"]
            flags += _beaten(rows, i, iterated, _one_step_beats)
    return flags


class _Rows:
    """A report's rows as numbers of examples.

    Attributes:
      total: all examples.
      natural: those that the classifier gets wrong without any attack.
      own: for each row, how many the attack alone fooled; None where the report does not know.
      union: for each row, how many fell to it, to any row above or by nature.
    """

    def __init__(self, report: Report):
        def fallen(accuracy):
            return round((1 - accuracy) * report.num_examples)

        self.names = [row.name for row in report.attacks]
        self.total = report.num_examples
        self.natural = fallen(report.clean_accuracy)
        self.union = [fallen(row.worst_case_accuracy) for row in report.attacks]
        self.own = [
            # Above the first row there is none that could have taken its examples away.
            fallen(row.accuracy) if i == 0 or row.num_attacked == self.total else None
            for i, row in enumerate(report.attacks)
        ]

    def new(self, i):
        """How many examples fell to row i first."""
        return self.union[i] - (self.union[i - 1] if i else self.natural)

    def discordant(self, i, j):
        """The most examples that exactly one of the attacks i and j can have fooled."""
        # |A xor B| = 2 |A or B| - |A| - |B|, and A or B lies within the union down to the later row; also it is
        # |A| + |B| - 2 |A and B|, and what is wrong by nature is in both. An attack may mend some of that by chance,
        # hence the least that it can be.
        both = self.own[i] + self.own[j]
        most = min(2 * self.union[max(i, j)] - both, both - 2 * self.natural)
        return max(most, abs(self.own[i] - self.own[j]))

    def accuracy(self, i):
        return f"{1 - self.own[i] / self.total:.2%}"


def _missed(rows, i, white_box):
    """A flag where row i, below all white-box attacks, fooled what none of them did."""
    expected = MISSED_BY_CHANCE * rows.total
    if rows.new(i) <= max(1, expected + 2 * math.sqrt(expected)):
        return []
    names = ", ".join(rows.names[j] for j in white_box)
    return [
        _black_box_beats(
            f"{rows.names[i]}, which sees no gradient, fooled {rows.new(i)} of {rows.total} examples that no attack "
            f"before it had fooled, the white-box ones ({names}) included."
        )
    ]


def _beaten(rows, i, others, flag):
    """`flag`(observation) where row i fooled more than the strongest of the rows `others`, going by accuracies."""
    others = [j for j in others if rows.own[j] is not None]
    if rows.own[i] is None or not others:
        return []
    best = max(others, key=lambda j: rows.own[j])
    if not beyond_chance(rows.own[i] - rows.own[best], rows.discordant(i, best)):
        return []
    return [
        flag(
            f"{rows.names[i]} leaves an accuracy of {rows.accuracy(i)} on {rows.total} examples, {rows.names[best]}, "
            f"the strongest iterated white-box attack, {rows.accuracy(best)}."
        )
    ]


def _kind(attack):
    while isinstance(attack, WithinBall):
        attack = attack.attack
    if isinstance(attack, BLACK_BOX):
        return "black-box"
    if isinstance(attack, RFGSM) or (isinstance(attack, PGD) and attack.steps == 1):
        return "one step"
    # Toward a single class even a strong attack may fool less than FGSM, which may go anywhere.
    return "targeted" if isinstance(attack, TargetedPGD) else "iterated"


def _is_easier(row, report):
    # Of another set of images than all nothing is known without an attack. A few images of a very high loss make the
    # mean: what fools more than nature does is an attack all the same.
    compared = row.num_attacked == report.num_examples and row.accuracy >= report.clean_accuracy
    return compared and row.mean_loss < LOWERED_BY_CHANCE * report.clean_loss


def _lowers(row, clean_loss):
    return RedFlag(
        "attack lowers the loss",
        f"The mean cross-entropy under {row.name} is {row.mean_loss:.3g}, that of the natural images {clean_loss:.3g}.",
        "It moves images where the classifier is more certain of their labels: its loss has the wrong sign, it aims at "
        "the labels themselves, or the gradients mislead it. What stands under it says nothing.",
        CARLINI,
    )


def _float16():
    return RedFlag(
        "gradients in float16",
        "The classifier computes in float16, or casts to it.",
        "Numbers below 6e-8 are 0 there, and gradients often are as small, so that attacks find no way. Give a Keras "
        "model itself and no function of it: its layers are then computed in float32, but for casts of their own and "
        "what is quantised. Or make the model with the dtype policy float32 and the same weights.",
        CARLINI,
    )


def _black_box_beats(observation):
    return RedFlag(
        "black-box beats white-box",
        observation,
        "Who sees the gradients can do all that others can, so they must be of little use: masked by a saturated loss, "
        "a flat or rugged layer, or randomness. Believe no number but the worst case over all attacks, give the "
        "black-box attack more queries, and write an attack against the operation that masks them; against first "
        "filters that are thresholds there is relu_window.",
        f"{ATHALYE}; {CARLINI}; {CROCE}; {TRAMER}",
    )


def _one_step_beats(observation):
    return RedFlag(
        "one step beats many",
        observation,
        "Iterated attacks are stuck in local maxima of the loss (masked gradients), or have too few or too small "
        "steps. Try other losses, step sizes and random restarts, and attacks without gradients.",
        f"{ATHALYE}; {CARLINI}",
    )
