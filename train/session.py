"""A training run from flags to robustness table."""

import pathlib
import signal
import sys

import keras
import tensorflow as tf

from eval import common as eval_common
from eval import output_files, tables
from tfrobust import batches, checkpoints, datasets, export, loading, reports
from tfrobust.attacks.base import describe
from train import common, optimizer_flags
from train.progress import Progress
from train.stopping import StopOnSignal
from train.summaries import Summaries, save_strip

FLAGS_FILE = "flags.txt"
MODEL_FILE = loading.KERAS_FILE
STRIP_EXAMPLES = 10


def run(build_classifier) -> None:
    """Trains the classifier that `build_classifier()` makes, as the flags say, and leaves in --model_dir:

    flags.txt, checkpoints, TensorBoard events, model.keras, saved_model/1, report.json, adversarial_examples.png;
    with --compare_undefended also undefended_report.json.
    """
    if not eval_common.MODEL_DIR.value:
        raise ValueError("model_dir must be given: --model_dir=FOLDER, where everything is written")
    if eval_common.STORE_ADV_PATH.value:
        output_files.check_adversarial_path(eval_common.STORE_ADV_PATH.value)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    threat = eval_common.threat_model()
    rows = eval_common.table(threat)  # raises where they are not for a closing table
    attack = common.training_attack(threat)
    name = eval_common.DATASET.value
    train = datasets.load(name, "train", data_dir=eval_common.DATA_DIR.value)
    test = eval_common.load_test_set()
    train = datasets.Arrays(*(part[common.HELD_OUT.value :] for part in train))
    if not len(train.labels):
        raise ValueError(f"held_out must leave some training examples, got {common.HELD_OUT.value}")

    model_dir = pathlib.Path(eval_common.MODEL_DIR.value)
    check_model_dir(model_dir)
    strategy = common.strategy()
    with strategy.scope():
        classifier = build_classifier()
        trainer = common.compiled_trainer(classifier, attack)
        model_dir.mkdir(parents=True, exist_ok=True)
        saved = checkpoints.TrainingCheckpoints(model_dir, trainer)
        start_step = restore(saved)
    with output_files.whole_file(str(model_dir / FLAGS_FILE)) as file:
        file.write(("\n".join(common.flag_lines()) + "\n").encode())
    checkpoints.save_architecture(model_dir, classifier)
    fit(trainer, train, saved, model_dir, start_step)

    export.save_keras(classifier, model_dir / MODEL_FILE)
    export.export_saved_model(classifier, model_dir / "saved_model" / "1")
    print(f"saved {model_dir}/{MODEL_FILE} and {model_dir}/saved_model/1")
    report = tables.print_robustness_table(classifier, test, threat, rows, str(model_dir))
    output_files.write_json(str(model_dir / "report.json"), output_files.report_content(report))
    if eval_common.STORE_ADV_PATH.value:
        output_files.write_adversarial_examples(eval_common.STORE_ADV_PATH.value, report, test.labels)
    picture = model_dir / "adversarial_examples.png"
    shown = slice(STRIP_EXAMPLES)
    titles = [f"{y} → {p}" if y != p else f"{y}" for y, p in zip(test.labels, report.predictions, strict=True)]
    with output_files.whole_file(str(picture)) as file:
        save_strip(file, test.images[shown], report.x_adv[shown], threat.epsilon, titles[shown])
    print(f"saved {picture}")
    if common.COMPARE_UNDEFENDED.value:
        with strategy.scope():
            twin = common.compiled_trainer(build_classifier(), None)
        total, size = common.MAX_STEPS.value, optimizer_flags.BATCH_SIZE.value
        print(f"\ntraining the undefended twin: {total} steps of {size} natural images", flush=True)
        twin.fit(training_batches(train, 0), callbacks=[progress(0)], verbose=0, shuffle=False)
        undefended = eval_common.evaluate(twin.classifier, test, rows)
        output_files.write_json(str(model_dir / "undefended_report.json"), output_files.report_content(undefended))
        print_side_by_side(report, undefended)


def check_model_dir(model_dir: pathlib.Path) -> None:
    """Refuses to continue a run in --model_dir with other flags, or from a checkpoint that is not there.

    Raises:
      ValueError: in either case; nothing has been written.
    """
    record = model_dir / FLAGS_FILE
    if record.is_file() and checkpoints.newest(model_dir):
        common.check_same_run(record.read_text(encoding="utf-8").splitlines())
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
        random_shift=common.RANDOM_SHIFT.value,
        random_flip=common.RANDOM_FLIP.value,
    )


def progress(start_step: int) -> Progress:
    """The progress display of a training run."""
    return Progress(
        total_steps=common.MAX_STEPS.value,
        start_step=start_step,
        every=common.OUTPUT_STEPS.value,
        batch_size=optimizer_flags.BATCH_SIZE.value,
    )


def fit(trainer, train: datasets.Arrays, saved, model_dir: pathlib.Path, start_step: int) -> None:
    """Trains from `start_step` to the end; leaves the program, after saving, on Ctrl-C and SIGTERM."""
    total = common.MAX_STEPS.value
    if start_step >= total:
        print(f"step {start_step} of {total}: training is complete")
        if trainer.optimizer.use_ema:
            trainer.optimizer.finalize_variable_values(trainer.trainable_variables)
        return
    stream = training_batches(train, start_step)
    stop = StopOnSignal()
    callbacks = [
        stop,
        Save(saved, every=common.CHECKPOINT_STEPS.value, total_steps=total),
        Summaries(
            model_dir,
            start_step=start_step,
            every=common.SUMMARY_STEPS.value,
            images_every=common.CHECKPOINT_STEPS.value,
            images=train.images[:STRIP_EXAMPLES],
            labels=train.labels[:STRIP_EXAMPLES],
        ),
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


def print_side_by_side(report: reports.Report, undefended: reports.Report) -> None:
    """The accuracies of both under each attack."""
    rows = [("natural", report.clean_accuracy, undefended.clean_accuracy)]
    rows += [(a.name, a.accuracy, b.accuracy) for a, b in zip(report.attacks, undefended.attacks, strict=True)]
    rows += [("worst case", report.robust_accuracy, undefended.robust_accuracy)]
    width = max(len(name) for name, _, _ in rows)
    print(f"\n{'accuracy':{width}}  {'robust':>9}  {'undefended':>10}")
    for name, robust, other in rows:
        print(f"{name:{width}}  {robust:>9.2%}  {other:>10.2%}")
