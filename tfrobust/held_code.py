"""What functions and objects are made of: by it two of one name are told apart, and the same one is known again."""

import dataclasses
import functools
import hashlib
import types
from collections.abc import Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf

# Whose functions and objects are what their names and configurations say.
_LIBRARIES = {"keras", "numpy", "tensorflow"}


def held_code(value) -> Iterator[float | int | str | None]:
    """The code of functions, and all that these or other objects hold: numbers, texts, digests of arrays and of models'
    weights, and further functions and objects. Fields of dataclasses that do not compare are left out."""
    return _code(value, {})


def _code(value, seen):
    if value is None or isinstance(value, float | int | str):
        yield value
        return
    if isinstance(value, np.ndarray | np.generic | tf.Tensor | tf.Variable | keras.Variable):
        yield hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return
    if id(value) in seen:
        return
    # Kept, so that nothing else gets its id.
    seen[id(value)] = value
    for part in _parts(value):
        yield from _code(part, seen)


def _parts(value):
    """What makes up a value that is no number, text or array."""
    kind = type(value)
    if isinstance(value, types.CodeType):
        return [value.co_code.hex(), *value.co_names, *value.co_consts]
    if isinstance(value, types.FunctionType):
        if value.__module__.partition(".")[0] in _LIBRARIES:
            return [value.__module__, value.__qualname__]
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [value.__code__, *cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).items()]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.items()]
    if isinstance(value, Mapping):
        return [part for item in value.items() for part in item]
    if isinstance(value, list | tuple):
        return value
    if dataclasses.is_dataclass(kind):
        return [kind.__qualname__, *(getattr(value, f.name) for f in dataclasses.fields(value) if f.compare)]
    if isinstance(value, keras.Model):
        return value.get_weights()
    if hasattr(value, "python_function"):  # of a tf.function
        return [value.python_function]
    if kind.__module__.partition(".")[0] in _LIBRARIES:
        return [kind.__qualname__, value.get_config() if hasattr(value, "get_config") else None]
    if kind.__module__ == "builtins" or isinstance(value, type):
        return [getattr(value, "__qualname__", kind.__qualname__)]
    attributes = sorted(getattr(value, "__dict__", {}).items())
    return [kind.__qualname__, kind.__call__ if callable(value) else None, *attributes]
