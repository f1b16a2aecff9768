"""The sources of black-box rows: models that attacks are made on, to be tried on another."""

from absl import flags

from eval import classifiers
from tfrobust import madry_tables, suites

_FLAGS = {
    madry_tables.A_PRIME: flags.DEFINE_string(
        "source_aprime", None, "Source A' of the black-box rows: the same architecture and training, another seed."
    ),
    madry_tables.A_NATURAL: flags.DEFINE_string(
        "source_anat", None, "Source A_nat: the same architecture, trained on natural images."
    ),
    madry_tables.B: flags.DEFINE_string(
        "source_b", None, "Source B: another architecture; for MNIST the paper's is --architecture=tramer_b."
    ),
}
FLAG_NAMES = tuple(flag.name for flag in _FLAGS.values())


def paths() -> dict[str, str]:
    """The given sources' paths by their names in the tables."""
    return {name: flag.value for name, flag in _FLAGS.items() if flag.value}


def load() -> dict:
    """The given sources, loaded.

    Raises:
      ValueError: for one that is not for the images of --dataset.
      tfrobust.loading.ModelLoadError: if one is missing or cannot be read.
    """
    return {name: classifiers.load(path) for name, path in paths().items()}


def refuse() -> None:
    """Refuses sources for a table without black-box rows.

    Raises:
      ValueError: if any is given.
    """
    if paths():
        raise ValueError(f"sources of black-box rows are for --suite={' or '.join(sorted(suites.WITH_SOURCES))}")


def missing() -> list[str]:
    """The flags of the sources that are not given."""
    return [f"--{flag.name}" for flag in _FLAGS.values() if not flag.value]
