"""A training run from flags to robustness table."""

import math
import pathlib
import signal
import sys

import keras
import numpy as np
import tensorflow as tf

from eval import common as eval_common
from eval import data_flags, output_files
from tfrobust import batches, checkpoints, datasets, export, loading
from tfrobust.attacks.base import describe
from tfrobust.trainers import AdversarialTrainer
from train import augmentation_flags, common, optimizer_flags
from train.progress import Progress, clock
from train.stopping import StopOnNonFinite, StopOnSignal, check_weights
from train.summaries import Summaries
from train.training_log import TrainingLog

FLAGS_FILE = "flags.txt"
MODEL_FILE = loading.KERAS_FILE
STRIP_EXAMPLES = 10


class Task:
    """What a run trains, and what it does with the result; the flags say the rest.

    Attributes:
      flags: names of flags that are recorded beside those of all runs.
    """

    flags: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises ValueError for flags that do not fit: called before anything is read or written."""

    def classifier(self, train: datasets.Arrays) -> keras.Model:
        """The network at step 0; called in the strategy's scope."""
        raise NotImplementedError

    def trainer(self, classifier: keras.Model, train: datasets.Arrays) -> AdversarialTrainer:
        """What trains it, compiled; called in the strategy's scope."""
        raise NotImplementedError

    def training_data(self, train: datasets.Arrays) -> datasets.Arrays:
        """The examples that batches are made of; asked for only if there are steps left."""
        return train

    def callbacks(self, test: datasets.Arrays, model_dir: pathlib.Path, start_step: int) -> list:
        """Callbacks beside those of every run."""
        return []

    def finish(self, classifier: keras.Model, train: datasets.Arrays, test: datasets.Arrays, model_dir, step) -> None:
        """Tells how good the classifier is that was trained for `step` steps, and which has been saved."""
        raise NotImplementedError


def run(task: Task) -> None:
    """Trains as the task and the flags say, and leaves in --model_dir:

    flags.txt, training.csv, the architecture, checkpoints, TensorBoard events, model.keras, saved_model/1, and what
    `task.finish` writes.
    """
    if not eval_common.MODEL_DIR.value:
        raise ValueError("model_dir must be given: --model_dir=FOLDER, where everything is written")
    allow_memory_growth()
    task.check()
    train = data_flags.load_training_set()
    test = data_flags.load_test_set()
    train = datasets.Arrays(*(part[common.HELD_OUT.value :] for part in train))
    if not len(train.labels):
        raise ValueError(f"held_out must leave some training examples, got {common.HELD_OUT.value}")
    common.resolve_epochs(len(train.labels))

    model_dir = pathlib.Path(eval_common.MODEL_DIR.value)
    check_model_dir(model_dir, task.flags)
    with common.strategy().scope():
        classifier = task.classifier(train)
        trainer = task.trainer(classifier, train)
        model_dir.mkdir(parents=True, exist_ok=True)
        saved = checkpoints.TrainingCheckpoints(model_dir, trainer)
        start_step = restore(saved)
    if start_step > common.MAX_STEPS.value:
        raise ValueError(
            f"max_num_training_steps must be at least {start_step}, which {model_dir} has made, got "
            f"{common.MAX_STEPS.value}; an earlier one is gone on from with --checkpoint"
        )
    with output_files.whole_file(str(model_dir / FLAGS_FILE)) as file:
        file.write(("\n".join(common.flag_lines(task.flags)) + "\n").encode())
    checkpoints.save_architecture(model_dir, classifier)
    fit(task, trainer, train, test, saved, model_dir, start_step)

    export.save_keras(classifier, model_dir / MODEL_FILE)
    export.export_saved_model(classifier, model_dir / "saved_model" / "1")
    print(f"saved {model_dir}/{MODEL_FILE} and {model_dir}/saved_model/1")
    task.finish(classifier, train, test, model_dir, max(start_step, common.MAX_STEPS.value))


def allow_memory_growth() -> None:
    """Lets other programs have what this one does not need of each GPU; called before the first tensor is made."""
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def check_model_dir(model_dir: pathlib.Path, more_flags: tuple[str, ...] = ()) -> None:
    """Refuses to continue a run in --model_dir with other flags, or from a checkpoint that is not there.

    Raises:
      ValueError: in either case; nothing has been written.
    """
    record = model_dir / FLAGS_FILE
    if record.is_file() and checkpoints.newest(model_dir):
        common.check_same_run(record.read_text(encoding="utf-8").splitlines(), more_flags)
    prefix = common.CHECKPOINT.value
    if prefix and not (pathlib.Path(f"{prefix}.index").is_file() and pathlib.Path(prefix).parent.samefile(model_dir)):
        raise ValueError(f"checkpoint must be one in {model_dir}, such as {model_dir}/checkpoint-300, got {prefix!r}")


def restore(saved: checkpoints.TrainingCheckpoints) -> int:
    """Goes to --checkpoint or the newest one and says so; returns the step."""
    try:
        step = saved.restore(common.CHECKPOINT.value)
    except checkpoints.CheckpointError as error:
        offer = f"; to go on from there: --checkpoint={error.previous}" if error.previous else ""
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


def training_batches(train: datasets.Arrays, start_step: int) -> tf.data.Dataset:
    """The batches of the flags from `start_step` to the end."""
    return batches.training_batches(
        train.images,
        train.labels,
        batch_size=optimizer_flags.BATCH_SIZE.value,
        seed=eval_common.SEED.value,
        start_step=start_step,
        num_steps=common.MAX_STEPS.value - start_step,
        drop_tail=common.DROP_TAIL.value,
        augmentation=augmentation_flags.augmentation(),
    )


def progress(start_step: int) -> Progress:
    """The progress display of a training run."""
    return Progress(
        total_steps=common.MAX_STEPS.value,
        start_step=start_step,
        every=common.OUTPUT_STEPS.value,
        batch_size=optimizer_flags.BATCH_SIZE.value,
    )


def fit(task: Task, trainer, train, test, saved, model_dir: pathlib.Path, start_step: int) -> None:
    """Trains from `start_step` to the end; leaves the program, after saving, on Ctrl-C and SIGTERM."""
    total = common.MAX_STEPS.value
    if start_step >= total:
        print(f"step {start_step} of {total}: training is complete")
        if trainer.optimizer.use_ema:
            trainer.optimizer.finalize_variable_values(trainer.trainable_variables)
        return
    examples = task.training_data(train)
    stream = training_batches(examples, start_step)
    stop = StopOnSignal()
    log = TrainingLog(model_dir, start_step=start_step, every=common.SUMMARY_STEPS.value)
    callbacks = [
        stop,
        StopOnNonFinite(saved),
        # Before what is saved, so that a run that was killed between them measures again.
        *task.callbacks(test, model_dir, start_step),
        Save(saved, every=common.CHECKPOINT_STEPS.value, total_steps=total),
        Summaries(
            model_dir,
            start_step=start_step,
            total_steps=total,
            every=common.SUMMARY_STEPS.value,
            images_every=common.CHECKPOINT_STEPS.value,
            images=np.asarray(examples.images[:STRIP_EXAMPLES]),
            labels=examples.labels[:STRIP_EXAMPLES],
        ),
        log,
        progress(start_step),
    ]
    # They tell of an earlier end of this run.
    for stale in (MODEL_FILE, "report.json"):
        (model_dir / stale).unlink(missing_ok=True)
    attack = describe(trainer.attack) if trainer.attack else "natural images"
    size, precision = optimizer_flags.BATCH_SIZE.value, trainer.twin.precision
    replicas = trainer.distribute_strategy.num_replicas_in_sync
    devices = f" on {replicas} replicas" if replicas > 1 else ""
    print(
        f"training {model_dir}: {total - start_step} steps of {size}{devices} in {precision} against {attack}",
        flush=True,
    )
    try:
        trainer.fit(stream, callbacks=callbacks, verbose=0, shuffle=False)
    except tf.errors.OpError:
        # Through tf.data comes only the text of what images on disk raised.
        unread = getattr(examples.images, "error", None)
        if unread:
            raise unread from None
        raise
    finally:
        stop.restore()
    if stop.received is not None:
        name = signal.Signals(stop.received).name
        without = " without --checkpoint" if common.CHECKPOINT.value else ""
        print(
            f"stopped by {name} at step {saved.step}, which is saved: the same command{without} goes on from there",
            file=sys.stderr,
        )
        sys.exit(128 + stop.received)
    if math.isfinite(log.seconds):
        print(f"trained {total} steps in {clock(log.seconds)} minutes")
