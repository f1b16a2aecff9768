"""Pictures of examples on a page: natural, adversarial, and what was changed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from eval import html_page
from eval.html_page import Html

# From this width on a picture needs no help to be seen.
_LARGE = 100


class Example(NamedTuple):
    """One example with the adversarial image that is shown of it.

    Attributes:
      index: its number in the test set, from 0 on.
      label, prediction: its class, and what the classifier takes the natural image for.
      x, x_adv: float32 [H, W, C] in [0, 1].
      adversarial_prediction: what the classifier takes x_adv for.
      words: what there is to say of it.
    """

    index: int
    label: int
    prediction: int
    x: np.ndarray
    x_adv: np.ndarray
    adversarial_prediction: int
    words: str


def gallery(examples: Sequence[Example], class_names: Sequence[str]) -> Html:
    """The examples beside each other, with classes by their names."""
    return html_page.element("div", *(_figure(example, class_names) for example in examples), class_="examples")


def png(image: np.ndarray) -> bytes:
    """An image [H, W, C] in [0, 1], of one channel or three, as PNG; rounded to 256 levels, never rescaled."""
    return tf.io.encode_png(np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)).numpy()


def amplified(x: np.ndarray, x_adv: np.ndarray) -> tuple[np.ndarray, float]:
    """The difference as an image in which grey is no change, and the largest change black or white; and its factor."""
    change = x_adv - x
    factor = 0.5 / max(float(np.abs(change).max()), 1e-6)
    return 0.5 + factor * change, factor


def _figure(example, class_names):
    label, natural, adversarial = (
        class_names[c] for c in (example.label, example.prediction, example.adversarial_prediction)
    )
    difference, factor = amplified(example.x, example.x_adv)
    name = f"image {example.index} of class {label}"
    changed = not np.array_equal(example.x, example.x_adv)
    pictures = (
        (example.x, f"natural {name}, predicted {natural}", f"natural: {natural}"),
        (example.x_adv, f"adversarial {name}, predicted {adversarial}", f"attacked: {adversarial}"),
        (
            difference,
            f"difference of the two, {factor:.2g} times amplified, grey is no change" if changed else "no difference",
            f"change, {factor:.2g} times" if changed else "no change",
        ),
    )
    cells = [html_page.element("div", _image(image, alt), html_page.paragraph(words)) for image, alt, words in pictures]
    caption = html_page.element("figcaption", f"Image {example.index}, class {label}. {example.words}")
    return html_page.element("figure", html_page.element("div", *cells, class_="images"), caption, class_="example")


def _image(image, alt):
    return html_page.image(png(image), alt, "photo" if image.shape[1] >= _LARGE else "pixels")
