"""Flags for pixel distances."""

import math

from absl import flags

# A flag belongs to the module that asks for it, not to this one.
flags.disclaim_key_flags()


class FractionParser(flags.ArgumentParser):
    """Numbers, also as fractions: 0.3 or 8/255."""

    syntactic_help = "a number or a fraction such as 8/255"

    def parse(self, argument):
        if isinstance(argument, (int, float)):
            return float(argument)
        try:
            numerator, _, denominator = argument.partition("/")
            value = float(numerator) / float(denominator or 1)
        except (ValueError, ZeroDivisionError):
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"must be {self.syntactic_help}, got {argument!r}")
        return value

    def flag_type(self):
        return "fraction"


def values(flag: flags.FlagHolder) -> list[float]:
    """The numbers of a list flag, each once, in order.

    Raises:
      ValueError: for what is no number.
    """
    parser = FractionParser()
    try:
        return sorted({parser.parse(text) for text in flag.value or ()})
    except ValueError as error:
        raise ValueError(f"{flag.name} {error}") from error


class _FractionSerializer(flags.ArgumentSerializer):
    def serialize(self, value):
        return repr(value)


def define_fraction(name: str, default: float | None, description: str, **arguments) -> flags.FlagHolder:
    """A flag for pixel distances, which are often written as n/255."""
    return flags.DEFINE(FractionParser(), name, default, description, serializer=_FractionSerializer(), **arguments)
