"""Learning-rate schedules."""

import numpy as np
import pytest

from tfrobust.schedules import WarmupLinearDecay


def test_rises_stays_and_falls():
    schedule = WarmupLinearDecay(0.8, 10, warmup_steps=4, decay_from=6)
    rates = [float(schedule(step)) for step in range(12)]
    np.testing.assert_allclose(rates, [0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8, 0.6, 0.4, 0.2, 0, 0], rtol=1e-6)


def test_without_warmup_and_decay_is_constant():
    assert [float(WarmupLinearDecay(0.5, 3)(step)) for step in range(3)] == [0.5] * 3


def test_survives_serialisation():
    schedule = WarmupLinearDecay(0.8, 10, warmup_steps=4, decay_from=6)
    assert WarmupLinearDecay.from_config(schedule.get_config()).get_config() == schedule.get_config()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0.0, 10), "peak must be above 0, got 0.0"),
        ((1.0, 10, 8, 6), "got 8, 6 and 10"),
        ((1.0, 10, 0, 11), "got 0, 11"),
    ],
)
def test_errors_name_what_is_wrong(arguments, words):
    peak, total, *rest = arguments
    options = dict(zip(("warmup_steps", "decay_from"), rest, strict=False))
    with pytest.raises(ValueError, match=words):
        WarmupLinearDecay(peak, total, **options)
