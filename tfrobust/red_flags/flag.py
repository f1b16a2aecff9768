"""What a red flag is, and when a difference between two attacks is more than chance."""

import dataclasses
import math

ATHALYE = "Athalye et al. 2018, section 3.1"
CARLINI = "Carlini et al. 2019, On Evaluating Adversarial Robustness"
CROCE = "Croce and Hein 2020, section 4"
TRAMER = "Tramer et al. 2020"


@dataclasses.dataclass(frozen=True)
class RedFlag:
    """One sign that a robust accuracy is not to be trusted; `str` of it is the whole text on one line.

    Attributes:
      name: what is wrong, in a few words.
      observation: what was seen, with its numbers; a sentence.
      likely_cause: why that happens as a rule, and what to do about it; sentences.
      source: the papers that ask for this check.
    """

    name: str
    observation: str
    likely_cause: str
    source: str

    def __str__(self) -> str:
        return f"{self.name}: {self.observation} {self.likely_cause} ({self.source})"


def beyond_chance(difference: float, discordant: float) -> bool:
    """Whether one attack fools more examples than another by more than chance would let it.

    Only the examples that one of two attacks fools and the other does not, b and c of them, tell the attacks apart.
    Were both equally strong, each of these would fall to either with probability 1/2, and b - c would have the standard
    deviation sqrt(b + c) (McNemar 1947). The allowance is two of them, 2 sqrt(b + c): where c is 0 it takes b = 5, so
    that a handful of examples raises no flag.

    Args:
      difference: b - c.
      discordant: b + c, or an upper bound of it.
    """
    return difference > 2 * math.sqrt(discordant)
