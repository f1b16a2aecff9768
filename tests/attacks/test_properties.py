"""Whatever images, threat and dtype are: attacks return finite images of the same kind, in the ball, within bounds."""

import numpy as np
import pytest
import tensorflow as tf

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import strategies as st  # noqa: E402

from tfrobust.attacks import catalogue  # noqa: E402
from tfrobust.threat_models import NORMS, ThreatModel  # noqa: E402

# Every attack of the catalogue, with budgets that allow for many runs. FAB and DeepFool take more to converge, which is
# not asked of them here.
BUDGETS = {
    "r_fgsm": "",
    "fgsm": "",
    "bim": ":steps=3",
    "mim": ":steps=3",
    "pgd": ":steps=3:restarts=2",
    "cw_pgd": ":steps=3",
    "targeted_pgd": ":steps=3",
    "multi_targeted": ":steps=2",
    "odi": ":steps=2",
    "apgd_ce": ":steps=3:restarts=2",
    "apgd_dlr": ":steps=3:eot_samples=2",
    "apgd_t": ":steps=3:targets=2",
    "fab": ":steps=3",
    "fab_t": ":steps=3:targets=2",
    "square": ":queries=12",
    "cw_l2": ":steps=4:binary_search_steps=2",
    "cw_linf": ":steps=4:initial_const=2",
    "deepfool": ":steps=3",
    "ddn": ":steps=4",
    "fmn": ":steps=4",
}
CLASSES = 5


def test_every_attack_of_the_catalogue_is_tested():
    assert set(BUDGETS) == set(catalogue.CATALOGUE)


def logits_fn(x):
    """Five smooth classes of images of any shape; saturated ones have hardly any gradient."""
    pixels = tf.reshape(x, [tf.shape(x)[0], int(np.prod(x.shape[1:]))])
    weights = np.random.default_rng(0).normal(size=(pixels.shape[1], CLASSES))
    return tf.math.tanh(pixels) @ tf.constant(weights, x.dtype)


@st.composite
def threats(draw, norms):
    low, width = draw(st.sampled_from([(0.0, 1.0), (-1.0, 3.0), (0.0, 255.0)]))
    # Whole ranges of scale: no change at all, rounding errors, and balls larger than the box.
    part = draw(st.sampled_from([0.0, 1e-7, 1e-3, 1.0]) | st.floats(0.0, 1.0))
    norm = draw(st.sampled_from(norms))
    return ThreatModel(norm, part * width * {"linf": 1, "l2": 4, "l1": 20}[norm], (low, low + width))


@st.composite
def images(draw, threat):
    """[B, H, W, C], some of whose pixels are at the bounds."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(1, 3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pixels = np.clip(rng.uniform(-0.3, 1.3, shape), 0.0, 1.0)
    low, high = threat.bounds
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return np.clip((low + (high - low) * pixels).astype(dtype), low, high)


@pytest.mark.parametrize("name", sorted(BUDGETS))
@hypothesis.settings(max_examples=12, deadline=None, derandomize=True)
@hypothesis.given(data=st.data())
def test_results_are_in_the_ball_and_within_bounds(name, data):
    threat = data.draw(threats(catalogue.CATALOGUE[name].norms))
    x = data.draw(images(threat))
    y = np.argmax(logits_fn(x), axis=1).astype(data.draw(st.sampled_from([np.int32, np.int64])))
    # Some are misclassified from the beginning.
    y = (y + np.arange(len(y)) % 2) % CLASSES
    (attack,) = catalogue.parse(name + BUDGETS[name], threat).values()
    x_adv = attack(logits_fn, tf.constant(x), tf.constant(y), seed=data.draw(st.integers(0, 2**31 - 1)))
    assert x_adv.shape == x.shape and x_adv.dtype == x.dtype
    assert np.isfinite(x_adv).all()
    assert threat.bounds[0] <= np.min(x_adv) and np.max(x_adv) <= threat.bounds[1]
    assert np.all(threat.distance(x_adv, x) <= threat.epsilon + threat.tolerance)
    if threat.epsilon == 0:
        np.testing.assert_array_equal(x_adv, x)


@pytest.mark.parametrize("norm", NORMS)
@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(data=st.data())
def test_projections_are_in_the_ball_and_stay(norm, data):
    threat = data.draw(threats([norm]))
    x = data.draw(images(threat))
    low, high = threat.bounds
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    far = (x + (high - low) * rng.normal(scale=data.draw(st.floats(0.0, 10.0)), size=x.shape)).astype(x.dtype)
    for point in (threat.project(tf.constant(far), x), threat.random_start(tf.constant(x), 7)):
        assert point.dtype == x.dtype and np.isfinite(point).all()
        assert low <= np.min(point) and np.max(point) <= high
        assert np.all(threat.distance(point, x) <= threat.epsilon + threat.tolerance)
        again = threat.project(point, x)
        np.testing.assert_allclose(again, point, rtol=1e-5, atol=1e-6 * (high - low))
