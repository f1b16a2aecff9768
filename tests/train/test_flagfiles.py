"""Every flagfile in train/flags: its own command, flags that the command's program has, values that they take."""

import pathlib
import re

import pytest
from absl import flags
from absl.testing import flagsaver

# Here, because what a test imports loses its flags with the test.
from eval import capacity
from train import cifar10, deep_defense, imagenet, mnist

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = {module.__name__: module for module in (capacity, cifar10, deep_defense, imagenet, mnist)}
FILES = sorted((ROOT / "train" / "flags").glob("*.flags"))


def names_in(path):
    """The flags that a file and those that it includes set."""
    for line in path.read_text().splitlines():
        if line.startswith("--flagfile="):
            yield from names_in(ROOT / line.partition("=")[2])
        elif line.startswith("--"):
            yield line[2:].partition("=")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@flagsaver.flagsaver
def test_flagfile(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    program = re.search(rf"python -m ((?:train|eval)\.\w+) --flagfile=train/flags/{path.name}", path.read_text()).group(
        1
    )
    known = {flag.name for flag in flags.FLAGS.get_key_flags_for_module(program)}
    known |= {f"no{name}" for name in known if flags.FLAGS[name].boolean}
    assert set(names_in(path)) <= known
    # absl's own errors for values that are out of range.
    flags.FLAGS([program, f"--flagfile=train/flags/{path.name}"])
    if PROGRAMS[program] is deep_defense:
        monkeypatch.setattr("eval.reference.check", lambda: None)
        deep_defense.DeepDefenseTask().check()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_says_what_to_expect(path):
    comment = " ".join(line.removeprefix("#") for line in path.read_text().splitlines() if line.startswith("#"))
    assert (
        "the run has not been made" in comment
        or "No GPU has been tried" in comment
        or ("Expected" in comment and re.search(r"time", comment))
    )
