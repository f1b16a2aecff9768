"""rho under DeepFool, and accuracy under FGSM over epsilons."""

import math

import keras
import numpy as np
import pytest

from tfrobust import precision
from tfrobust.metrics import RhoMeter, SignAttack


def linear(weights, bias):
    """A linear classifier of 1x2x1 images: logits 0 and weights . x + bias."""
    dense = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((1, 2, 1)), keras.layers.Flatten(), dense])
    dense.set_weights([np.array([[0, weights[0]], [0, weights[1]]], np.float32), np.array([0, bias], np.float32)])
    return model


def rho(model, x, on_progress=None, **options):
    return RhoMeter(model, **options)(x, on_progress)


def images(*rows):
    return np.array(rows, np.float32).reshape(-1, 1, 2, 1)


def test_rho_by_hand():
    # The boundary is 3 x0 + 4 x1 = 1.5, of which (0.3, 0.4) is |2.5 - 1.5| / 5 = 0.2 away and (0.1, 0) 0.24.
    found = rho(linear((3, 4), -1.5), images((0.3, 0.4), (0.1, 0.0), (0.0, 0.0)), precision="float32")
    np.testing.assert_allclose(found.sizes, [1.02 * 0.2 / 0.5, 1.02 * 0.24 / 0.1, np.inf], rtol=1e-5)
    # The black image has no size, and its class changes all the same.
    assert found.value == pytest.approx(1.02 * (0.4 + 2.4) / 2) and found.success_rate == 1.0


def test_rho_in_linf_from_a_center():
    found = rho(linear((3, 4), -1.5), images((0.3, 0.4)), norm="linf", center=0.1, precision="float32")
    np.testing.assert_allclose(found.sizes, [1.02 / 7 / 0.3], rtol=1e-5)


def test_rho_does_not_depend_on_batches():
    x = np.random.default_rng(0).uniform(size=(7, 1, 2, 1)).astype(np.float32)
    seen = []
    small = rho(linear((3, 4), -3), x, batch_size=3, on_progress=lambda *done: seen.append(done))
    np.testing.assert_allclose(small.sizes, rho(linear((3, 4), -3), x).sizes, rtol=1e-4)
    assert seen == [(3, 7), (6, 7), (7, 7)]


def test_a_size_that_is_no_number_shows():
    found = rho(linear((3, 4), -1.5), images((0.3, 0.4), (math.nan, 0.0), (0.0, 0.0)), precision="float32")
    assert np.isfinite(found.sizes[0]) and math.isnan(found.value)


def test_what_deepfool_cannot_fool():
    found = rho(linear((0, 0), -1), images((0.3, 0.4)), iterations=3)
    assert found.success_rate == 0 and found.value == 0


def test_other_numbers_of_iterations_are_not_compiled_anew():
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(20, activation="relu")
    stack = [keras.layers.Flatten(), hidden, keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((1, 2, 1)), *stack])
    traced = []
    meter = RhoMeter(model, iterations=50, precision="float32")
    x = np.random.default_rng(0).uniform(size=(9, 1, 2, 1)).astype(np.float32)
    call = hidden.call
    hidden.call = lambda x, training=None: (traced.append(1), call(x))[1]
    once, many = meter(x, iterations=1), meter(x)
    count = len(traced)
    np.testing.assert_array_equal(meter(x[:4], iterations=1).sizes, once.sizes[:4])
    assert count and len(traced) == count and once.success_rate < many.success_rate
    np.testing.assert_allclose(many.sizes, rho(model, x, precision="float32").sizes, rtol=1e-4)
    with pytest.raises(ValueError, match=r"iterations must be .*got 0"):
        meter(x, iterations=0)


def test_a_meter_follows_the_weights_in_bfloat16_too(monkeypatch):
    # Where evaluations would have weights as constants.
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    keras.utils.set_random_seed(0)
    stack = [
        keras.layers.Flatten(),
        *(keras.layers.Dense(20, activation="relu") for _ in range(3)),
        keras.layers.Dense(3),
    ]
    model = keras.Sequential([keras.Input((2, 2, 1)), *stack])
    x = np.random.default_rng(0).uniform(size=(50, 2, 2, 1)).astype(np.float32)
    meter = RhoMeter(model, iterations=2, precision="bfloat16")
    before = meter(x)
    for layer in model.layers[1:]:
        layer.set_weights([np.random.default_rng(2).normal(size=value.shape) for value in layer.get_weights()])
    after = meter(x)
    assert np.abs(after.sizes - before.sizes).max() > 0.01
    np.testing.assert_array_equal(after.sizes, rho(model, x, iterations=2, precision="bfloat16").sizes)


def test_accuracy_over_epsilons_by_hand():
    # Class 1 from x0 + x1 = 1 on. A step of epsilon moves the sum by 2 epsilon: these cross at 0.1, 0.2, 0.3 and 0.05.
    x = images((0.4, 0.4), (0.3, 0.3), (0.2, 0.2), (0.55, 0.56))
    attack = SignAttack(linear((1, 1), -1), x, np.array([0, 0, 0, 1]), batch_size=3)
    assert [attack.accuracy(epsilon) for epsilon in (0, 0.06, 0.15, 0.25, 0.35)] == [1, 0.75, 0.5, 0.25, 0]
    assert attack.epsilon_at(0.5) == pytest.approx(0.1, abs=1e-6)
    assert attack.accuracy(attack.epsilon_at(0.5)) == 0.5


def test_pixels_stay_in_range():
    # (0, 1) against 0.2 x0 + x1 = 0.9: x0 goes down to 0 and no further, so that only x1 counts.
    attack = SignAttack(linear((0.2, 1), -0.9), images((0.0, 1.0)), np.array([1]))
    assert attack.accuracy(0.09) == 1 and attack.accuracy(0.11) == 0


def test_large_leads_do_not_hide_the_sign():
    # A lead of 200: the cross-entropy's gradient is 0 in float32.
    attack = SignAttack(linear((1000, 1000), -1000), images((0.4, 0.4), (0.55, 0.56)), np.array([0, 1]))
    assert [attack.accuracy(epsilon) for epsilon in (0.04, 0.06, 0.11)] == [1, 0.5, 0]


def test_the_smallest_epsilon_counts():
    # Of class 1 only where |x0 - 0.5| < 0.02: a step from 0.45 is wrong from 0.03 to 0.07, and right again beyond.
    x = keras.Input((1, 1, 1))
    bump = keras.ops.relu(10 * (0.1 - keras.ops.abs(keras.layers.Flatten()(x) - 0.5)))
    logits = keras.ops.concatenate([0 * bump, bump - 0.8], axis=1)
    attack = SignAttack(keras.Model(x, logits), np.reshape(np.float32([0.45, 0.3]), [2, 1, 1, 1]), np.array([0, 0]))
    assert [attack.accuracy(epsilon) for epsilon in (0.0, 0.04, 0.2, 1.0)] == [1, 0.5, 1, 1]
    assert attack.epsilon_at(0.75) == pytest.approx(0.03, abs=1e-6)


@pytest.mark.parametrize("accuracy", [-0.1, 1.0])
def test_accuracies_that_are_not_reached(accuracy):
    attack = SignAttack(linear((1, 1), -1), images((0.4, 0.4)), np.array([0]))
    with pytest.raises(ValueError, match=f"accuracy must be at least .* below the natural one, 1, got {accuracy}"):
        attack.epsilon_at(accuracy)


def test_no_images():
    for call in (rho, lambda model, x: SignAttack(model, x, [])):
        with pytest.raises(ValueError, match="images must be one or more, got none"):
            call(linear((1, 1), 0), images())
