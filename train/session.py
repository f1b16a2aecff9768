"""A training run from flags to robustness table."""

import contextlib
import pathlib
import signal
import sys

import keras
import tensorflow as tf

from eval import common as eval_common
from tfrobust import checkpoints, datasets, export
from tfrobust.attacks.base import describe
from train import common
from train.progress import Progress
from train.stopping import StopOnSignal
from train.summaries import Summaries, save_strip

FLAGS_FILE = "flags.txt"
STRIP_EXAMPLES = 10


def run(build_classifier) -> None:
    """Trains the classifier that `build_classifier()` makes, as the flags say, and leaves in --model_dir:

    flags.txt, checkpoints, TensorBoard events, model.keras, saved_model/1, report.json, adversarial_examples.png.
    """
    if common.STORE_ADV_PATH.value:
        eval_common.check_adversarial_path(common.STORE_ADV_PATH.value)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    threat = eval_common.threat_model()
    attack = common.training_attack()
    name = eval_common.DATASET.value
    train = datasets.load(name, "train", data_dir=eval_common.DATA_DIR.value)
    test = eval_common.load_test_set()
    train = datasets.Arrays(*(part[common.HELD_OUT.value :] for part in train))
    if not len(train.labels):
        raise ValueError(f"held_out must leave some training examples, got {common.HELD_OUT.value}")

    strategy = common.strategy()
    with strategy.scope():
        classifier = build_classifier()
        trainer = common.compiled_trainer(classifier, attack)
        model_dir = pathlib.Path(common.MODEL_DIR.value)
        prepare_model_dir(model_dir, classifier)
        saved = checkpoints.TrainingCheckpoints(model_dir, trainer)
        start_step = restore(saved)
    fit(trainer, train, saved, model_dir, start_step)

    export.save_keras(classifier, model_dir / "model.keras")
    export.export_saved_model(classifier, model_dir / "saved_model" / "1")
    print(f"saved {model_dir}/model.keras and {model_dir}/saved_model/1")
    with tf.device("/CPU:0") if common.EVAL_ON_CPU.value else contextlib.nullcontext():
        report = eval_common.print_robustness_table(classifier, test, threat, str(model_dir))
        eval_common.write_json(str(model_dir / "report.json"), report.as_json())
        if common.STORE_ADV_PATH.value:
            eval_common.write_adversarial_examples(common.STORE_ADV_PATH.value, report, test.labels)
        shown = slice(STRIP_EXAMPLES)
        titles = [f"{y} → {p}" if y != p else f"{y}" for y, p in zip(test.labels, report.predictions, strict=True)]
        picture = model_dir / "adversarial_examples.png"
        save_strip(picture, test.images[shown], report.x_adv[shown], threat.epsilon, titles[shown])
        print(f"saved {picture}")
        if common.COMPARE_UNDEFENDED.value:
            compare_with_undefended(build_classifier, train, test, threat, report)


def prepare_model_dir(model_dir: pathlib.Path, classifier: keras.Model) -> None:
    """Makes the folder, or checks that the run in it has the same flags; records flags and architecture."""
    record = model_dir / FLAGS_FILE
    if record.is_file():
        common.check_same_run(record.read_text(encoding="utf-8").splitlines())
    model_dir.mkdir(parents=True, exist_ok=True)
    with eval_common.whole_file(str(record)) as file:
        file.write(("\n".join(common.flag_lines()) + "\n").encode())
    checkpoints.save_architecture(model_dir, classifier)


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
    return datasets.training_batches(
        train.images,
        train.labels,
        batch_size=common.BATCH_SIZE.value,
        seed=eval_common.SEED.value,
        start_step=start_step,
        num_steps=common.MAX_STEPS.value - start_step,
        random_shift=common.RANDOM_SHIFT.value,
    )


def fit(trainer, train: datasets.Arrays, saved, model_dir: pathlib.Path, start_step: int) -> None:
    """Trains from `start_step` to the end; leaves the program, after saving, on Ctrl-C and SIGTERM."""
    total = common.MAX_STEPS.value
    if start_step >= total:
        print(f"step {start_step} of {total}: training is complete")
        if trainer.optimizer.use_ema:
            trainer.optimizer.finalize_variable_values(trainer.trainable_variables)
        return
    batches = training_batches(train, start_step)
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
        Progress(
            total_steps=total,
            start_step=start_step,
            every=common.OUTPUT_STEPS.value,
            batch_size=common.BATCH_SIZE.value,
        ),
    ]
    attack = describe(trainer.attack) if trainer.attack else "natural images"
    size, precision = common.BATCH_SIZE.value, trainer.twin.precision
    replicas = trainer.distribute_strategy.num_replicas_in_sync
    devices = f" on {replicas} replicas" if replicas > 1 else ""
    print(
        f"training {model_dir}: {total - start_step} steps of {size}{devices} in {precision} against {attack}",
        flush=True,
    )
    try:
        trainer.fit(batches, callbacks=callbacks, verbose=0, shuffle=False)
    finally:
        stop.restore()
    if stop.received is not None:
        name = signal.Signals(stop.received).name
        print(
            f"stopped by {name} at step {saved.step}, which is saved: the same command goes on from there",
            file=sys.stderr,
        )
        sys.exit(128 + stop.received)


def compare_with_undefended(build_classifier, train, test, threat, report) -> None:
    """Trains a natural twin on the same batches and prints its accuracies beside the report's."""
    classifier = build_classifier()
    trainer = common.compiled_trainer(classifier, None)
    total, size = common.MAX_STEPS.value, common.BATCH_SIZE.value
    batches = training_batches(train, 0)
    print(f"\ntraining the undefended twin: {total} steps of {size} natural images")
    trainer.fit(batches, verbose=0, shuffle=False)
    twin = eval_common.evaluate(classifier, test, threat)
    rows = [("natural", report.clean_accuracy, twin.clean_accuracy)]
    rows += [(a.name, a.accuracy, b.accuracy) for a, b in zip(report.attacks, twin.attacks, strict=True)]
    rows += [("worst case", report.robust_accuracy, twin.robust_accuracy)]
    width = max(len(name) for name, _, _ in rows)
    print(f"{'accuracy':{width}}  {'robust':>9}  {'undefended':>10}")
    for name, robust, undefended in rows:
        print(f"{name:{width}}  {robust:>9.2%}  {undefended:>10.2%}")
