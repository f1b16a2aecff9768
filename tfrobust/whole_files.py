"""Files that are written whole or not at all."""

import contextlib
import os
import pathlib
import tempfile


@contextlib.contextmanager
def whole_file(path):
    """A binary file that takes the name `path` only when it is complete; its folder is made if need be.

    Raises:
      OSError: if it cannot be written, with `path` in its message; a file of that name is as it was.
    """
    target = pathlib.Path(path).absolute()
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            yield file
        # mkstemp makes files that only the owner may read.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException as error:
        if temporary is not None:
            pathlib.Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            state = "; the earlier one is intact" if target.is_file() else ""
            raise OSError(f"{path} cannot be written ({error.strerror or error}){state}") from error
        raise


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
