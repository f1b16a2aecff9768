"""Whether images are what a threat model takes them for: floating point numbers within its bounds.

Clipped to bounds [0, 1], grey levels of 255 become black and white pictures, on which attacks and training go on
without a word.
"""

import tensorflow as tf

_OUTSIDE = "images must be within"
# Of the width of the bounds: what rounding may do to pixels that were normalised or interpolated.
_ROUNDING = 1e-6


def require_pixels(images: tf.Tensor, bounds: tuple[float, float]) -> None:
    """Checks a batch [B, ...], in a graph whenever it runs.

    Raises:
      ValueError: unless the images are of a floating point type and, outside of a graph, within `bounds`.
      tf.errors.InvalidArgumentError: in a graph, for pixels that are not; `as_value_error` says the same in one line.
    """
    low, high = bounds
    if not images.dtype.is_floating:
        raise ValueError(
            f"images must be floating point numbers in {list(bounds)}, got {images.dtype.name}: "
            "grey levels are to be divided by 255"
        )
    slack = _ROUNDING * (high - low)
    # NaN is nowhere.
    is_within = tf.reduce_all((images >= low - slack) & (images <= high + slack))
    if tf.executing_eagerly():
        if not is_within:
            raise ValueError(_text(images, bounds).numpy().decode())
        return
    tf.debugging.Assert(is_within, [_text(images, bounds)])


def as_value_error(error: tf.errors.InvalidArgumentError) -> Exception:
    """What `require_pixels` had to say in a graph, as a ValueError; any other error as it is."""
    start = error.message.find(_OUTSIDE)
    return error if start < 0 else ValueError(error.message[start:].splitlines()[0].removesuffix("]"))


def _text(images, bounds):
    found = (tf.reduce_min(images), tf.reduce_max(images))
    return tf.strings.format(f"{_OUTSIDE} {list(bounds)}, got from {{}} to {{}}", found)
