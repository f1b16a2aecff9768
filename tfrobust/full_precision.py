"""Models of mixed or half precision computed in float32: in float16 small gradients are 0, and attacks look weak.

A layer computes in what its dtype policy says when it is called. Where a copy with another policy can be made, see
`twin_layers`, it is; elsewhere the policies are exchanged for as long as the model is called (in a graph, traced).
Weights stay as they are stored. Of a function that is no model, a SavedModel for example, the precision can only be
found out.
"""

import contextlib
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

LOWER = ("float16", "bfloat16")


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
    return layer.compute_dtype in LOWER and not getattr(layer, "quantization_mode", None)


@contextlib.contextmanager
def in_float32(model: keras.Model) -> Iterator[None]:
    """Within this context the layers of `model`, and of models and layers in it, compute in float32 if they would in
    float16 or bfloat16 otherwise."""
    policies = [(layer, _policy(layer)) for layer in model._flatten_layers() if rounds(layer)]
    try:
        for layer, policy in policies:
            layer.dtype_policy = _ComputesInFloat32(policy.variable_dtype)
        yield
    finally:
        for layer, policy in policies:
            layer.dtype_policy = policy


def _policy(layer):
    """The layer's own, where one object holds those of many."""
    policy = layer.dtype_policy
    return policy[layer.path] if isinstance(policy, keras.dtype_policies.DTypePolicyMap) else policy


def lowest_precision(function: Callable[[tf.Tensor], tf.Tensor], images: np.ndarray) -> str:
    """The coarsest of "float32", "bfloat16" and "float16" that a function of images [N, H, W, C] computes sums of
    products in, or "float32" where all of them are finer or TensorFlow sees none."""
    graph = tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec(images.shape, tf.float32)).graph
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(node for part in definition.library.function for node in part.node_def)]
    found = {node.attr["T"].type for node in nodes if "Conv" in node.op or "MatMul" in node.op or node.op == "Einsum"}
    return next((dtype for dtype in LOWER if tf.as_dtype(dtype).as_datatype_enum in found), "float32")
