"""What forward passes show: predictions no better than guesses, probabilities for logits, and randomness."""

import math

import numpy as np

from tfrobust.red_flags.flag import ATHALYE, CARLINI, CROCE, TRAMER, RedFlag

# Of the largest logit. Parallel sums in float32 that are added up in another order differ by about a hundredth of it.
ROUNDING = 1e-4
# Fewer examples tell no accuracy from guessing.
FEWEST_EXAMPLES = 20


def are_probabilities(outputs: np.ndarray) -> bool:
    """Whether rows [N, K] are non-negative and sum to 1, as after a softmax.

    Outputs of a log-softmax are none, and are fine: it subtracts one number from all logits of an image, which changes
    neither the loss nor any gradient, since cross-entropy, margin and DLR see only differences of logits.
    """
    return bool(outputs.min() >= 0 and np.abs(outputs.sum(axis=1) - 1).max() < 1e-3)


def probabilities(outputs: np.ndarray) -> list[RedFlag]:
    """A flag where the classifier's outputs [N, K] are probabilities, of all classes together or of each by itself."""
    if not are_probabilities(outputs):
        return _sigmoids(outputs)
    certain = int(np.sum(outputs.max(axis=1) == 1))
    return [
        RedFlag(
            "probabilities instead of logits",
            f"All outputs of {len(outputs)} images are non-negative and sum to 1; for {certain} images the largest is "
            "exactly 1 in float32.",
            "The last layer is a softmax, and the losses of attacks apply another one to it: gradients vanish where "
            "the first is saturated. Remove it, so that the classifier returns logits.",
            f"{CARLINI}; {CROCE}",
        )
    ]


def _sigmoids(outputs):
    low, high = float(outputs.min()), float(outputs.max())
    # Other outputs are as near to each other, in some networks, but hardly near to both ends as well.
    if len(outputs) < FEWEST_EXAMPLES or low < 0 or high > 1 or low > 0.1 or high < 0.9:
        return []
    return [
        RedFlag(
            "probabilities instead of logits",
            f"All outputs of {len(outputs)} images lie in [{low:.3g}, {high:.3g}].",
            "The last layer seems to be a sigmoid, whose gradients vanish where it is saturated, and the losses of "
            "attacks see differences of 1 at most. Remove it, so that the classifier returns logits.",
            f"{CARLINI}; {CROCE}",
        )
    ]


def randomness(first: np.ndarray, second: np.ndarray) -> list[RedFlag]:
    """A flag where two forward passes of the same images, [N, K] logits each, differ beyond rounding."""
    difference, size = np.abs(first - second).max(), np.abs(first).max()
    if difference <= ROUNDING * size:
        return []
    changed = int(np.sum(first.argmax(axis=1) != second.argmax(axis=1)))
    return [
        RedFlag(
            "randomised classifier",
            f"Two forward passes of the same {len(first)} images differ by up to {difference:.3g}, the largest logit "
            f"being {size:.3g}; the class of {changed} images changed.",
            "A layer draws random numbers at inference (noise, dropout, random resizing), so that a single gradient is "
            "noisy and a single prediction is luck. Attack the expected gradient (eot_samples of APGD), and judge each "
            "image by many predictions; comparisons of attacks below may be luck too.",
            f"{ATHALYE}; {TRAMER}",
        )
    ]


def guessing(outputs: np.ndarray, labels: np.ndarray) -> list[RedFlag]:
    """A flag where the classes of outputs [N, K] agree with labels [N] no more often than guesses would.

    N guesses among K classes are right N / K times, give or take two standard deviations.
    """
    count, classes = outputs.shape
    correct = int(np.sum(outputs.argmax(axis=1) == labels))
    expected, deviation = count / classes, math.sqrt(count * (classes - 1)) / classes
    if count < FEWEST_EXAMPLES or correct > expected + 2 * deviation:
        return []
    return [
        RedFlag(
            "natural accuracy no better than chance",
            f"{correct} of {count} natural images are classified correctly; guesses among {classes} classes would get "
            f"{expected:.3g}.",
            "The images are not what the classifier was trained on (another range of pixels, normalisation, order of "
            "channels or size), the labels number the classes in another order, or these are not its weights. Robust "
            "accuracy says nothing until natural accuracy is what it should be.",
            CARLINI,
        )
    ]
