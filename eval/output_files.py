"""Files that binaries write."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping

import numpy as np
from absl import flags

from eval import data_flags, provenance
from tfrobust import attack_files, reports
from tfrobust.whole_files import whole_file

OUTPUT = flags.DEFINE_string(
    "output", None, "Where the result goes: a report in JSON, an exported model, or what the program says."
)


def report_content(report: reports.Report, red_flags=None) -> dict:
    """The report as plain dicts, with red flags, null where nobody has looked, and the flags, the command and the
    machine that made it."""
    modules = flags.FLAGS.flags_by_module_dict()
    values = {
        flag.name: flag.value
        for module in ("eval.common", "eval.data_flags", "eval.sources")
        for flag in modules[module]
    }
    signs = None if red_flags is None else [dataclasses.asdict(sign) for sign in red_flags]
    return {**report.as_json(), "red_flags": signs, "flags": values, **provenance.made_by()}


def write_json(path: str, content: dict) -> None:
    """`content` as indented JSON."""
    with whole_file(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def check_output_path(path: str) -> None:
    """Raises OSError unless a file can be written at `path`: asked before the work is done."""
    target = pathlib.Path(path).absolute()
    parent = next(folder for folder in target.parents if folder.exists())
    if target.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
        raise OSError(f"{path} cannot be written: it is a folder, or its folder is not writable")


def check_different(paths: Mapping[str, str | None]) -> None:
    """Raises ValueError if two of these flags, by name, are the same file; those that are not given are None."""
    by_file = {}
    for name, path in paths.items():
        if path:
            other = by_file.setdefault(pathlib.Path(path).resolve(), name)
            if other != name:
                raise ValueError(f"{other} and {name} must be different files, got {path} for both")


def write_adversarial_examples(path: str, report: reports.Report, labels: np.ndarray) -> None:
    """The report's x_adv: with labels and predictions as .npz, alone and in the challenge's format as .npy.

    Raises:
      ValueError: for another suffix.
    """
    check_adversarial_path(path)
    with whole_file(path) as file:
        if path.endswith(".npy"):
            attack_files.write(file, attack_file_format(), report.x_adv)
        else:
            np.savez_compressed(file, x_adv=report.x_adv, labels=labels, predictions=report.predictions)


def check_adversarial_path(path: str) -> None:
    """Raises ValueError unless `path` ends in .npz, or .npy for a challenge, and OSError unless it can be written."""
    if not path.endswith((".npz", ".npy")):
        raise ValueError(f"adversarial examples are saved as .npz or .npy, got {path!r}")
    if path.endswith(".npy"):
        attack_file_format()
    check_output_path(path)


def attack_file_format() -> attack_files.AttackFileFormat:
    """The challenge's format for --dataset; raises ValueError where there is none."""
    if data_flags.DATASET.value not in attack_files.FORMATS:
        raise ValueError(
            f"{data_flags.DATASET.value} is no challenge and has no format of attack files: eval.robust_accuracy and "
            "training save adversarial examples as .npz"
        )
    return attack_files.FORMATS[data_flags.DATASET.value]
