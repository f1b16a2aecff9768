"""Ctrl-C and SIGTERM during training: finish the step, save, leave."""

import signal

import keras


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
