"""--config=config.json: configuration files of the MNIST and CIFAR10 challenges, as they are.

Each key becomes a flag in front of the command line's own, so that explicit flags win. Keys that a binary has no use
for are left out, as the original programs did. In CIFAR10's files pixels are 0 to 255; here they are 0 to 1.
"""

import difflib
import json
import pathlib
import sys

from absl import flags

_SHARED = (
    *("model_dir", "max_num_training_steps", "num_output_steps", "num_summary_steps", "num_checkpoint_steps"),
    *("training_batch_size", "num_eval_examples", "eval_batch_size", "eval_on_cpu", "epsilon", "random_start"),
    *("loss_func", "store_adv_path"),
)
# Keys by the flag that stands for them.
_MNIST = {"random_seed": "random_seed", "k": "k", "a": "a"}
_CIFAR10 = {
    "tf_random_seed": "random_seed",
    "num_steps": "k",
    "step_size": "a",
    "step_size_schedule": "step_size_schedule",
    "weight_decay": "weight_decay",
    "momentum": "momentum",
}
# Of CIFAR10's files, without a counterpart: data come from TensorFlow Datasets, and one seed is enough.
_UNUSED = ("data_path", "np_random_seed")
_IN_PIXELS = ("epsilon", "step_size")

CONFIG = flags.DEFINE_string(
    "config", None, "A config.json of the original challenges; flags of the command line win over it."
)


def expand(argv: list[str]) -> list[str]:
    """The command line, with the lines of its --flagfile in their place, and the flags of --config in front of all.

    Raises:
      OSError: if the file cannot be read.
      absl.flags.Error: if a flagfile cannot be.
      ValueError: if it is no JSON object, has an unknown key, or mixes keys of both challenges.
    """
    argv = flags.FLAGS.read_flags_from_files(argv, force_gnu=True)
    paths = [
        following if argument in ("--config", "-config") else argument.partition("=")[2]
        for argument, following in zip(argv, [*argv[1:], ""], strict=True)
        if argument in ("--config", "-config") or argument.startswith(("--config=", "-config="))
    ]
    return [argv[0], *(read(paths[-1]) if paths else ()), *argv[1:]]


def read(path: str) -> list[str]:
    """The flags, `--name=value`, that a config.json stands for in this binary; see `expand`."""
    try:
        # Keys may come twice, as `_comment` does: the last one counts, as in the original.
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"config must be a JSON file, got {path} ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"config must be a JSON object with the challenge's keys, got {type(content).__name__}")
    values = {key: value for key, value in content.items() if not key.startswith("_")}
    known = {**dict(zip(_SHARED, _SHARED, strict=True)), **_MNIST, **_CIFAR10, **dict.fromkeys(_UNUSED)}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.0)[0]
            raise ValueError(f"config {path} has the unknown key {key!r}: did you mean {near!r}?")
    mnist = sorted(values.keys() & _MNIST.keys())
    cifar10 = sorted(values.keys() & {*_CIFAR10, *_UNUSED})
    if mnist and cifar10:
        raise ValueError(f"config {path} mixes keys of MNIST ({', '.join(mnist)}) and CIFAR10 ({', '.join(cifar10)})")
    dataset = ["--dataset=mnist"] if mnist else ["--dataset=cifar10"] if cifar10 else []
    unused = [key for key in _UNUSED if key in values]
    if unused:
        print(f"{path}: {' and '.join(unused)} are not used here", file=sys.stderr)
    return dataset + [
        f"--{known[key]}={_text(key, value, bool(cifar10))}"
        for key, value in values.items()
        if known[key] in flags.FLAGS
    ]


def _text(key, value, is_cifar10):
    if isinstance(value, bool):
        return str(value).lower()
    if is_cifar10 and key in _IN_PIXELS and isinstance(value, (int, float)):
        return f"{value:g}/255"
    return value if isinstance(value, str) else json.dumps(value)
