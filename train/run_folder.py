"""The folder of a training run, --model_dir: whose it is, and how far the run has come."""

import pathlib

import keras

from eval import output_files
from eval.training_record import FLAGS_FILE
from tfrobust import checkpoints
from train import common, recorded_flags
from train.stopping import check_weights


def check(model_dir: pathlib.Path, more_flags: tuple[str, ...] = ()) -> None:
    """Refuses to continue a run in --model_dir with other flags, or from a checkpoint that is not there.

    Raises:
      ValueError: in either case; nothing has been written.
    """
    record = model_dir / FLAGS_FILE
    if record.is_file() and checkpoints.newest(model_dir):
        recorded_flags.check_same_run(model_dir, record.read_text(encoding="utf-8").splitlines(), more_flags)
    prefix = common.CHECKPOINT.value
    there = model_dir.exists() and pathlib.Path(f"{prefix}.index").is_file()
    if prefix and not (there and pathlib.Path(prefix).parent.samefile(model_dir)):
        raise ValueError(f"checkpoint must be one in {model_dir}, such as {model_dir}/checkpoint-300, got {prefix!r}")


def record_flags(model_dir: pathlib.Path, more_flags: tuple[str, ...] = ()) -> None:
    """Writes flags.txt, with which `check` compares, and which --flagfile repeats."""
    with output_files.whole_file(str(model_dir / FLAGS_FILE)) as file:
        file.write(("\n".join(recorded_flags.flag_lines(more_flags)) + "\n").encode())


def restore(saved: checkpoints.TrainingCheckpoints, more_arguments: str = "") -> int:
    """Goes to --checkpoint or the newest one and says so; returns the step.

    Raises:
      CheckpointError: if it cannot be read; it offers the one before, `more_arguments` in front.
    """
    try:
        step = saved.restore(common.CHECKPOINT.value)
    except checkpoints.CheckpointError as error:
        offer = f"; to go on from there: {more_arguments}--checkpoint={error.previous}" if error.previous else ""
        raise checkpoints.CheckpointError(f"{error}{offer}", error.path, error.previous) from error
    if step:
        print(f"resumed at step {step}")
    return step


class Save(keras.callbacks.Callback):
    """Saves a checkpoint every so many steps, at the end, and when training stops."""

    def __init__(self, saved: checkpoints.TrainingCheckpoints, *, every: int, total_steps: int):
        super().__init__()
        self._saved, self._every, self._total = saved, every, total_steps

    def on_train_batch_end(self, batch, logs=None):
        """Saves where it is due; `stop_training` has been set by a callback before this one."""
        step = self._saved.step
        if step % self._every == 0 or step >= self._total or self.model.stop_training:
            check_weights(self.model.classifier, step)
            self._saved.save()
