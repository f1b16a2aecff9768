"""The layers of an attack twin: copies of a classifier's, each in a precision and with a gradient; see `precision`."""

import re
import types

import keras
import numpy as np
import tensorflow as tf

from tfrobust import classifier_fronts, full_precision
from tfrobust.fast_convolution import FastInputGradientConv2D
from tfrobust.packed_dense import PackedDense
from tfrobust.parallel_filters import ReflectedConv2D, parallel_groups

# Operations that draw random numbers.
_DRAWS = re.compile("Random|TruncatedNormal|Multinomial|Shuffle")

# Layers that are what their configuration and weights say; any other is used as it is.
COPIED = {
    keras.layers.Activation,
    keras.layers.Add,
    keras.layers.AveragePooling2D,
    keras.layers.BatchNormalization,
    keras.layers.Conv2D,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.LeakyReLU,
    keras.layers.MaxPooling2D,
    keras.layers.ReLU,
    keras.layers.Rescaling,
    keras.layers.Reshape,
    keras.layers.ZeroPadding2D,
}


def copy_of(
    classifier: keras.Model,
    precision: str,
    activations: dict[int, object],
    *,
    on_gpu: bool,
    reflected: bool,
    packed: bool,
) -> tuple[keras.Model, list[tuple[keras.layers.Layer, keras.layers.Layer]]] | None:
    """The classifier's graph, with variables of its own but for layers that cannot be copied, and each of its layers
    beside the classifier's; None where there is no graph, or where it draws random numbers in inference.

    Args:
      precision: "float32" or "bfloat16", of what lies between the first layer with weights and the last, whatever the
        precision of the classifier.
      activations: by the id of a layer, the activation function that its copy has instead.
      on_gpu: whether first convolutions keep Keras's gradient, which is slow on CPUs only.
      reflected: whether bfloat16 spares parallel first filters, see `parallel_filters`, if the classifier has some now.
        The first block of such a classifier, up to its second convolution, is in float32.
      packed: whether dense layers in bfloat16 are `PackedDense` ones, for weights that are constants.
    """
    if not isinstance(classifier, keras.Sequential) and not hasattr(classifier, "operations"):
        return None
    # A subclass may do more in its `call` than its layers do.
    if not type(classifier).call.__module__.startswith("keras."):
        return None
    graph = _graph(classifier)
    if graph is None:
        return None
    layers = keras.layers
    order = {id(layer): i for i, layer in enumerate(graph.layers)}
    weighted = [layer for layer in graph.layers if isinstance(layer, layers.Conv2D | layers.Dense)]
    # A copy draws the same numbers whenever it is called: attacks that average over what a classifier draws would not.
    if not weighted or draws_in_inference(classifier):
        return None
    first, last = order[id(weighted[0])], order[id(weighted[-1])]
    copies = {}

    def first_kernel():
        return copies.get(id(weighted[0]), weighted[0]).kernel

    # The first block, in float32, whose last layer is to be this one.
    exact, convolution = [], None
    if reflected and precision == "bfloat16":
        exact, convolution = _reflected_block(classifier, order, last, first_kernel)

    def copy(layer):
        if type(layer) not in COPIED:
            # The layer itself, in both models: it may hold a state, or have no configuration.
            return layer
        if isinstance(getattr(layer, "activation", None), layers.Layer):
            # It may have weights of its own.
            return layer
        if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
            # Its precision is what its weights were rounded to; its configuration does not hold all of LoRA's.
            return layer
        if isinstance(layer, layers.Dropout) and drops(layer) != bool(layer.rate):
            # Its rate has been changed, and a copy would have other variables.
            return layer
        try:
            copied = altered(layer, _config(layer))
        except (TypeError, ValueError):  # an initializer or another part that Keras does not know by name
            return layer
        if isinstance(getattr(layer, "activation", None), types.FunctionType):
            copied.activation = layer.activation
        if activation := activations.get(id(layer)):
            if hasattr(copied, "activation"):
                copied.activation = activation
            else:
                copied = layers.Activation(activation, name=copied.name, dtype=copied.dtype_policy)
        copies[id(layer)] = copied
        return copied

    def altered(layer, config):
        if layer is weighted[0] and not on_gpu and FastInputGradientConv2D.fits(layer):
            # The logits, which are the result where no other layer has weights, stay in float32.
            output_dtype = precision if first < last and not exact else "float32"
            return FastInputGradientConv2D.from_config({**config, "output_dtype": output_dtype})
        if exact and layer is exact[-1]:
            return convolution
        if any(layer is other for other in exact):
            return type(layer).from_config(config)
        # Dropout draws numbers of its own precision, which in bfloat16 makes 0.203 of a rate of 0.2.
        if precision == "bfloat16" and first < order[id(layer)] < last and not isinstance(layer, layers.Dropout):
            # Batch normalisation keeps its statistics in float32: steps of a moving average vanish in bfloat16.
            is_normalization = isinstance(layer, layers.BatchNormalization)
            config["dtype"] = "mixed_bfloat16" if is_normalization else "bfloat16"
            if packed and PackedDense.fits(layer):
                return PackedDense.from_config(config)
        return type(layer).from_config(config)

    clone = keras.models.clone_model(graph, clone_function=copy)
    full_precision.take_float32(clone)
    return clone, list(zip(clone.layers, graph.layers, strict=True))


def _graph(classifier):
    """The classifier's graph as a model of the same layers; None of one that was not called yet.

    Of the classifier itself Keras would copy losses, metrics and the optimizer as well, and fails where these are not
    its own. A subclass may have layers besides the graph's.
    """
    if isinstance(classifier, keras.Sequential):
        inputs = classifier.inputs if classifier.built else None
        return keras.Model(inputs[0], classifier.outputs[0], name=classifier.name) if inputs else None
    return keras.Model(classifier.input, classifier.output, name=classifier.name)


def _reflected_block(classifier, order, last, first_kernel):
    """The layers from the first convolution to the second and the copy of the second that reads parallel filters
    reflected; [] and None where there are no such filters, that convolution cannot be copied or is the last layer with
    weights, which is in float32 anyway, or the block computes in float64."""
    block = classifier_fronts.first_block(classifier)
    if not block or order[id(block[-1])] >= last:
        return [], None
    if any(layer.compute_dtype == "float64" for layer in block) or isinstance(block[-1].activation, keras.layers.Layer):
        return [], None
    with tf.init_scope():  # also while a graph is traced
        kernels = (keras.ops.convert_to_numpy(layer.kernel) for layer in (block[0], block[-1]))
        groups = parallel_groups(*(kernel.astype(np.float32) for kernel in kernels))
    if not groups:
        return [], None
    try:
        return block, ReflectedConv2D(**_config(block[-1]), parallel=groups, kernel_before=first_kernel)
    except (TypeError, ValueError):  # an initializer or another part that Keras does not know by name
        return [], None


def _config(layer):
    config = layer.get_config()
    if full_precision.rounds(layer):
        config["dtype"] = "float32"
    if isinstance(getattr(layer, "activation", None), types.FunctionType):
        # By its name Keras would find its own of that name, or none.
        config["activation"] = None
    return config


def drops(layer: keras.layers.Layer) -> bool:
    """Whether it is a dropout that draws numbers."""
    return type(layer) is keras.layers.Dropout and hasattr(layer, "seed_generator")


def draws_in_inference(classifier: keras.Model) -> bool:
    """Whether it draws random numbers in inference, which Keras's own layers do not, but others may make them do.

    Their graph tells. Of models of several inputs or of those without a graph it is not asked.
    """
    parts = classifier._flatten_layers()
    if all(type(part).__module__.startswith("keras.") and not isinstance(part, keras.layers.Lambda) for part in parts):
        return False
    images = classifier.inputs[0]

    def logits(x):
        with full_precision.in_float32(classifier):
            return classifier(x, training=False)

    try:
        operations = full_precision.operations(logits, tf.TensorSpec(images.shape, images.dtype))
    except Exception:  # whatever a layer raises: said by whoever calls it next
        return False
    return any(_DRAWS.search(operation.op) for operation in operations)


def is_bfloat16(layer: keras.layers.Layer) -> bool:
    """Whether anything that it computes is rounded."""
    dtypes = (layer.compute_dtype, getattr(layer, "output_dtype", None))
    return "bfloat16" in dtypes or isinstance(layer, ReflectedConv2D)
