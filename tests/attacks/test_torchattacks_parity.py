"""AutoAttack and its parts beside torchattacks, on the same weights and images."""

import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust import seeds, suites
from tfrobust.attacks.apgd import apgd_ce, apgd_dlr, apgd_t
from tfrobust.attacks.fab import FAB
from tfrobust.attacks.square import Square
from tfrobust.evaluation import evaluate
from tfrobust.threat_models import ThreatModel

torch = pytest.importorskip("torch")
torchattacks = pytest.importorskip("torchattacks")

NORM_NAMES = {"linf": "Linf", "l2": "L2", "l1": "L1"}


@pytest.fixture(scope="module")
def twin(digits):
    return digits.torch_twin()


def ours(attack, digits, x, y, seed=1):
    """Which images stand after our attack: bool [N]."""

    perturb = tf.function(functools.partial(attack, digits.model), autograph=False)
    x_adv = perturb(tf.constant(x), tf.constant(y), seed=seeds.per_example(seed, tf.range(len(x))))
    return standing(digits, x_adv, y)


def standing(digits, x_adv, y):
    return np.argmax(digits.model(x_adv), axis=1) == y


def channels_first(x):
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


def channels_last(images):
    return images.detach().numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.06), ("l2", 0.8)])
@pytest.mark.parametrize("name", ["ce", "dlr", "t"])
def test_apgd(digits, twin, norm, epsilon, name):
    steps, threat = 40, ThreatModel(norm, epsilon)
    left = ours({"ce": apgd_ce, "dlr": apgd_dlr, "t": apgd_t}[name](threat, steps=steps), digits, digits.x, digits.y)
    common = {"norm": NORM_NAMES[norm], "eps": epsilon, "steps": steps, "seed": 1}
    theirs = (
        torchattacks.APGDT(twin, n_classes=10, **common)
        if name == "t"
        else torchattacks.APGD(twin, loss=name, **common)
    )
    images = theirs(channels_first(digits.x), torch.from_numpy(digits.y))
    their_left = standing(digits, channels_last(images), digits.y)
    assert 0.05 < left.mean() < 0.95
    assert abs(left.mean() - their_left.mean()) <= 0.005
    assert np.mean(left == their_left) >= 0.98


@pytest.mark.parametrize(
    ("norm", "epsilon", "targets"), [("linf", 0.04, 0), ("linf", 0.04, 9), ("l2", 0.5, 9), ("l1", 1.5, 9)]
)
def test_fab(digits, twin, norm, epsilon, targets):
    x, y = digits.x[:60], digits.y[:60]
    peer = torchattacks.FAB(twin, NORM_NAMES[norm], epsilon, steps=10, multi_targeted=targets > 0, n_classes=10)
    threat = ThreatModel(norm, epsilon)
    attack = FAB(threat, steps=10, targets=targets)
    found = tf.function(functools.partial(attack.minimize, digits.model, seed=0))(tf.constant(x), tf.constant(y))
    # The nearest image that torchattacks meets, of all targets: what its `perturb` keeps are those within epsilon.
    best = np.where(standing(digits, x, y), math.inf, 0.0)
    for rank in range(2, 11) if targets else (None,):
        peer.target_class = rank
        run = peer.attack_single_run_targeted if targets else peer.attack_single_run
        candidate = channels_last(run(channels_first(x), torch.from_numpy(y)))
        distance = threat.distance(tf.constant(candidate), tf.constant(x)).numpy()
        best = np.where(standing(digits, candidate, y), best, np.minimum(best, distance))
    both = np.isfinite(best)
    np.testing.assert_array_equal(found.success, both)
    assert np.mean(np.isclose(found.distance, best, rtol=0.01)[both]) >= 0.95
    np.testing.assert_allclose(np.mean(found.distance[both]), np.mean(best[both]), rtol=0.01)
    # Within epsilon.
    left = ours(attack, digits, x, y, seed=0)
    assert 5 < left.sum() < 55
    assert np.mean(left == (best > epsilon)) >= 0.98


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.1), ("l2", 1.5)])
def test_square(digits, twin, norm, epsilon):
    x, y = digits.x[:150], digits.y[:150]
    left, their_left = [], []
    for seed in (0, 1):
        left.append(np.mean(ours(Square(ThreatModel(norm, epsilon), 150), digits, x, y, seed)))
        peer = torchattacks.Square(twin, NORM_NAMES[norm], epsilon, n_queries=150, resc_schedule=False, seed=seed)
        images = peer(channels_first(x), torch.from_numpy(y))
        their_left.append(np.mean(standing(digits, channels_last(images), y)))
    assert 0.05 < np.mean(left) < 0.9
    # Its squares never reach the last row and column, which makes ours a few points stronger on these images.
    assert np.mean(their_left) - 0.1 < np.mean(left) < np.mean(their_left) + 0.03


@pytest.fixture(scope="module")
def inner(digits):
    """The network blind to the last row and column of pixels, which torchattacks' squares never reach."""
    model = keras.models.clone_model(digits.model)
    kernel, *others = digits.model.get_weights()
    kernel = kernel.reshape(28, 28, -1).copy()
    kernel[-1], kernel[:, -1] = 0, 0
    model.set_weights([kernel.reshape(784, -1), *others])
    return digits._replace(model=model)


@pytest.mark.slow  # Half a minute: the published budgets on 500 images.
def test_fab_t_with_its_published_budget(digits, twin):
    x, y, threat = digits.x, digits.y, ThreatModel("linf", 0.06)
    left = ours(suites.autoattack(threat)["FAB-T"], digits, x, y)
    peer = torchattacks.FAB(twin, "Linf", threat.epsilon, steps=100, multi_targeted=True, n_classes=10, seed=0)
    their_left = standing(digits, channels_last(peer(channels_first(x), torch.from_numpy(y))), y)
    assert 0.05 < left.mean() < 0.95
    assert abs(left.mean() - their_left.mean()) <= 0.005
    assert np.mean(left == their_left) >= 0.98


@pytest.mark.slow  # A minute.
def test_square_with_its_published_budget(inner):
    # One run depends on its seed: two of either agree in 97.8 to 98.4 % of the images, the worst of eight in 99 %.
    x, y, epsilon, left, their_left = inner.x, inner.y, 0.06, [], []
    for seed in range(8):
        left.append(ours(suites.autoattack(ThreatModel("linf", epsilon))["Square"], inner, x, y, seed))
        peer = torchattacks.Square(inner.torch_twin(), "Linf", epsilon, resc_schedule=False, seed=seed)
        images = peer(channels_first(x), torch.from_numpy(y))
        their_left.append(standing(inner, channels_last(images), y))
    worst, their_worst = np.all(left, axis=0), np.all(their_left, axis=0)
    assert 0.05 < np.mean(worst) < 0.95
    assert abs(np.mean(left) - np.mean(their_left)) <= 0.01
    assert abs(np.mean(worst) - np.mean(their_worst)) <= 0.005
    assert np.mean(worst == their_worst) >= 0.98


# In l2 it takes a minute.
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.06), pytest.param("l2", 0.8, marks=pytest.mark.slow)])
def test_autoattack(digits, twin, norm, epsilon):
    # The published budgets on both sides; torchattacks' own AutoAttack makes 10 steps instead of 100.
    x, y, threat = digits.x, digits.y, ThreatModel(norm, epsilon)
    found = evaluate(digits.model, x, y, suites.autoattack(threat), seed=0, batch_size=250, only_standing=True)
    common = {"norm": NORM_NAMES[norm], "eps": epsilon, "seed": 0}
    x_adv, their_left = x.copy(), standing(digits, x, y)
    for attack in (
        torchattacks.APGD(twin, steps=100, **common),
        torchattacks.APGDT(twin, steps=100, n_classes=10, **common),
        torchattacks.FAB(twin, steps=100, multi_targeted=True, n_classes=10, **common),
        torchattacks.Square(twin, n_queries=5000, resc_schedule=False, **common),
    ):
        images = attack(channels_first(x[their_left]), torch.from_numpy(y[their_left]))
        x_adv[their_left] = channels_last(images)
        their_left = standing(digits, x_adv, y)
    left = standing(digits, found.x_adv, y)
    assert 0.05 < left.mean() < 0.95
    assert abs(left.mean() - their_left.mean()) <= 0.005
    assert np.mean(left == their_left) >= 0.98
