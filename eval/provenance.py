"""What made a number: the command and the machine."""

import os
import pathlib
import platform
import shlex
import sys

import keras
import tensorflow as tf


def made_by() -> dict[str, str]:
    """What every file of results says of its making."""
    return {"command": command(), "machine": machine()}


def command() -> str:
    """The command line of this process, as one would type it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = f"python -m {spec.name}" if spec and spec.name else f"python {sys.argv[0]}"
    return " ".join([program, *map(shlex.quote, sys.argv[1:])])


def machine() -> str:
    """Processor, the cores that this process may use, GPUs, and versions."""
    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    parts = [f"{_cores()} cores of {_processor()}"]
    parts += [gpu.get("device_name", "a GPU") for gpu in gpus] or ["no GPU"]
    parts += [f"TensorFlow {tf.__version__}", f"Keras {keras.__version__}", f"Python {platform.python_version()}"]
    return ", ".join(parts)


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
