"""TensorBoard scalars and pictures of adversarial examples."""

import contextlib
import math
import pathlib

import keras
import matplotlib.figure
import numpy as np
import tensorflow as tf

from train.averages import Averages

ROWS = ("natural", "adversarial", "difference")


def strip(x: np.ndarray, x_adv: np.ndarray, epsilon: float) -> np.ndarray:
    """Natural images, adversarial ones and their amplified difference, as three rows of one picture.

    Args:
      x, x_adv: [B, H, W, C] in [0, 1].
      epsilon: the change that is drawn as black or white; no change is grey.

    Returns:
      [3 H, B W, C] in [0, 1].
    """
    difference = 0.5 + (x_adv - x) / (2 * epsilon or 1)
    return np.concatenate([np.concatenate(list(row), axis=1) for row in (x, x_adv, np.clip(difference, 0, 1))])


def save_strip(path, x: np.ndarray, x_adv: np.ndarray, epsilon: float, titles: list[str]) -> None:
    """Draws `strip` with a title above each of its columns and writes it as PNG."""
    picture = strip(x, x_adv, epsilon)
    height, width = x.shape[1:3]
    figure = matplotlib.figure.Figure(figsize=(len(x) * 0.9 + 1.2, 3 * 0.9 + 0.5), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1)
    axes.set_yticks([height * (row + 0.5) for row in range(3)], ROWS)
    axes.set_xticks([width * (column + 0.5) for column in range(len(x))], titles)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    figure.savefig(path, format="png", dpi=120)


class Summaries(keras.callbacks.Callback):
    """Writes scalars, each a mean since the one before or since this start, and strips to `model_dir`.

    The tags are accuracy_adv, xent_adv and accuracy_nat: those of the original challenge as TensorFlow 1 wrote them,
    and the same for the natural accuracy.

    Args:
      model_dir: folder of the event files.
      start_step, total_steps: the steps at which training starts and ends.
      every: steps between scalars.
      images_every: steps between strips; there is one of the end too.
      images, labels: the few examples of the strip, [B, H, W, C] and [B].
      averages: callback of the same run, before this one; ends a part at each of the steps with scalars.
    """

    def __init__(
        self,
        model_dir,
        *,
        start_step: int,
        total_steps: int,
        every: int,
        images_every: int,
        images: np.ndarray,
        labels: np.ndarray,
        averages: Averages,
    ):
        super().__init__()
        self._averages = averages
        self._folder = str(pathlib.Path(model_dir))
        self._step, self._total, self._every, self._images_every = start_step, total_steps, every, images_every
        self._images, self._labels = tf.constant(images), tf.constant(labels)
        self._writer = None

    def on_train_begin(self, logs=None):
        """Opens the event file; raises OSError if it cannot be written, as the other methods do."""
        with self._one_line_errors():
            self._writer = tf.summary.create_file_writer(self._folder)
        self._perturb = None

    def on_train_batch_end(self, batch, logs=None):
        """Writes what is due at this step."""
        self._step += 1
        if self._step % self._every == 0:
            means = self._averages.since(self._step - self._every)
            scalars = {"accuracy_adv": means["adversarial_accuracy"], "xent_adv": means["xent"]}
            # NaN where no step since the last average measured it.
            if math.isfinite(means.get("natural_accuracy", math.nan)):
                scalars["accuracy_nat"] = means["natural_accuracy"]
            scalars["learning_rate"] = self._averages.learning_rate
            with self._one_line_errors(), self._writer.as_default(step=self._step):
                for name, value in scalars.items():
                    tf.summary.scalar(name, value)
        attack = self.model.attack
        if attack and (self._step % self._images_every == 0 or self._step == self._total):
            # Outside of a strategy's step: one device makes the picture.
            if self._perturb is None:
                # Concrete, because TensorFlow warns of functions that are compiled often, as in a study of many runs.
                self._perturb = tf.function(self.model.perturb).get_concrete_function(self._images, self._labels)
            x_adv = self._perturb(self._images, self._labels)
            picture = strip(self._images.numpy(), x_adv.numpy(), attack.threat.epsilon)
            with self._one_line_errors(), self._writer.as_default(step=self._step):
                tf.summary.image("natural_adversarial_difference", picture[np.newaxis])

    def on_train_end(self, logs=None):
        """Closes the event file."""
        with self._one_line_errors():
            self._writer.close()

    def _one_line_errors(self):
        return one_line_errors(self._folder)


@contextlib.contextmanager
def one_line_errors(folder: str):
    """Raises OSError where TensorBoard's events cannot be written to a folder."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(f"TensorBoard's events in {folder} cannot be written ({error.message})") from error
