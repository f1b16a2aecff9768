"""Several models on a command line, with names."""

import pathlib

from absl import flags

from eval import classifiers
from tfrobust import loading

MODELS = flags.DEFINE_list("models", None, "Models, separated by commas; name=path gives one a name of your own.")


def paths() -> dict[str, str]:
    """Paths of --models by name: what stands in front of "=", or else the last part of the path.

    Raises:
      ValueError: if two have the same name.
    """
    found = {}
    for argument in MODELS.value or ():
        name, equals, path = argument.partition("=")
        if not equals or "/" in name:
            # A path of its own, which may have a "=" in it.
            name, path = pathlib.Path(argument).stem, argument
        if not name or not path:
            raise ValueError(f"models must be paths or name=path, separated by commas, got {MODELS.value}")
        if name in found:
            raise ValueError(f"models must have different names, got {name!r} twice: write name=path")
        found[name] = path
    return found


def load() -> dict:
    """The models by name.

    Raises:
      ValueError: as `paths`, and for a model that has not --dataset's classes.
      tfrobust.loading.ModelLoadError: if one is missing or cannot be read.
    """
    return {name: classifiers.load(path) for name, path in paths().items()}


def fingerprints(models: dict) -> dict[str, str | None]:
    """`loading.fingerprint` by name."""
    return {name: loading.fingerprint(model) for name, model in models.items()}
