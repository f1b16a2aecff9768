"""How far an accuracy that was measured on some examples may be from that on all of their kind."""

import math
from typing import NamedTuple

from tfrobust.checks import require_integer

# Of the standard normal distribution, 97.5 %.
_Z95 = 1.959963984540054


class Interval(NamedTuple):
    """Fractions in [0, 1] with low <= high."""

    low: float
    high: float


def wilson_interval(successes: int, total: int, z: float = _Z95) -> Interval:
    """The interval of a probability of which `successes` out of `total` independent draws were seen.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference": all p that such a count is
    within `z` standard deviations of. Unlike the textbook's it is never empty and stays in [0, 1], at 0 and 100 % too.

    Args:
      z: deviations of the normal distribution; the default makes a 95 % interval.

    Raises:
      ValueError: for a total below 1, or successes out of range.
    """
    require_integer("total", total, 1)
    require_integer("successes", successes, 0, total)
    share, spread = successes / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    # Rounding may leave 0 or 1 by a hair.
    return Interval(max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share)))
