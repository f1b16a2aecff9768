"""What gradients at the clean images show: whether an attack that follows them can move at all."""

import numpy as np

from tfrobust import losses
from tfrobust.red_flags.flag import ATHALYE, CARLINI, CROCE, RedFlag
from tfrobust.red_flags.probe import Probe


def no_gradient() -> RedFlag:
    """The flag of a classifier that no gradient leads through."""
    return RedFlag(
        "no gradient",
        "No gradient leads from the loss to the pixels, so that no attack that needs one was tried.",
        "An operation cuts it (rounding, a cast to integers, argmax, stop_gradient, code outside of TensorFlow), or "
        "the outputs do not depend on the image. Give that operation a smooth stand-in in the backward pass (BPDA), "
        "and use attacks without gradients, such as Square or a transfer from another model.",
        f"{ATHALYE}; {CARLINI}",
    )


def gradients(probe: Probe, gaps: np.ndarray) -> list[RedFlag]:
    """Flags on gradients that are not finite, or exactly 0 for any example.

    An attack does not move where the gradient is 0, whatever its steps: there is no allowance, because zeros are not
    chance. The margin z_y - max z_k, which no softmax saturates, tells two causes apart: where its gradient is 0 too,
    the classifier is flat; where it is not, only the cross-entropy is. In float32 no lead of the label raises that
    flag: the cross-entropy of `losses` has a gradient whatever the logits.

    Args:
      gaps: float [N], by how much the label's logit leads the others at the clean images.

    Raises:
      NotDifferentiableError: if the classifier has no gradient.
    """
    entropy, margin = probe.slopes(losses.cross_entropy), probe.slopes(losses.margin)
    count, flags = len(gaps), []
    broken = int(np.sum(~(entropy.finite & margin.finite)))
    if broken:
        flags.append(
            RedFlag(
                "gradients that are not finite",
                f"The gradient has NaN or infinite entries for {broken} of {count} images.",
                "An operation with an infinite slope (sqrt or a norm at 0, a division, log of 0) or an overflow, after "
                "which an attack returns garbage that fools nothing. Guard that operation, or leave it out of the "
                "backward pass.",
                f"{ATHALYE}; {CARLINI}",
            )
        )
    flat = int(np.sum(entropy.zero & margin.zero))
    if flat:
        flags.append(
            RedFlag(
                "zero gradients",
                f"The gradients of cross-entropy and of the margin are exactly 0 for {flat} of {count} images.",
                "The classifier is flat there: a step function (sign, quantisation, a threshold), or a sigmoid, tanh "
                "or softmax that is saturated. Attacks that follow gradients stand still; replace that operation in "
                "the backward pass (BPDA), or use attacks without gradients, such as Square.",
                f"{ATHALYE}; {CARLINI}",
            )
        )
    saturated = entropy.zero & ~margin.zero
    if saturated.any():
        flags.append(
            RedFlag(
                "saturated cross-entropy",
                f"The gradient of cross-entropy is exactly 0 for {int(saturated.sum())} of {count} images, that of the "
                f"margin is not; the label's logit leads by {np.median(gaps[saturated]):.3g} there (median).",
                "The label leads by so much that the cross-entropy's gradient is 0 in a precision that it passes on "
                "its way, float16 for example. Compute in float32, or attack with the margin or the DLR loss.",
                f"{CROCE}; {CARLINI}",
            )
        )
    return flags
