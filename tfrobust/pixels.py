"""Whether images are what a threat model takes them for: floating point numbers within its bounds.

Clipped to bounds [0, 1], grey levels of 255 become black and white pictures, on which attacks and training go on
without a word.
"""

import re

import tensorflow as tf

_MESSAGE = re.compile(r"\[((?:images|labels) must be .*?)\] \[(.*?)\] \[to\] \[(.*?)\]")


def rounding(dtype: str, bounds: tuple[float, float]) -> float:
    """How far pixels of a type of this name may be out of bounds because they were normalised or interpolated."""
    relative = {"float16": 2.0**-8, "bfloat16": 2.0**-5}.get(dtype, 1e-5)
    return relative * max(bounds[1] - bounds[0], *map(abs, bounds))


def require_pixels(images: tf.Tensor, bounds: tuple[float, float]) -> None:
    """Checks a batch [B, ...], in a graph whenever it runs, but for one that XLA compiles, which asserts nothing.

    Raises:
      ValueError: unless the images are of a floating point type and, outside of a graph, within `bounds` but for
        `rounding`.
      tf.errors.InvalidArgumentError: in a graph, for pixels that are not; `as_value_error` says the same in one line.
    """
    low, high = bounds
    if not images.dtype.is_floating:
        raise ValueError(
            f"images must be floating point numbers in {list(bounds)}, got {images.dtype.name}: "
            "grey levels are to be divided by 255"
        )
    slack = rounding(images.dtype.name, bounds)
    require_within(images, low - slack, high + slack, f"images must be within {list(bounds)}, got from")


def require_within(values: tf.Tensor, low: float, high: float, text: str) -> tf.Operation | None:
    """Checks a batch of numbers to be from `low` to `high`; errors begin with `text`, as those of `require_pixels`.
    In a graph it returns what checks."""
    lowest, highest = tf.reduce_min(values), tf.reduce_max(values)
    # NaN is nowhere.
    is_within = (lowest >= low) & (highest <= high)
    if tf.executing_eagerly():
        if not is_within:
            raise ValueError(f"{text} {float(lowest):g} to {float(highest):g}")
        return None
    return tf.debugging.Assert(is_within, [text, lowest, "to", highest])


def as_value_error(error: tf.errors.InvalidArgumentError) -> Exception:
    """What `require_within` had to say in a graph, as a ValueError; any other error as it is."""
    found = _MESSAGE.search(error.message)
    return ValueError("{} {} to {}".format(*found.groups())) if found else error
