"""What ends training before its last step: Ctrl-C and SIGTERM, and numbers that are none."""

import math
import signal

import keras
import numpy as np

from tfrobust import checkpoints


class DivergedError(ValueError):
    """The loss or the weights are not finite."""


class StopOnSignal(keras.callbacks.Callback):
    """Ends training after the present step on the first signal; a second Ctrl-C interrupts at once.

    Attributes:
      received: the signal's number, or None.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        super().__init__()
        self.received = None
        self._previous = {}

    def on_train_begin(self, logs=None):
        """Starts to listen."""
        self._previous = {number: signal.signal(number, self._receive) for number in self.SIGNALS}

    def on_train_batch_end(self, batch, logs=None):
        """Asks Keras to stop where a signal has come."""
        if self.received is not None:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Gives the signals back."""
        self.restore()

    def restore(self):
        """Gives the signals back to whom they belonged; harmless when repeated."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _receive(self, number, _):
        self.received = number
        # Impatience is an answer as well.
        signal.signal(signal.SIGINT, signal.default_int_handler)


# The loss itself may be infinite where each of its terms is finite.
_TERMS = {"xent": "the cross-entropy", "regularizer": "the regulariser", "loss": "the loss"}


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends training at the first step whose loss is not finite, before anything of it is saved.

    Args:
      saved: the run's checkpoints, which know the step.

    Raises:
      DivergedError: from training; it says which terms it was.
    """

    def __init__(self, saved: checkpoints.TrainingCheckpoints):
        super().__init__()
        self._saved = saved

    def on_train_batch_end(self, batch, logs=None):
        """Looks at the step's numbers."""
        found = [name for name in _TERMS if not math.isfinite((logs or {}).get(name, 0.0))]
        # Terms say more than their sum.
        words = [_TERMS[name] for name in found if name != "loss" or len(found) == 1]
        if words:
            raise diverged(" and ".join(words), self._saved.step)


def check_weights(classifier: keras.Model, step: int) -> None:
    """Raises DivergedError if a weight is not finite: asked before they are saved."""
    if not all(np.isfinite(weight.numpy()).all() for weight in classifier.trainable_variables):
        raise diverged("weights", step)


def diverged(words: str, step: int) -> DivergedError:
    """The error for terms or weights, in words, that are not finite."""
    return DivergedError(
        f"training diverged: not finite at step {step}: {words}; the checkpoints before it are kept, and a smaller "
        "learning rate may help"
    )
