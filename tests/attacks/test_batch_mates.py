"""MultiTargeted, ODI and the engine of runs: each example by itself, seeds, and graphs for batches of any size."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests.attacks.graphs import for_any_batch, specs
from tfrobust import seeds
from tfrobust.attacks.apgd import apgd_t
from tfrobust.attacks.multi_targeted import MultiTargeted
from tfrobust.attacks.odi import ODI
from tfrobust.attacks.pgd import PGD
from tfrobust.threat_models import ThreatModel

BUILDERS = {
    "multi_targeted": lambda threat: MultiTargeted(threat, 3, threat.epsilon / 2, restarts=2),
    "odi": lambda threat: ODI(PGD(threat, 3, threat.epsilon / 2, restarts=3)),
}
COMPILED = BUILDERS | {"apgd_t": lambda threat: apgd_t(threat, steps=3, targets=2)}
THREATS = (ThreatModel("linf", 0.06), ThreatModel("l2", 0.2), ThreatModel("l1", 0.3))
X = tf.constant(np.random.default_rng(1).uniform(size=(8, 3, 4, 1)).astype(np.float32))
RNG = np.random.default_rng(0)
FIRST, SECOND = (tf.constant(RNG.normal(size=size).astype(np.float32)) for size in ((12, 7), (7, 4)))


def logits_fn(x):
    return tf.sin(2 * tf.reshape(x, [-1, 12]) @ FIRST) @ SECOND


Y = tf.argmax(logits_fn(X), axis=1)


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat.norm)
@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_an_example_does_not_depend_on_its_batch_mates(build, threat):
    attack = build(threat)
    seed = seeds.per_example(1, tf.range(8))
    compiled = for_any_batch(lambda x, y, seed: attack(logits_fn, x, y, seed=seed), X, Y, seed)
    batch = attack(logits_fn, X, Y, seed=seed)
    assert 0 < np.mean(np.argmax(logits_fn(batch), axis=1) == Y) < 1
    for i in range(8):
        one = slice(i, i + 1)
        alone = compiled(X[one], Y[one], seed[one])
        np.testing.assert_allclose(alone[0], batch[i], atol=1e-6)


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_the_seed_decides(build):
    attack = build(THREATS[1])
    first = attack(logits_fn, X, Y, seed=1)
    np.testing.assert_array_equal(attack(logits_fn, X, Y, seed=1), first)
    assert np.all(np.any(np.not_equal(attack(logits_fn, X, Y, seed=2), first), axis=(1, 2, 3)))


@pytest.mark.parametrize("build", COMPILED.values(), ids=COMPILED)
def test_compiled_for_batches_of_any_size(build):
    attack = build(THREATS[0])
    # With autograph, as users have it.
    compiled = tf.function(functools.partial(attack, logits_fn, seed=0), input_signature=specs(X, Y))
    for count in (8, 3):
        expected = attack(logits_fn, X[:count], Y[:count], seed=0)
        np.testing.assert_allclose(compiled(X[:count], Y[:count]), expected, atol=1e-6)
