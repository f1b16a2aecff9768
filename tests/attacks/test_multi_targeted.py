"""MultiTargeted: one step by hand in each norm, a later target that fools, restarts, the judge, batches."""

import numpy as np
import pytest
import tensorflow as tf

from tfrobust import seeds
from tfrobust.attacks.multi_targeted import MultiTargeted
from tfrobust.attacks.pgd import PGD
from tfrobust.threat_models import ThreatModel

# Three classes and three pixels; each logit is a weighted sum.
WEIGHTS = tf.constant([[1.0, 0.0, -1.0], [0.0, 2.0, -1.0], [-1.0, 1.0, 1.0]])


def linear(x):
    return tf.reshape(x, [-1, 3]) @ WEIGHTS


def image(*pixels):
    return tf.constant(pixels, shape=[1, 1, len(pixels), 1])


@pytest.mark.parametrize(
    ("threat", "expected"),
    [
        (ThreatModel("linf", 0.1), [0.6, 0.4, 0.4]),
        (ThreatModel("l2", 0.3), [0.6, 0.3, 0.3]),
        (ThreatModel("l1", 0.3), [0.5, 0.35, 0.35]),
    ],
    ids=lambda value: getattr(value, "norm", ""),
)
def test_one_step_by_hand(threat, expected):
    # x = (0.5, 0.5, 0.5) has the logits (0, 1.5, -0.5): with label 1 the likeliest target is 0. z_0 - z_1 has the
    # gradient (1, 0, -1) - (0, 2, 1) = (1, -2, -2), of l2 norm 3. In l1 the two largest entries share the step.
    # No such step changes the class: toward target 2 neither.
    attack = MultiTargeted(threat, 1, threat.epsilon, random_start=False)
    np.testing.assert_allclose(
        np.ravel(attack(linear, image(0.5, 0.5, 0.5), tf.constant([1]), seed=0)), expected, atol=1e-6
    )


def test_a_later_target_by_hand():
    # Logits (0, -0.1, a - 0.7): the likeliest target, class 1, cannot be moved; class 2 is reached from a = 0.5 with
    # 0.3 more. PGD on the margin would not see it, as long as class 1 is ahead.
    def logits_fn(x):
        a = tf.reshape(x, [-1, 2])[:, 0]
        return tf.stack([0 * a, 0 * a - 0.1, a - 0.7], axis=1)

    x, y = image(0.5, 0.5), tf.constant([0])
    for targets, expected in ((1, [0.5, 0.5]), (2, [0.8, 0.5]), (9, [0.8, 0.5])):
        attack = MultiTargeted(ThreatModel("linf", 0.3), 3, 0.1, targets=targets, random_start=False)
        np.testing.assert_allclose(np.ravel(attack(logits_fn, x, y, seed=0)), expected, atol=1e-6)


def test_targets_take_turns(monkeypatch):
    # With label 1 the targets are 0 and 2, of which none is reached.
    aims, run_from = [], PGD.run_from

    def record(self, logits_fn, x, y, x_start):
        aims.append(int(y[1][0]))
        return run_from(self, logits_fn, x, y, x_start)

    monkeypatch.setattr(PGD, "run_from", record)
    MultiTargeted(ThreatModel("linf", 0.01), 1, 0.01, restarts=2)(
        linear, image(0.5, 0.5, 0.5), tf.constant([1]), seed=0
    )
    assert aims == [0, 2, 0, 2]


def test_the_first_run_that_fools_counts():
    # With steps of length 0 a run is its random start. Logits (0.4, 0.9, -0.7).
    x, y = tf.tile(image(0.7, 0.3, 0.3), [6, 1, 1, 1]), tf.fill([6], 1)
    threat = ThreatModel("linf", 0.3)
    each = seeds.for_each_example(2, 6)
    starts = np.stack([threat.random_start(x, seeds.fold_in_each(each, tf.fill([6], r))) for r in range(8)])
    fools = np.stack([np.argmax(linear(start), axis=1) != 1 for start in starts])
    assert len(set(fools.argmax(axis=0))) > 2 and not fools.any(axis=0).all()
    actual = MultiTargeted(threat, 1, 0.0, restarts=4)(linear, x, y, seed=2)
    np.testing.assert_array_equal(actual, starts[fools.argmax(axis=0), np.arange(6)])


def test_the_judge_ranks_the_targets_and_decides():
    # A judge to whom z_2 is 1.5 more ranks class 2 first: z_2 - z_1 has the gradient (-1, -1, 1) - (0, 2, 1), to
    # (0.4, 0.4, 0.5). There z_2 is 1.2 to the judge and z_1 is 1.3, and toward class 0 they are 0.9 and 1.2: neither
    # fools it, and the first run counts. One to whom z_2 is 1.7 more is fooled.
    x, y = image(0.5, 0.5, 0.5), tf.constant([1])
    attack = MultiTargeted(ThreatModel("linf", 0.1), 1, 0.1, random_start=False)
    for more, fooled in ((1.5, False), (1.7, True)):
        x_adv = attack(linear, x, y, seed=0, judge_fn=lambda x, m=more: linear(x) + [0.0, 0.0, m])
        np.testing.assert_allclose(np.ravel(x_adv), [0.4, 0.4, 0.5], atol=1e-6)
        assert (np.argmax(linear(x_adv) + [0.0, 0.0, more]) == 2) == fooled


def test_scaled():
    attack = MultiTargeted(ThreatModel("l2", 1.0), 2, 0.1, targets=3)
    assert attack.scaled(0.5) == MultiTargeted(ThreatModel("l2", 0.5), 2, 0.05, targets=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be an integer of 1 or more, got 0"),
        ({"targets": 0}, "targets must be an integer of 1 or more, got 0"),
        ({"restarts": 2, "random_start": False}, "restarts must be 1 without random_start, got 2"),
    ],
)
def test_errors_name_argument_expectation_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiTargeted(**{"threat": ThreatModel("linf", 0.3), "steps": 2, "step_size": 0.1, **arguments})
