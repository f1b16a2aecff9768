"""Auto-PGD beside torchattacks, on the same weights and images."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfrobust import datasets, seeds
from tfrobust.attacks.apgd import apgd_ce, apgd_dlr, apgd_t
from tfrobust.threat_models import ThreatModel

torch = pytest.importorskip("torch")
torchattacks = pytest.importorskip("torchattacks")


@pytest.fixture(scope="module")
def problem():
    """A network on the bundled digits, the same weights in torch, and all its test images."""
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(10)])
    train, test = datasets.load("digits", "train"), datasets.load("digits", "test")
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(train.images, train.labels, batch_size=64, epochs=8, verbose=0)
    nn = torch.nn
    peer = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10)).eval()
    with torch.no_grad():
        for layer, (kernel, bias) in zip((peer[1], peer[3]), (d.get_weights() for d in model.layers[1:]), strict=True):
            layer.weight.copy_(torch.from_numpy(kernel.T.copy()))
            layer.bias.copy_(torch.from_numpy(bias.copy()))
    return model, peer, test.images, test.labels


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.06), ("l2", 0.8)])
@pytest.mark.parametrize("name", ["ce", "dlr", "t"])
def test_as_strong_as_torchattacks(problem, norm, epsilon, name):
    model, peer, x, y = problem
    steps, threat = 40, ThreatModel(norm, epsilon)
    attack = {"ce": apgd_ce, "dlr": apgd_dlr, "t": apgd_t}[name](threat, steps=steps)

    @tf.function
    def perturb(x, y):
        return attack(model, x, y, seed=seeds.per_example(1, tf.range(len(x))))

    ours = np.argmax(model(perturb(tf.constant(x), tf.constant(y))), axis=1) == y
    common = {"norm": {"linf": "Linf", "l2": "L2"}[norm], "eps": epsilon, "steps": steps, "seed": 1}
    their_attack = (
        torchattacks.APGDT(peer, n_classes=10, **common)
        if name == "t"
        else torchattacks.APGD(peer, loss=name, **common)
    )
    images = their_attack(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), torch.from_numpy(y))
    with torch.no_grad():
        theirs = peer(images).argmax(1).numpy() == y
    assert 0.05 < ours.mean() < 0.95
    assert abs(ours.mean() - theirs.mean()) <= 0.005
    assert np.mean(ours == theirs) >= 0.98
