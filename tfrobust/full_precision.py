"""Models of mixed or half precision computed in float32: in float16 small gradients are 0, and attacks look weak.

A layer computes in what its dtype policy says when it is called, and a model casts images to what its inputs say. Where
a copy of a layer with another policy can be made, see `twin_layers`, it is; elsewhere policies are exchanged for as
long as the model is called (in a graph, traced). Weights stay as they are stored. What layers cast by themselves stays
as it is, and so does a function that is no model: their precision can only be found out.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

LOWER = ("float16", "bfloat16")
_INPUT = (keras.KerasTensor, keras.layers.InputLayer)


class _ComputesInFloat32(keras.DTypePolicy):
    """Float32 for what is computed of variables that are stored as another policy says."""

    def __init__(self, variable_dtype: str):
        super().__init__("float32")
        self._stored = variable_dtype

    @property
    def variable_dtype(self) -> str:
        return self._stored


def rounds(layer: keras.layers.Layer) -> bool:
    """Whether a layer computes in half precision; one that is quantised has a precision of its own."""
    return (
        layer.compute_dtype in LOWER and not isinstance(layer, _INPUT) and not getattr(layer, "quantization_mode", None)
    )


@contextlib.contextmanager
def in_float32(model: keras.Model) -> Iterator[None]:
    """Within this context `model`, and models and layers in it, compute in float32 if they would in float16 or bfloat16
    otherwise. Threads, of replicas for example, may be in it together."""
    exchanged = []
    try:
        with _lock:
            for part in (*model._flatten_layers(), *_inputs(model)):
                if _exchange(part):
                    exchanged.append(part)
        yield
    finally:
        with _lock:
            for part in exchanged:
                _restore(part)


def take_float32(model: keras.Model) -> None:
    """Makes a copy of a model, whose layers are in float32, take images in float32, for good."""
    if rounds(model):
        model.dtype_policy = "float32"  # Keras has given it the global one
    for part in _inputs(model):
        if part.dtype in LOWER:
            part._dtype = "float32"


def lowest_precision(function: Callable[[tf.Tensor], tf.Tensor], images: np.ndarray) -> str:
    """The coarsest precision that a function of images [N, H, W, C] goes through: "float16" if anything is in it,
    "bfloat16" if sums of products are, or else "float32", also where TensorFlow does not see what is computed."""
    nodes = operations(function, tf.TensorSpec(images.shape, tf.float32))
    if any(node.attr[name].type == tf.float16.as_datatype_enum for node in nodes for name in ("T", "DstT")):
        return "float16"
    sums = [node for node in nodes if "Conv" in node.op or "MatMul" in node.op or node.op == "Einsum"]
    return "bfloat16" if any(node.attr["T"].type == tf.bfloat16.as_datatype_enum for node in sums) else "float32"


def operations(function: Callable[[tf.Tensor], tf.Tensor], images: tf.TensorSpec) -> list:
    """TensorFlow's operations in a function of images, as `NodeDef`, in the functions that it calls, too."""
    graph = tf.function(function, autograph=False).get_concrete_function(images).graph
    definition = graph.as_graph_def()
    return [*definition.node, *(node for part in definition.library.function for node in part.node_def)]


# What is exchanged at present, by its id: itself, what it had, and by how many.
_exchanged: dict[int, tuple[object, object, int]] = {}
_lock = threading.Lock()


def _exchange(part):
    """Exchanges the policy of a layer or the precision of an input, or counts that it is exchanged once more; whether
    it is."""
    if id(part) in _exchanged:
        _, earlier, count = _exchanged[id(part)]
        _exchanged[id(part)] = part, earlier, count + 1
        return True
    if isinstance(part, _INPUT):
        if part.dtype not in LOWER:
            return False
        earlier, part._dtype = part.dtype, "float32"
    elif rounds(part):
        earlier = _policy(part)
        part.dtype_policy = _ComputesInFloat32(earlier.variable_dtype)
    else:
        return False
    _exchanged[id(part)] = part, earlier, 1
    return True


def _restore(part):
    _, earlier, count = _exchanged.pop(id(part))
    if count > 1:
        _exchanged[id(part)] = part, earlier, count - 1
    elif isinstance(part, _INPUT):
        part._dtype = earlier
    else:
        part.dtype_policy = earlier


def _inputs(model):
    """The inputs of a model and of those in it: layers, of which `_flatten_layers` has some, and symbolic tensors. Both
    say what images are cast to, and Keras has no public way to change that."""
    models = [layer for layer in model._flatten_layers() if isinstance(layer, keras.Model)]
    tensors = [tensor for part in models for tensor in keras.tree.flatten(getattr(part, "inputs", None) or [])]
    tensors = [tensor for tensor in tensors if isinstance(tensor, keras.KerasTensor)]
    return [*tensors, *(layer for part in models for layer in part.layers if isinstance(layer, _INPUT))]


def _policy(layer):
    """The layer's own, where one object holds those of many."""
    policy = layer.dtype_policy
    return policy[layer.path] if isinstance(policy, keras.dtype_policies.DTypePolicyMap) else policy
