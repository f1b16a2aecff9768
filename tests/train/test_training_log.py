"""training.csv: how long a run has taken, over stops."""

import math
import types

import pytest

from eval import curve_files
from train.averages import Averages
from train.training_log import TrainingLog

HEADER = "step,loss,xent,regularizer,adversarial_accuracy,natural_accuracy,learning_rate"
MODEL = types.SimpleNamespace(
    optimizer=types.SimpleNamespace(learning_rate=0.1), reset_metrics=lambda: None, stop_training=False
)


def resumed(folder, text, step):
    """The averages and the log of a run that goes on behind `step`, with what it wrote before."""
    if text:
        (folder / curve_files.TRAINING_FILE).write_text(text)
    averages = Averages(start_step=step, total_steps=100, every=(2,))
    log = TrainingLog(folder, start_step=step, total_steps=100, every=2, averages=averages)
    for callback in (averages, log):
        callback.set_model(MODEL)
        callback.on_train_begin()
    return averages, log


@pytest.mark.parametrize(
    ("rows", "step", "seconds"),
    [
        (f"{HEADER},seconds\n2,1,1,,0.5,0.5,0.1,1000\n", 2, 1000),
        # Stopped between two rows.
        (f"{HEADER},seconds\n2,1,1,,0.5,0.5,0.1,1000\n", 3, 1500),
        # Went on from an earlier checkpoint: the rows behind it are another run's.
        (f"{HEADER},seconds\n2,1,1,,0.5,0.5,0.1,1000\n4,1,1,,0.5,0.5,0.1,3000\n", 2, 1000),
        ("", 0, 0),
    ],
)
def test_the_clock_goes_on_after_a_stop(tmp_path, rows, step, seconds):
    averages, log = resumed(tmp_path, rows, step)
    assert seconds <= log.seconds < seconds + 60
    for _ in range(2):
        for callback in (averages, log):
            callback.on_train_batch_end(0, {"loss": 1.0})
    last = curve_files.read(tmp_path / curve_files.TRAINING_FILE, curve_files.TRAINING_COLUMNS)[-1]
    assert last["step"] == (step + 2) // 2 * 2 and seconds <= last["seconds"] < seconds + 60


@pytest.mark.parametrize(("total", "stopped"), [(5, False), (100, True)])
def test_a_row_at_the_end_and_where_training_is_stopped(tmp_path, monkeypatch, total, stopped):
    averages = Averages(start_step=0, total_steps=total, every=(2,))
    log = TrainingLog(tmp_path, start_step=0, total_steps=total, every=2, averages=averages)
    log.set_model(MODEL)
    averages.set_model(MODEL)
    log.on_train_begin()
    for step in range(1, 6):
        monkeypatch.setattr(MODEL, "stop_training", stopped and step == 5)
        for callback in (averages, log):
            callback.on_train_batch_end(0, {"loss": float(step)})
    rows = curve_files.read(tmp_path / curve_files.TRAINING_FILE, curve_files.TRAINING_COLUMNS)
    assert [(row["step"], row["loss"]) for row in rows] == [(2, 2), (4, 4), (5, 5)]


@pytest.mark.parametrize("rows", ["", f"{HEADER}\n2,1,1,,0.5,0.5,0.1\n"])
def test_a_time_that_nobody_knows(tmp_path, rows):
    assert math.isnan(resumed(tmp_path, rows, 2)[1].seconds)
