"""Parameters of attacks as text: numbers, fractions such as 8/255, true and false, names of losses and targets."""

import difflib
import math
import types
import typing
from collections.abc import Iterable

from tfrobust import losses
from tfrobust.attacks.targets import ChooseTarget, least_likely, next_class, random_other, runner_up
from tfrobust.losses import LossFn

LOSSES: dict[str, LossFn] = {
    "cross_entropy": losses.cross_entropy,
    "margin": losses.margin,
    "dlr": losses.dlr,
    "cw": losses.CWMargin(kappa=0),
}
TARGETS: dict[str, ChooseTarget] = {
    "runner_up": runner_up,
    "least_likely": least_likely,
    "random": random_other,
    "next": next_class,
}


def read(text: str, annotation, what: str):
    """The value that `text` stands for.

    Args:
      annotation: its type: int, float, bool, LossFn, ChooseTarget, or one of these or None ("none").
      what: how an error calls it.

    Raises:
      ValueError: if it stands for no value of that type.
      TypeError: for another annotation.
    """
    kinds = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    if types.NoneType in kinds:
        if text == "none":
            return None
        kinds = [kind for kind in kinds if kind is not types.NoneType]
    if len(kinds) != 1 or kinds[0] not in _READERS:
        raise TypeError(f"{what} has a type that is not written as text: {annotation}")
    return _READERS[kinds[0]](text, what)


def require_known(name: str, names: Iterable[str], what: str) -> None:
    """Raises a ValueError that lists `names`, and the one that was probably meant, unless `name` is one of them."""
    names = list(names)
    if name in names:
        return
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise ValueError(f"{what} must be one of {', '.join(names)}, got {name!r}{hint}")


def _integer(text, what):
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{what} must be an integer, got {text!r}") from None


def _number(text, what):
    numerator, slash, denominator = text.partition("/")
    try:
        value = float(numerator) / (float(denominator) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{what} must be a number or a fraction such as 8/255, got {text!r}")
    return value


def _truth(text, what):
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{what} must be true or false, got {text!r}")
    return text.lower() == "true"


def _one_of(values):
    def choose(text, what):
        require_known(text, values, what)
        return values[text]

    return choose


_READERS = {int: _integer, float: _number, bool: _truth, LossFn: _one_of(LOSSES), ChooseTarget: _one_of(TARGETS)}
