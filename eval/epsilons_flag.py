"""Several radii of the ball on a command line."""

from absl import flags

from eval import fraction_flag

EPSILONS = flags.DEFINE_list("epsilons", None, "Radii of the ball, separated by commas: 0,0.1,0.2 or 0,2/255,4/255.")


def values() -> list[float]:
    """The radii in order.

    Raises:
      ValueError: for fewer than two, or for what is no number.
    """
    found = fraction_flag.values(EPSILONS)
    if len(found) < 2:
        raise ValueError(f"epsilons must be two or more: --epsilons=0,0.1,0.2, got {EPSILONS.value}")
    return found
