"""A training run from flags to robustness table."""

import dataclasses
import math
import pathlib
import signal
import sys

import keras
import numpy as np
import tensorflow as tf

from eval import common as eval_common
from eval import data_flags
from tfrobust import batches, checkpoints, datasets, export, image_folders, loading
from tfrobust.attacks.base import describe
from tfrobust.trainers import AdversarialTrainer
from train import augmentation_flags, common, optimizer_flags, run_folder
from train.averages import Averages
from train.progress import Progress, clock
from train.stopping import StopOnNonFinite, StopOnSignal
from train.summaries import Summaries
from train.training_log import TrainingLog

MODEL_FILE = loading.KERAS_FILE
STRIP_EXAMPLES = 10


@dataclasses.dataclass(frozen=True)
class Finished:
    """A run that is at its end.

    Attributes:
      model_dir: its folder.
      step: the step that it has reached.
      seconds: how long training took, stops left out; None if nobody knows.
    """

    model_dir: pathlib.Path
    step: int
    seconds: float | None

    def as_json(self) -> dict:
        """What reports say of it."""
        return {"steps": self.step, "training_seconds": self.seconds and round(self.seconds, 1)}


class Task:
    """What a run trains, and what it does with the result; the flags say the rest.

    Attributes:
      flags: names of flags that are recorded beside those of all runs.
      started_by: the arguments of a command that makes this run, if the present one makes another one too.
    """

    flags: tuple[str, ...] = ()
    started_by = ""

    def check(self) -> None:
        """Raises ValueError for flags that do not fit: called before anything is read or written."""

    def check_folder(self, model_dir: pathlib.Path) -> None:
        """Raises ValueError for what is in the folder and does not fit; called before anything is written."""

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

    def finish(self, classifier: keras.Model, train: datasets.Arrays, test: datasets.Arrays, run: Finished) -> None:
        """Tells how good the classifier is that was trained, and which has been saved."""
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
    train = load_training_set()
    test = data_flags.load_test_set()
    common.resolve_epochs(len(train.labels))
    run_on(task, train, test)


def load_training_set() -> datasets.Arrays:
    """The training set without what is held out.

    Raises:
      ValueError: if nothing is left, or for batches that cannot be made of it.
    """
    train = datasets.Arrays(*(part[common.HELD_OUT.value :] for part in data_flags.load_training_set()))
    if not len(train.labels):
        raise ValueError(f"held_out must leave some training examples, got {common.HELD_OUT.value}")
    if common.DROP_TAIL.value and optimizer_flags.BATCH_SIZE.value > len(train.labels):
        raise ValueError(
            f"training_batch_size must be at most the {len(train.labels)} examples with drop_tail, got "
            f"{optimizer_flags.BATCH_SIZE.value}"
        )
    augmentation_flags.augmentation().require_fits(train.images.shape[1:3])
    return train


def run_on(task: Task, train: datasets.Arrays, test: datasets.Arrays) -> None:
    """`run`, of a task that is checked and on examples that are there."""
    model_dir = pathlib.Path(eval_common.MODEL_DIR.value)
    run_folder.check(model_dir, task.flags)
    task.check_folder(model_dir)
    with common.strategy().scope():
        classifier = task.classifier(train)
        trainer = task.trainer(classifier, train)
        model_dir.mkdir(parents=True, exist_ok=True)
        saved = checkpoints.TrainingCheckpoints(model_dir, trainer)
        start_step = run_folder.restore(saved, task.started_by)
    if start_step > common.MAX_STEPS.value:
        raise ValueError(
            f"max_num_training_steps must be at least {start_step}, which {model_dir} has made, got "
            f"{common.MAX_STEPS.value}; an earlier one is gone on from with --checkpoint"
        )
    run_folder.record_flags(model_dir, task.flags)
    checkpoints.save_architecture(model_dir, classifier)
    done = fit(task, trainer, train, test, saved, model_dir, start_step)
    export.save_keras(classifier, model_dir / MODEL_FILE)
    serve_fit = "crop" if data_flags.DATASET.value == image_folders.NAME else "squash"
    export.export_saved_model(classifier, model_dir / "saved_model" / "1", fit=serve_fit)
    print(f"saved {model_dir}/{MODEL_FILE} and {model_dir}/saved_model/1")
    task.finish(classifier, train, test, done)


def allow_memory_growth() -> None:
    """Lets other programs have what this one does not need of each GPU; called before the first tensor is made."""
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


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


def fit(task: Task, trainer, train, test, saved, model_dir: pathlib.Path, start_step: int) -> Finished:
    """Trains from `start_step` to the end, unless it has been reached; writes all but the model and the report.

    Leaves the program, after saving, on Ctrl-C and SIGTERM.
    """
    total = common.MAX_STEPS.value
    output_steps, summary_steps = common.OUTPUT_STEPS.value, common.SUMMARY_STEPS.value
    averages = Averages(start_step=start_step, total_steps=total, every=(output_steps, summary_steps))
    log = TrainingLog(model_dir, start_step=start_step, total_steps=total, every=summary_steps, averages=averages)
    if start_step >= total:
        print(f"step {start_step} of {total}: training is complete")
        if trainer.optimizer.use_ema:
            trainer.optimizer.finalize_variable_values(trainer.trainable_variables)
        return _finished(model_dir, start_step, log)
    examples = task.training_data(train)
    stream = training_batches(examples, start_step)
    stop = StopOnSignal()
    callbacks = [
        stop,
        StopOnNonFinite(saved),
        # Before what is saved, so that a run that was killed between them measures again.
        *task.callbacks(test, model_dir, start_step),
        run_folder.Save(saved, every=common.CHECKPOINT_STEPS.value, total_steps=total),
        averages,
        Summaries(
            model_dir,
            start_step=start_step,
            total_steps=total,
            every=summary_steps,
            images_every=common.CHECKPOINT_STEPS.value,
            images=np.asarray(examples.images[:STRIP_EXAMPLES]),
            labels=examples.labels[:STRIP_EXAMPLES],
            averages=averages,
        ),
        log,
        Progress(
            total_steps=total,
            start_step=start_step,
            every=output_steps,
            batch_size=optimizer_flags.BATCH_SIZE.value,
            averages=averages,
        ),
    ]
    # They tell of an earlier end of this run.
    for stale in (MODEL_FILE, "report.json"):
        (model_dir / stale).unlink(missing_ok=True)
    attack = describe(trainer.attack) if trainer.attack else "natural images"
    if trainer.attack and common.RELU_WINDOW_SHARE.value:
        attack += f", {common.RELU_WINDOW_SHARE.value:.0%} of them through windows as wide as each step"
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
        same = f"the same command{_other_checkpoint(saved, model_dir)}"
        print(f"stopped by {name} at step {saved.step}, which is saved: {same} goes on from there", file=sys.stderr)
        sys.exit(128 + stop.received)
    done = _finished(model_dir, total, log)
    if done.seconds is not None:
        print(f"trained {total} steps in {clock(done.seconds)} minutes")
    return done


def _other_checkpoint(saved, model_dir):
    """What the command of this run needs, or must lose, to go on from what it has saved, the newest in most cases."""
    newest = checkpoints.newest(model_dir)
    if checkpoints.step_of(newest) != saved.step:
        return f" with --checkpoint={model_dir / checkpoints.NAME}-{saved.step}"
    return " without --checkpoint" if common.CHECKPOINT.present else ""


def _finished(model_dir, step, log):
    seconds = log.seconds
    return Finished(model_dir, step, seconds if math.isfinite(seconds) else None)
