"""Several models on a command line, with names."""

import pathlib

from absl import flags

from tfrobust import loading

MODELS = flags.DEFINE_list("models", None, "Models, separated by commas; name=path gives one a name of your own.")


def paths() -> dict[str, str]:
    """Paths of --models by name: what stands in front of "=", or else the last part of the path.

    Raises:
      ValueError: if two have the same name.
    """
    found = {}
    for argument in MODELS.value or ():
        name, _, path = argument.rpartition("=")
        name = name or pathlib.Path(path).with_suffix("").name
        if name in found:
            raise ValueError(f"models must have different names, got {name!r} twice: write name=path")
        found[name] = path
    return found


def load() -> dict:
    """The models by name.

    Raises:
      ValueError: as `paths`.
      tfrobust.loading.ModelLoadError: if one is missing or cannot be read.
    """
    return {name: loading.load_classifier(path) for name, path in paths().items()}
