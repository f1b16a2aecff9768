"""Windows of different lengths over one run's numbers."""

import math

import pytest

from train.averages import Averages


class Metrics:
    """Means since they were last reset, as Keras's; `natural` is known every third step only."""

    stop_training = False

    def __init__(self):
        self.reset_metrics()

    def reset_metrics(self):
        self.seen = []

    def step(self, number):
        self.seen.append(number)
        measured = [n for n in self.seen if n % 3 == 0]
        natural = sum(measured) / len(measured) if measured else math.nan
        return {"loss": sum(self.seen) / len(self.seen), "natural": natural}


def averages_at(last, *, every, start=0, total=100):
    """Averages after step `last` of a run whose loss is the step."""
    metrics = Metrics()
    averages = Averages(start_step=start, total_steps=total, every=every)
    averages.set_model(metrics)
    for step in range(start + 1, last + 1):
        averages.on_train_batch_end(step, metrics.step(step))
    return averages


@pytest.mark.parametrize(
    ("last", "every", "since", "loss"),
    [
        (12, (4, 6), 8, (9 + 10 + 11 + 12) / 4),
        (12, (4, 6), 6, (7 + 8 + 9 + 10 + 11 + 12) / 6),
        (18, (4, 6), 12, (13 + 14 + 15 + 16 + 17 + 18) / 6),
        (20, (20, 2), 0, 10.5),
        (20, (20, 2), 18, 19.5),
    ],
)
def test_each_window_has_all_of_its_steps_and_no_others(last, every, since, loss):
    assert averages_at(last, every=every).since(since)["loss"] == pytest.approx(loss)


def test_the_last_window_and_that_of_a_resumed_run_are_shorter():
    assert averages_at(7, every=(4, 6), total=7).since(4)["loss"] == pytest.approx(6)
    # After step 8 would be 9 to 12, but this start made only the last two of them.
    assert averages_at(12, every=(4, 6), start=10).since(8)["loss"] == pytest.approx(11.5)


def test_a_window_ends_where_training_is_stopped():
    metrics = Metrics()
    averages = Averages(start_step=0, total_steps=100, every=(4,))
    averages.set_model(metrics)
    for step in range(1, 8):
        metrics.stop_training = step == 7
        averages.on_train_batch_end(step, metrics.step(step))
    assert averages.since(4)["loss"] == pytest.approx(6)


def test_what_was_not_measured_does_not_count():
    # Of the parts after 8, (9, 10), (11, 12), (13, 14) and (15, 16), the third knows nothing.
    assert averages_at(16, every=(2, 8)).since(8)["natural"] == pytest.approx((9 + 12 + 15) / 3)
    assert math.isnan(averages_at(14, every=(2, 8)).since(12)["natural"])


def test_memory_does_not_grow_with_steps():
    assert len(averages_at(1000, every=(2, 10), total=2000)._parts) <= 6
