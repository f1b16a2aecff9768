"""Flags that a binary has from a shared module, and has no use for."""

from collections.abc import Iterable

from absl import flags


def refuse(names: Iterable[str], program: str) -> None:
    """Refuses flags that would do nothing.

    Args:
      program: what they are not for, and why.

    Raises:
      ValueError: if one is not at its default.
    """
    for name in names:
        if flags.FLAGS[name].value != flags.FLAGS[name].default:
            raise ValueError(f"{name} is not for {program}")
