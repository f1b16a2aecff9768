"""Imports TensorFlow as the binaries want it: with its fast kernels, and without its greetings, which would stand above
every table that a binary prints."""

import importlib
import os
import re
import sys
import tempfile

# Said by every TensorFlow on a machine without a GPU, or about the build; anything else is passed on.
_GREETINGS = re.compile(
    r"before absl::InitializeLog|oneDNN custom operations|Could not find cuda drivers|failed call to cuInit|"
    r"binary is optimized to use available CPU|To enable the following instructions|TF-TRT Warning"
)


def load() -> None:
    """Imports TensorFlow and lists its devices with the standard error stream held back, then passes on what matters.

    C++ libraries write to file descriptor 2 itself, out of reach of Python's sys.stderr and of log levels. Leaves the
    program with one line where TensorFlow is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # On a CPU without AVX-512 TensorFlow leaves oneDNN out, with which attacks are about twice as fast there too.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if sys.modules.get("tensorflow"):
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            importlib.import_module("tensorflow").config.list_physical_devices()
        except ModuleNotFoundError as error:
            if error.name != "tensorflow":
                raise
            sys.exit("error: TensorFlow is not installed here: activate the environment of the README's first line")
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            lines = held.read().decode(errors="replace").splitlines()
            for line in lines:
                if not _GREETINGS.search(line):
                    print(line, file=sys.stderr)
