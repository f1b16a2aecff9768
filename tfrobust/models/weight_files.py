"""Files of arrays by name: read, and compared with what a network needs."""

import os
from collections.abc import Mapping

import numpy as np

# How many names a message lists.
_MOST_NAMES = 8


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name. Pickled objects are never loaded.

    Raises:
      ValueError: if it cannot be read, or is no .npz file.
    """
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.lib.npyio.NpzFile):
            with file:
                return {name: np.asarray(file[name]) for name in file.files}
    except Exception as error:  # damage shows as anything from zipfile.BadZipFile to NotImplementedError
        raise ValueError(f"{path} must be a .npz file of weights, it cannot be read ({error})") from error
    raise ValueError(f"{path} must be a .npz file of weights, it holds a single array {list(file.shape)}")


def check(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError unless `arrays`, read from `path`, are those of `shapes` and no other, of finite numbers."""
    known = {name: arrays[name] for name in shapes if name in arrays}
    faults = {
        "arrays missing: ": [f"{name} {list(shape)}" for name, shape in shapes.items() if name not in arrays],
        "unknown: ": [f"{name} {list(array.shape)}" for name, array in arrays.items() if name not in shapes],
        "of another shape: ": [
            f"{name} is {list(array.shape)}, should be {list(shapes[name])}"
            for name, array in known.items()
            if array.shape != tuple(shapes[name])
        ],
        "not finite numbers: ": [
            name for name, array in known.items() if array.dtype.kind not in "fiu" or not np.isfinite(array).all()
        ],
    }
    found = [words + _listed(names) for words, names in faults.items() if names]
    if found:
        raise ValueError(f"{path} does not hold this network's weights; {'; '.join(found)}")


def _listed(names):
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
