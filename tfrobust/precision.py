"""The attack twin: the function of a classifier, computed faster, for the gradients of attacks and training.

A twin shares the classifier's weights and differs in two ways:

- **Precision.** With "bfloat16" the layers between the first convolution and the logits compute in bfloat16. The first
  convolution and the logits stay in float32: rounding the input or the logits makes a measurably weaker attack. Where
  first filters are parallel, their gradients are summed before they are rounded (`parallel_filters`). For some
  classifiers that may not be enough, and evaluations find out: `gradient_agreement`.
- **The first convolution's input gradient** is computed as a strided convolution that makes a block of pixels at once
  (`fast_convolution`): several times faster on a CPU, where one to four output channels leave the vector units idle.

What an attack returns is always judged by the classifier itself, in float32 (`evaluation`). A model that was built in
mixed or half precision is treated as if it had been built in float32 (`full_precision`), but for what its layers cast.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

import keras
import tensorflow as tf

from tfrobust import classifier_fronts, frozen_weights, full_precision, relu_windows, seeds, twin_layers
from tfrobust.parallel_filters import ReflectedConv2D

if TYPE_CHECKING:  # `attacks.transfer` needs this module
    from tfrobust.attacks.base import LogitsFn

Window = relu_windows.RandomWindow | relu_windows.StepWindow
Precision = Literal["auto", "float32", "bfloat16"]

_BFLOAT16_CPU_FEATURES = {"avx512_bf16", "amx_bf16"}


def resolve(precision: Precision) -> str:
    """The twin's precision, "float32" or "bfloat16": "auto" is bfloat16 on a CPU with instructions for it.

    Raises:
      ValueError: for another name.
    """
    if precision not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"precision must be 'auto', 'float32' or 'bfloat16', got {precision!r}")
    if precision != "auto":
        return precision
    return "bfloat16" if not _has_gpu() and cpu_has_bfloat16() else "float32"


def cpu_has_bfloat16() -> bool:
    """Whether this machine's CPU computes bfloat16 products natively (as Linux reports it)."""
    try:
        words = pathlib.Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return not _BFLOAT16_CPU_FEATURES.isdisjoint(words)


class AttackTwin:
    """A faster stand-in for `classifier`, [B, H, W, C] float32 pixels -> [B, K] float32 logits.

    Args:
      classifier: a built keras.Model. One that Keras cannot clone (a subclass, a loaded SavedModel) is used as it is.
      precision: see `resolve`.
      window: how far the gradient of the first ReLU looks beyond its threshold, if it does: see `relu_windows`. For
        `logits_fn` only; what is trained has its own gradient.
      frozen: whether the graph that attacks may keep the weights as constants: those of when `logits_fn` is called.
        Done in bfloat16 on CPUs with instructions for it, of small models; see `frozen_weights`. Not for training.
      parallel_filters: whether bfloat16 spares first filters that are parallel when the twin is made, see
        `parallel_filters`. It costs up to a tenth of the time of the challenge's network, and more where the second
        convolution is a small part of all; what is trained against it is no more robust.

    Raises:
      ValueError: for another precision, or a window for a classifier without such a ReLU.

    Attributes:
      precision: what it computes in: "float32" where no layer of the classifier could be changed.

    The twin holds no weights of its own: it reads the classifier's whenever `logits_fn` is called.
    """

    def __init__(
        self,
        classifier: keras.Model,
        precision: Precision = "auto",
        window: Window | None = None,
        *,
        frozen: bool = False,
        parallel_filters: bool = True,
    ):
        self.precision = resolve(precision)
        self._classifier = classifier
        self._window, self._relu = window, relu_windows.WindowedReLU()
        self._front = classifier_fronts.front(classifier) if window else None
        activations = {id(self._front.relu): self._relu} if window else {}
        frozen = frozen and self.precision == "bfloat16" and not _has_gpu() and cpu_has_bfloat16()
        frozen = frozen and frozen_weights.are_small(classifier)
        options = {"on_gpu": _has_gpu(), "reflected": parallel_filters, "packed": frozen}
        # Some layers are used as they are, and so is a classifier that cannot be cloned.
        copied = twin_layers.copy_of(classifier, self.precision, activations, **options)
        self._clone, self._pairs = copied or (None, [])
        layers = [copy for copy, _ in self._pairs]
        self._reflected = next((layer for layer in layers if isinstance(layer, ReflectedConv2D)), None)
        if window and not any(getattr(layer, "activation", None) is self._relu for layer in layers):
            raise classifier_fronts.does_not_fit(classifier)
        with full_precision.in_float32(classifier):  # of which layers may be used as they are
            if not any(map(twin_layers.is_bfloat16, layers)):
                self.precision = "float32"
        self._frozen = frozen and self.precision == "bfloat16"
        # Layer by layer both have the same variables; which of them are trainable may change later.
        self._source = {
            id(variable): source
            for copy, original in self._pairs
            for variable, source in zip(copy.variables, original.variables, strict=True)
        }
        dropouts = [layer for layer in layers if twin_layers.drops(layer)]
        self._dropout_states = {id(layer.seed_generator.state): i for i, layer in enumerate(dropouts)}
        # Losses that layers add while they compute would be lost in a copy.
        self._trains = self._clone is not None and all(
            type(layer) in twin_layers.COPIED | {keras.layers.InputLayer}
            and getattr(layer, "activity_regularizer", None) is None
            for _, layer in self._pairs
        )

    def logits_fn(self) -> LogitsFn:
        """The logits in inference mode. Weights are read and cast now: call it inside of the graph that attacks, before
        its loop, so that they are cast once and not at every step."""
        if self._clone is None:
            classifier = inference(self._classifier)
            return lambda x: tf.cast(classifier(x), tf.float32)
        weights, reflected = self._frozen_weights() if self._frozen else self._loop_weights()

        def logits(x):
            # Constants are made here, in the graph of the products: from outside of a loop they would be arguments.
            values, mirrors = tf.nest.map_structure(tf.convert_to_tensor, (weights, reflected))
            made_once = self._reflected.using(mirrors) if mirrors else contextlib.nullcontext()
            with made_once, full_precision.in_float32(self._classifier):
                return tf.cast(self._clone.stateless_call(*values, x, training=False)[0], tf.float32)

        if self._window is None:
            return logits
        return relu_windows.WindowedLogits(logits, self._relu, self._front.kernel(), self._window)

    def training_logits(self, x: tf.Tensor, seed) -> tf.Tensor:
        """The logits in training mode, [B, K] float32: differentiable with respect to the classifier's weights, whose
        moving statistics it updates.

        A classifier with layers that add losses, or that are not copied, computes them itself, in float32.

        Args:
          seed: of what dropout drops, an int or an int tensor [2]; of a classifier that computes itself, its own layers
            decide.
        """
        if not self._trains:
            return tf.cast(in_training(self._classifier)(x), tf.float32)
        for copy, original in self._pairs:
            copy.trainable = original.trainable
        trainable, others = self._weights()
        number = [self._dropout_states.get(id(variable)) for variable in self._clone.non_trainable_variables]
        others = [
            value if i is None else tf.cast(seeds.fold_in(seed, i), value.dtype)
            for i, value in zip(number, others, strict=True)
        ]
        logits, updated = self._clone.stateless_call(trainable, others, x, training=True)
        for i, variable, value in zip(number, self._clone.non_trainable_variables, updated, strict=True):
            # The generators of dropout are left as they are: replicas could not agree on them.
            if i is None:
                original = self._source.get(id(variable), variable)
                original.assign(tf.cast(value, original.dtype))
        return tf.cast(logits, tf.float32)

    def _loop_weights(self):
        """The weights in the twin's precision, and what reflects parallel filters, if any are."""
        weights = self._weights()
        if self._reflected is None:
            return weights, ()
        variables = [*self._clone.trainable_variables, *self._clone.non_trainable_variables]
        with keras.StatelessScope(state_mapping=list(zip(variables, weights[0] + weights[1], strict=True))):
            return weights, self._reflected.reflected()

    def _frozen_weights(self):
        """As numbers, also while a graph is traced."""
        with tf.init_scope():
            return tf.nest.map_structure(lambda value: value.numpy(), self._loop_weights())

    def _weights(self):
        def read(variables):
            # One that was made later is of a layer that both models have.
            return [tf.cast(self._source.get(id(v), v).value, v.dtype) for v in variables]

        return read(self._clone.trainable_variables), read(self._clone.non_trainable_variables)


class Functions(NamedTuple):
    """A classifier's functions from pixels [B, H, W, C] to logits [B, K].

    Attributes:
      judge_fn: the classifier itself in inference mode, which has the last word on every image.
      gradient_fn: returns the function that attacks differentiate; call it where `AttackTwin.logits_fn` is to be.
      precision: what it computes in, "float32" or "bfloat16", or "float16" where `checks.checked_functions` found that.
    """

    judge_fn: LogitsFn
    gradient_fn: Callable[[], LogitsFn]
    precision: str


def functions(
    classifier: keras.Model | LogitsFn, precision: Precision, relu_window: float = 0.0, *, frozen: bool = False
) -> Functions:
    """The functions of a Keras model; any other function from pixels to logits is both, in its own precision.

    Args:
      relu_window: 0, or the size of a `relu_windows.RandomWindow` through which gradients look.
      frozen: see `AttackTwin`.

    Raises:
      ValueError: as `AttackTwin` and `RandomWindow`, and for a window of what is no keras.Model.
    """
    if not isinstance(classifier, keras.Model):
        if relu_window:
            raise ValueError(f"relu_window needs a keras.Model, got {classifier!r}")
        return Functions(classifier, lambda: classifier, "float32")
    window = relu_windows.RandomWindow(relu_window) if relu_window else None
    twin = AttackTwin(classifier, precision, window, frozen=frozen)
    return Functions(inference(classifier), twin.logits_fn, twin.precision)


def inference(classifier: keras.Model | LogitsFn) -> LogitsFn:
    """A Keras model in inference mode and in float32; any other function as it is."""
    return _called(classifier, training=False) if isinstance(classifier, keras.Model) else classifier


def in_training(classifier: keras.Model) -> LogitsFn:
    """A Keras model in training mode and in float32."""
    return _called(classifier, training=True)


def _called(classifier, training):
    def logits(x):
        with full_precision.in_float32(classifier):
            return classifier(x, training=training)

    return logits


def _has_gpu() -> bool:
    return bool(tf.config.list_logical_devices("GPU"))
