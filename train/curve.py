"""Accuracy and rho2 over the epochs of a training run, as CSV and in TensorBoard."""

import pathlib

import keras
import numpy as np
import tensorflow as tf

from eval import curve_files, output_files
from tfrobust import datasets, metrics
from train.summaries import one_line_errors


class Curve(keras.callbacks.Callback):
    """Measures at the start, after every `every` steps and at the end, and writes what was measured so far.

    rho2 is that of the code of Deep Defense: DeepFool with 5 iterations. Weights are taken as they are; a last row
    that does not end an epoch has their average, if the run keeps one. A resumed run goes on in the file that is
    there, behind the step at which it starts.

    Args:
      model_dir: folder of the file and of TensorBoard's events.
      test: what is measured on.
      meter: of the classifier that is trained.
      start_step: the step at which training starts.
      every: steps of an epoch.
    """

    ITERATIONS = 5

    def __init__(self, model_dir, test: datasets.Arrays, meter: metrics.RhoMeter, *, start_step: int, every: int):
        super().__init__()
        self._folder, self._test, self._meter = pathlib.Path(model_dir), test, meter
        self._step, self._every = start_step, every
        self._rows = [row for row in curve_files.read(self._folder / curve_files.FILE) if row["step"] <= start_step]

    def on_train_begin(self, logs=None):
        """Measures the classifier that training starts with."""
        with one_line_errors(self._folder):
            self._writer = tf.summary.create_file_writer(str(self._folder))
        if self._step % self._every == 0:
            self._measure()

    def on_train_batch_end(self, batch, logs=None):
        """Measures after an epoch."""
        self._step += 1
        if self._step % self._every == 0:
            self._measure()

    def on_train_end(self, logs=None):
        """Measures the last step, if training was not stopped before it, and closes the event file."""
        if not self.model.stop_training:
            self._measure()
        with one_line_errors(self._folder):
            self._writer.close()

    def _measure(self):
        if any(row["step"] == self._step for row in self._rows):
            return
        found = self._meter(self._test.images, iterations=self.ITERATIONS)
        accuracy = float(np.mean(found.classes == self._test.labels))
        row = {"step": self._step, "epoch": self._step / self._every, "accuracy": accuracy, "rho2": found.value}
        self._rows.append(row)
        with one_line_errors(self._folder), self._writer.as_default(step=self._step):
            for name in ("accuracy", "rho2"):
                tf.summary.scalar(f"test_{name}", row[name])
        with output_files.whole_file(str(self._folder / curve_files.FILE)) as file:
            file.write(curve_files.text(self._rows).encode())
