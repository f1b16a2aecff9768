"""The flags of a run as lines of a file, and whether those of two starts make the same run."""

import contextlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags, logging

from eval import attack_flags, common, data_flags, sources
from tfrobust import image_folders, precision
from train import common as train_common
from train import optimizer_flags

ALIASES = (*attack_flags.ALIASES, "seed", "num_examples")
# They may differ between a run and its continuation.
_FREE = {
    *("model_dir", "max_num_training_steps", "num_output_steps", "num_summary_steps", "num_checkpoint_steps"),
    *(
        "model",
        "config",
        "num_eval_examples",
        "eval_batch_size",
        "eval_on_cpu",
        "store_adv_path",
        "suite",
        "attacks",
        "rows",
    ),
    *("compare_undefended", "data_dir", "distribution", "checkpoint", "epochs", *sources.FLAG_NAMES),
}


def flag_lines(more: Sequence[str] = (), *, changed_only: bool = False) -> list[str]:
    """The flags of this run as `--name=value`, for --flagfile: those of all runs, and those named `more`.

    With `changed_only` those at their default are left out, so that a flag of a later version makes no other run.
    """
    by_module = flags.FLAGS.flags_by_module_dict()
    shared = ("common", "data_flags", "sources", "attack_flags")
    own = ("common", "optimizer_flags", "augmentation_flags")
    modules = [*(f"eval.{name}" for name in shared), *(f"train.{name}" for name in own)]
    recorded = [flag for module in modules for flag in by_module[module]] + [flags.FLAGS[name] for name in more]
    # --checkpoint and --store_adv_path are about one start of the program, not about the run, and --config is the flags
    # that it stands for.
    # What `auto` is depends on the machine.
    left_out = (*ALIASES, "checkpoint", "store_adv_path", "config", common.PRECISION.name)
    recorded = [flag for flag in recorded if not (changed_only and flag.value == flag.default)]
    lines = [flag.serialize() for flag in recorded if flag.name not in left_out and flag.value is not None]
    return [*lines, f"--{common.PRECISION.name}={precision.resolve(common.PRECISION.value)}"]


@contextlib.contextmanager
def changed(values: Mapping[str, Any]):
    """The flags of another run, by name, while it is made."""
    before = {name: flags.FLAGS[name].value for name in values}
    try:
        for name, value in values.items():
            flags.FLAGS[name].value = value
        yield
    finally:
        for name, value in before.items():
            flags.FLAGS[name].value = value


def check_same_run(folder: pathlib.Path, recorded: list[str], more: Sequence[str] = ()) -> None:
    """Compares the flags of a run that is to be continued with the present ones.

    Args:
      folder: of the run.
      recorded: its flags.
      more: that of `flag_lines`.

    Raises:
      ValueError: if one differs that changes what is computed.
    """
    then, now = (_values(lines) for lines in (recorded, flag_lines(more)))
    changed = []
    free = set(_FREE)
    if data_flags.DATASET.value == image_folders.NAME:
        # Another folder is another set of images.
        free.discard("data_dir")
    for name in sorted({*then, *now} - free):
        # A flag that the recorded version did not have yet stands at its default, which is what there was before it.
        default = flags.FLAGS[name].default_as_str if name in flags.FLAGS else None
        default = _of_the_data().get(name, default)
        before, after = (values.get(name, (default or "unset").strip("'")) for values in (then, now))
        # Records of earlier versions did not say what it was.
        unknown = name == common.PRECISION.name and before == "auto"
        if before != after and not unknown:
            changed.append(f"--{name} was {before} and is {after}")
    if changed:
        raise ValueError(
            f"model_dir {folder} holds a run with other flags ({', '.join(changed)}): take another one or delete it"
        )
    if then.get("max_num_training_steps") != now.get("max_num_training_steps") and (
        train_common.EPSILON_WARMUP.value
        or optimizer_flags.RATE_WARMUP.value
        or optimizer_flags.RATE_DECAY.value
        or optimizer_flags.RATE_HALVING.value
    ):
        logging.warning("max_num_training_steps has changed, and with it the schedules of the run that is continued")


def _of_the_data():
    """The flags whose default depends on the data, as text."""
    values = common.CHALLENGE_ATTACKS[data_flags.DATASET.value]
    return {"epsilon": repr(values.epsilon), "k": str(values.steps), "a": repr(values.step_size)}


def _values(lines):
    """Flag lines as a dict from name to text; --noname stands for name=false."""
    values = {}
    for line in lines:
        name, equals, value = line.removeprefix("--").partition("=")
        if not line.startswith("--"):
            continue
        if equals:
            values[name] = value
        elif name in flags.FLAGS:
            values[name] = "true"
        else:
            values[name.removeprefix("no")] = "false"
    return values
