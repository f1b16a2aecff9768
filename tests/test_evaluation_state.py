"""Evaluations that attack only what stands, and that go on after a kill: to the same report, with no work twice."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust import evaluation_state, reports
from tfrobust.attacks import PGD
from tfrobust.attacks.transfer import Transfer, named
from tfrobust.evaluation import evaluate
from tfrobust.evaluation_state import EvaluationState
from tfrobust.threat_models import ThreatModel

LINF = ThreatModel("linf", 0.2)
PIXELS = np.linspace(0, 1, 23, dtype=np.float32).reshape(-1, 1, 1, 1)
LABELS = (PIXELS.ravel() > 0.5).astype(np.int64)


def threshold(x):
    """Logits (0, 10 (pixel - 0.5))."""
    return tf.pad(10 * (tf.reshape(x, [-1, 1]) - 0.5), [[0, 0], [1, 0]])


@dataclasses.dataclass(frozen=True)
class Step:
    """Moves pixels towards 0.5 by `length`, and writes down which examples it saw."""

    length: float
    seen: list = dataclasses.field(default_factory=list, compare=False, repr=False)
    threat: ThreatModel = LINF

    def __call__(self, logits_fn, x, y, *, seed, judge_fn=None):
        def note(indices):
            self.seen.extend(int(i) for i in indices)

        tf.py_function(note, [seed[:, 0]], [])
        return x + self.length * tf.sign(0.5 - x)


def run(attacks, **arguments):
    return evaluate(threshold, PIXELS, LABELS, attacks, seed=0, batch_size=4, **arguments)


def assert_same(report, other):
    assert report.robust_accuracy == other.robust_accuracy and report.clean_accuracy == other.clean_accuracy
    np.testing.assert_array_equal(report.x_adv, other.x_adv)
    np.testing.assert_array_equal(report.predictions, other.predictions)
    np.testing.assert_array_equal(report.clean_predictions, other.clean_predictions)
    np.testing.assert_array_equal(report.fell_to, other.fell_to)
    for a, b in zip(report.attacks, other.attacks, strict=True):
        assert dataclasses.replace(a, seconds=0, attack="") == dataclasses.replace(b, seconds=0, attack="")


def test_only_what_stands_is_attacked():
    first, second = Step(0.1), Step(0.15)
    report = run({"first": first, "second": second}, only_standing=True)
    # The pixel at 0.5 itself does not move.
    fell = (PIXELS.ravel() != 0.5) & (np.abs(PIXELS.ravel() - 0.5) < 0.1)
    assert set(first.seen) == set(range(23))
    assert set(second.seen) == set(np.flatnonzero(~fell))
    assert [attack.num_attacked for attack in report.attacks] == [23, int((~fell).sum())]
    # The worst case is that of attacking everything with everything; accuracies are the running worst case.
    everything = run({"first": Step(0.1), "second": Step(0.15)})
    assert report.robust_accuracy == everything.robust_accuracy < report.attacks[0].accuracy
    assert [a.accuracy for a in report.attacks] == [a.worst_case_accuracy for a in everything.attacks]
    np.testing.assert_array_equal(report.predictions, everything.predictions)


def test_nothing_left_to_attack():
    report = evaluate(
        threshold, PIXELS, 1 - LABELS, {"a": Step(0.1), "b": PGD(LINF, 3, 0.1)}, seed=0, only_standing=True
    )
    assert report.robust_accuracy == report.clean_accuracy == 0
    assert [attack.num_attacked for attack in report.attacks] == [0, 0]


def test_an_attack_that_was_skipped_is_not_given_what_a_later_one_made(tmp_path, monkeypatch):
    def classifier(x):
        return tf.stop_gradient(threshold(x))

    def evaluated(**arguments):
        attacks = {"a": PGD(LINF, 1, 0.1), "b": Step(0.1), "c": Step(0.15)}
        return evaluate(classifier, PIXELS, LABELS, attacks, seed=0, batch_size=4, **arguments)

    def stop(name, done, total):
        if (name, done) == ("b", total):
            # As if the program were killed here, all images of b made and saved.
            state.save(progress[-1], now=True)
            raise KeyboardInterrupt

    progress, state = [], EvaluationState(tmp_path / "state.npz")
    resume = EvaluationState.resume
    monkeypatch.setattr(EvaluationState, "resume", lambda self, p: (progress.append(p), resume(self, p)))
    with pytest.raises(KeyboardInterrupt):
        evaluated(state=state, on_progress=stop)
    skipped = []
    report = evaluated(state=EvaluationState(tmp_path / "state.npz"), on_skip=lambda name, reason: skipped.append(name))
    assert skipped == ["a"] and [attack.name for attack in report.attacks] == ["b", "c"]
    assert_same(report, evaluated())


@pytest.mark.parametrize("only_standing", [False, True])
@pytest.mark.parametrize("stop_after", [1, 3, 7, 9])
def test_resumes_to_the_same_report_and_repeats_no_batch(tmp_path, monkeypatch, only_standing, stop_after):
    monkeypatch.setattr(evaluation_state, "SAVE_EVERY", 0.0)
    whole = run({"a": Step(0.05), "b": Step(0.1), "c": Step(0.2)}, only_standing=only_standing)
    path = tmp_path / "new" / "state.npz"
    batches = 0

    def stop(name, done, total):
        nonlocal batches
        batches += 1
        if batches > stop_after:
            raise KeyboardInterrupt

    attacks = {"a": Step(0.05), "b": Step(0.1), "c": Step(0.2)}
    with pytest.raises(KeyboardInterrupt):
        run(attacks, only_standing=only_standing, state=EvaluationState(path), on_progress=stop)
    seen = [list(attack.seen) for attack in attacks.values()]
    names = []
    again = {"a": Step(0.05), "b": Step(0.1), "c": Step(0.2)}
    report = run(
        again,
        only_standing=only_standing,
        state=EvaluationState(path),
        on_result=lambda result: names.append(result.name),
    )
    assert_same(report, whole)
    assert names == ["a", "b", "c"]
    # Only the batch whose progress call was interrupted is done twice.
    twice = sum(len(set(before) & set(after.seen)) for before, after in zip(seen, again.values(), strict=True))
    assert twice <= 4
    # Once more: all is known, and nothing is attacked.
    last = {"a": Step(0.05), "b": Step(0.1), "c": Step(0.2)}
    assert_same(run(last, only_standing=only_standing, state=EvaluationState(path)), whole)
    assert not any(attack.seen for attack in last.values())
    assert [file.name for file in path.parent.iterdir()] == ["state.npz"]


@tf.custom_gradient
def rounded(x):
    return tf.round(x), lambda upstream: 0 * upstream


@tf.custom_gradient
def rounded_straight_through(x):
    return tf.round(x), lambda upstream: upstream


def away(sign):
    """A step whose loss is one of a kind by what it holds only."""
    return PGD(LINF, 1, 0.1, loss=lambda z, y: sign * tf.reduce_sum(z, axis=1), random_start=False)


def with_default(sign):
    """The same with the sign as a default."""
    return PGD(LINF, 1, 0.1, loss=lambda z, y, sign=sign: sign * z[:, 0], random_start=False)


def signed(z, y, sign):
    return sign * z[:, 0]


def wrapped(loss):
    """A step whose loss calls another one."""
    return PGD(LINF, 1, 0.1, loss=lambda z, y: loss(z, y))


def weighed(*weights):
    """One whose loss holds an array."""
    weights = np.array(weights, np.float32)
    return PGD(LINF, 1, 0.1, loss=lambda z, y: tf.linalg.matvec(z, weights))


class Loss:
    """A loss that is an object, and refers to itself."""

    def __init__(self, **details):
        self.details, self.itself = details, self

    def __call__(self, z, y):
        return self.details["sign"] * z[:, 0]

    def method(self, z, y):
        return self(z, y)


def by_turns(sign):
    """A loss of two functions that hold each other."""

    def first(z, y):
        return second(z, y, 1)

    def second(z, y, turn=0):
        return sign * z[:, 0] if turn else first(z, y)

    return PGD(LINF, 1, 0.1, loss=second)


def with_models(*weights):
    """A loss of models that were made one after the other."""

    def model(weight):
        made = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
        made.set_weights([np.full((2, 1), weight, np.float32)])
        return made

    models = [model(weight) for weight in weights]
    return PGD(LINF, 1, 0.1, loss=lambda z, y: tf.add_n([model(z)[:, 0] for model in models]))


def compiled(sign):
    return PGD(LINF, 1, 0.1, loss=tf.function(lambda z, y: sign * tf.nn.relu(z[:, 0])))


def an_object(sign):
    return PGD(LINF, 1, 0.1, loss=Loss(sign=sign))


def a_method(sign):
    return PGD(LINF, 1, 0.1, loss=Loss(sign=sign).method)


def a_partial(sign):
    return wrapped(functools.partial(signed, sign=sign))


LOSSES = [lambda z, y: (lambda: z[:, 0])(), lambda z, y: (lambda: z[:, 1])()]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((threshold, away(1.0)), (threshold, away(-1.0))),
        ((threshold, PGD(LINF, 1, 0.1, loss=LOSSES[0])), (threshold, PGD(LINF, 1, 0.1, loss=LOSSES[1]))),
        ((threshold, with_default(1.0)), (threshold, with_default(-1.0))),
        ((threshold, wrapped(LOSSES[0])), (threshold, wrapped(LOSSES[1]))),
        ((threshold, weighed(1, 2)), (threshold, weighed(2, 1))),
        ((threshold, an_object(1.0)), (threshold, an_object(-1.0))),
        ((threshold, a_method(1.0)), (threshold, a_method(-1.0))),
        ((threshold, a_partial(1.0)), (threshold, a_partial(-1.0))),
        ((threshold, with_models(1.0)), (threshold, with_models(-1.0))),
        ((threshold, with_models(1.0, 1.0, 2.0)), (threshold, with_models(1.0, 1.0, 3.0))),
        ((threshold, by_turns(1.0)), (threshold, by_turns(-1.0))),
        ((threshold, compiled(1.0)), (threshold, compiled(-1.0))),
        # The same logits with other gradients: how adaptive attacks are made.
        (
            (lambda x: threshold(rounded(x)), PGD(LINF, 1, 0.1)),
            (lambda x: threshold(rounded_straight_through(x)), PGD(LINF, 1, 0.1)),
        ),
    ],
    ids=[
        "what a loss holds",
        "the code of a loss",
        "what a loss defaults to",
        "a loss in a loss",
        "an array",
        "an object",
        "a method",
        "a partial",
        "a model",
        "the last of several models",
        "functions that hold each other",
        "a tf.function",
        "gradients",
    ],
)
def test_functions_of_the_same_name_are_told_apart(tmp_path, before, after):
    state = EvaluationState(tmp_path / "state.npz")
    evaluate(before[0], PIXELS, LABELS, {"a": before[1]}, seed=0, state=state)
    with pytest.raises(ValueError, match=r"state .* is that of another evaluation"):
        evaluate(after[0], PIXELS, LABELS, {"a": after[1]}, seed=0, state=state)


@pytest.mark.parametrize(
    "make",
    [
        lambda: wrapped(LOSSES[0]),
        lambda: weighed(1, 2),
        lambda: an_object(1.0),
        lambda: a_partial(1.0),
        lambda: with_models(1.0, 2.0),
        lambda: by_turns(1.0),
        lambda: compiled(1.0),
    ],
)
def test_functions_that_hold_the_same_go_on(tmp_path, make):
    state, seen = EvaluationState(tmp_path / "state.npz"), []
    first = run({"a": make()}, state=state)
    assert_same(run({"a": make()}, state=state, on_progress=lambda *_: seen.append(_)), first)
    assert not seen


def test_objects_without_a_text_of_their_own_go_on(tmp_path):
    class Mine:
        threat = LINF

        def __call__(self, logits_fn, x, y, *, seed, judge_fn=None):
            return x

    first, second = (run({"a": Mine()}, state=EvaluationState(tmp_path / "state.npz")) for _ in range(2))
    assert_same(first, second)
    assert second.attacks[0].attack.endswith("Mine object>")


@pytest.mark.parametrize("change", ["images", "labels", "attacks", "seed", "classifier", "only_standing"])
def test_a_state_of_another_evaluation_is_refused_and_kept(tmp_path, change):
    path = tmp_path / "state.npz"
    given = {"classifier": threshold, "images": PIXELS, "labels": LABELS, "attacks": {"a": Step(0.05)}, "seed": 0}
    evaluate(**given, state=EvaluationState(path))
    before = path.read_bytes()
    other = {
        "images": PIXELS[::-1].copy(),
        "labels": 1 - LABELS,
        "attacks": {"a": Step(0.06)},
        "seed": 1,
        "classifier": lambda x: -threshold(x),
        "only_standing": True,
    }
    with pytest.raises(ValueError, match=r"state .* is that of another evaluation"):
        evaluate(**{**given, change: other[change]}, state=EvaluationState(path))
    assert path.read_bytes() == before


def test_a_state_without_what_examples_fell_to(tmp_path):
    """Older versions did not keep it: what fell in them is not known, and what falls from then on is."""
    path, labels = tmp_path / "state.npz", LABELS.copy()
    labels[0] = 1

    def stop(result):
        if result.name == "b":
            raise KeyboardInterrupt

    def attacks():
        return {"a": Step(0.05), "b": Step(0.1), "c": Step(0.2)}

    given = {"classifier": threshold, "images": PIXELS, "labels": labels, "seed": 0, "batch_size": 4}
    whole = evaluate(**given, attacks=attacks())
    with pytest.raises(KeyboardInterrupt):
        evaluate(**given, attacks=attacks(), state=EvaluationState(path), on_result=stop)
    with np.load(path) as file:
        older = {name: file[name] for name in file if name not in ("fell_to", "under_way")}
    np.savez(path, **older)
    report = evaluate(**given, attacks=attacks(), state=EvaluationState(path))
    expected = np.where((whole.fell_to == 0) | (whole.fell_to == 1), reports.UNKNOWN, whole.fell_to)
    np.testing.assert_array_equal(report.fell_to, expected)
    assert {reports.NATURAL, reports.STANDING, reports.UNKNOWN, 2} == set(report.fell_to)
    assert report.robust_accuracy == whole.robust_accuracy


def test_a_file_that_is_no_state_is_refused_and_kept(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(ValueError, match=r"state must be a file that an evaluation has saved, got .*notes.txt"):
        run({"a": Step(0.05)}, state=EvaluationState(path))
    assert path.read_text() == "mine"


def test_a_surrogate_of_the_same_name_with_other_weights_is_another_evaluation(tmp_path):
    def transfer(weight):
        return {
            "transfer": Transfer(PGD(LINF, steps=2, step_size=0.1), named(lambda x: weight * threshold(x), "surrogate"))
        }

    path = tmp_path / "state.npz"
    report = run(transfer(1.0), state=EvaluationState(path))
    assert_same(run(transfer(1.0), state=EvaluationState(path)), report)
    with pytest.raises(ValueError, match=r"state .* is that of another evaluation"):
        run(transfer(-1.0), state=EvaluationState(path))
