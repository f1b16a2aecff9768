"""The flag for gradients that look beyond thresholds."""

from absl import flags

RELU_WINDOW = flags.DEFINE_float(
    "relu_window",
    0.0,
    "How far, in pixel units, the attacks' gradients look beyond the thresholds of the first ReLU, a random part of it "
    "for each image and step; try 2 * --epsilon where the first filters are thresholds, as in robust MNIST networks, "
    "or where Square fools what gradients do not.",
    lower_bound=0.0,
)
