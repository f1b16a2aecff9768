"""Pictures of adversarial examples, and what TensorBoard gets."""

import types

import numpy as np
import pytest
import tensorflow as tf

from tfrobust.attacks import fgsm
from tfrobust.threat_models import ThreatModel
from train.averages import Averages
from train.summaries import Summaries, save_strip, strip


def test_strip_has_three_rows_and_amplifies_the_difference():
    x = np.full((4, 2, 3, 1), 0.5, np.float32)
    x_adv = x + np.reshape([0.0, 0.1, -0.1, 0.3], (4, 1, 1, 1)).astype(np.float32)
    picture = strip(x, x_adv, epsilon=0.1)
    assert picture.shape == (6, 12, 1)
    np.testing.assert_allclose(picture[0, ::3, 0], 0.5)
    np.testing.assert_allclose(picture[2, ::3, 0], [0.5, 0.6, 0.4, 0.8])
    # No change is grey, epsilon white or black, and more than epsilon does not overflow.
    np.testing.assert_allclose(picture[4, ::3, 0], [0.5, 1.0, 0.0, 1.0], atol=1e-6)


def test_pictures_are_written_for_grey_and_colour(tmp_path):
    for channels in (1, 3):
        x = np.random.default_rng(0).random((3, 8, 8, channels), np.float32)
        path = tmp_path / f"{channels}.png"
        save_strip(path, x, x, 0.0, ["a", "b", "c"])
        assert path.read_bytes().startswith(b"\x89PNG")


class Attacked:
    """What `Summaries` asks a trainer for."""

    attack = fgsm(ThreatModel("linf", 0.1))
    stop_training = False
    optimizer = types.SimpleNamespace(learning_rate=0.5)

    @staticmethod
    def reset_metrics():
        pass

    @staticmethod
    def perturb(x, y):
        return tf.clip_by_value(x + 0.1, 0, 1)


def summaries(folder):
    """The callback, and the averages before it."""
    averages = Averages(start_step=0, total_steps=5, every=(2,))
    options = {"start_step": 0, "total_steps": 5, "every": 2, "images_every": 2, "averages": averages}
    found = Summaries(folder, **options, images=np.zeros([3, 4, 4, 1], np.float32), labels=np.zeros(3, np.int64))
    for callback in (averages, found):
        callback.set_model(Attacked())
    return averages, found


def test_scalars_and_strips_and_one_of_the_end(tmp_path):
    averages, written = summaries(tmp_path)
    written.on_train_begin()
    for step in range(5):
        measured = 0.75 if step == 1 else float("nan")
        logs = {"adversarial_accuracy": 0.5, "xent": 1.0, "natural_accuracy": measured}
        for callback in (averages, written):
            callback.on_train_batch_end(step, logs)
    written.on_train_end()
    (path,) = tmp_path.iterdir()
    found = {}
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.tensor
    assert {tag: list(steps) for tag, steps in found.items()} == {
        "accuracy_adv": [2, 4],
        "xent_adv": [2, 4],
        "accuracy_nat": [2],
        "learning_rate": [2, 4],
        "natural_adversarial_difference": [2, 4, 5],
    }
    width, height, png = found["natural_adversarial_difference"][5].string_val
    assert (int(width), int(height)) == (12, 12)
    picture = tf.io.decode_png(png).numpy()[..., 0]
    # Black images, brighter by epsilon, which is drawn as white.
    assert picture.shape == (12, 12) and set(picture[:4].flat) == {0} and set(picture[8:].flat) == {255}


def test_events_that_cannot_be_written_are_an_error_of_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    _, written = summaries(tmp_path / "file")
    with pytest.raises(OSError, match=r"TensorBoard's events in .*file cannot be written") as error:
        written.on_train_begin()
        written.on_train_batch_end(0, {})
    assert "\n" not in str(error.value)
