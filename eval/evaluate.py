"""Natural and adversarial accuracy and mean losses of the newest checkpoint in a training folder.

    python -m eval.evaluate --model_dir=models/mnist_fast
    python -m eval.evaluate --config=config.json --watch

The attack is that of --epsilon, --k, --a, --random_start and --loss_func. TensorBoard shows the numbers over the
training curves: they have the same tags, in --model_dir/eval. With --watch every newer checkpoint is evaluated as
training writes it; those that are overtaken meanwhile are left out.
"""

import datetime
import pathlib
import time

import tensorflow as tf
from absl import flags

from eval import attack_flags, classifiers, common, data_flags, foreign_flags, output_files, tables
from tfrobust import checkpoints, datasets, reports
from tfrobust.attacks import PGD
from tfrobust.attacks.base import describe

EVAL_ONCE = flags.DEFINE_bool("eval_once", True, "Evaluate the newest checkpoint and stop.")
WATCH = flags.DEFINE_bool("watch", False, "Go on with every newer checkpoint, until Ctrl-C; the same as --noeval_once.")
POLL_SECONDS = flags.DEFINE_float(
    "poll_seconds", 10, "With --watch: seconds from one look for a newer checkpoint to the next.", lower_bound=0.1
)
flags.adopt_module_key_flags(common)
flags.adopt_module_key_flags(attack_flags)


def main() -> None:
    """Evaluates once or for ever."""
    if not common.MODEL_DIR.value:
        raise ValueError("model_dir must be given: --model_dir=FOLDER, in which training leaves its checkpoints")
    foreign_flags.refuse(("suite", "rows", "attacks"), "eval.evaluate, whose attack is PGD by --k and --a")
    attack = attack_flags.pgd(common.threat_model())
    folder = pathlib.Path(common.MODEL_DIR.value)
    watch = WATCH.value or not EVAL_ONCE.value
    if not watch and checkpoints.newest(folder) is None:
        raise ValueError(f"model_dir must hold a checkpoint, got {folder}; --watch waits for one")
    test = data_flags.load_test_set()
    output_files.check_output_path(str(folder / "eval" / "events"))
    dataset = data_flags.DATASET.value
    print(f"{len(test.labels)} test examples of {dataset}, pixels from 0 to 1, against {describe(attack)}")
    done = None
    while True:
        newest = checkpoints.newest(folder)
        if newest in (None, done):
            waiting = "No checkpoint yet, waiting ..." if newest is None else "Waiting for the next checkpoint ..."
            newest = _wait(folder, newest, f"{waiting}   ({datetime.datetime.now():%Y-%m-%d %H:%M:%S})")
        print(f"Checkpoint {newest}, evaluating ...   ({datetime.datetime.now():%Y-%m-%d %H:%M:%S})", flush=True)
        report = evaluate(classifiers.load(newest), test, attack)
        write_summary(folder / "eval", checkpoints.step_of(newest), report)
        done = newest
        if not watch:
            return


def evaluate(classifier, test: datasets.Arrays, attack: PGD) -> reports.Report:
    """Attacks the test set and prints the original's four lines."""
    rows = common.Table({"PGD": attack}, only_standing=False)
    report = common.evaluate(classifier, test, rows, on_progress=tables.show_progress)
    tables.clear_progress()
    result = report.attacks[0]
    print(f"natural: {100 * report.clean_accuracy:.2f}%")
    print(f"adversarial: {100 * result.accuracy:.2f}%")
    print(f"avg nat loss: {report.clean_loss:.4f}")
    print(f"avg adv loss: {result.mean_loss:.4f}", flush=True)
    return report


def write_summary(folder: pathlib.Path, step: int, report: reports.Report) -> None:
    """Scalars with the tags of `train.summaries`, so that TensorBoard draws both in one chart."""
    result = report.attacks[0]
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(step=step):
        tf.summary.scalar("accuracy_nat", report.clean_accuracy)
        tf.summary.scalar("accuracy_adv", result.accuracy)
        tf.summary.scalar("xent_nat", report.clean_loss)
        tf.summary.scalar("xent_adv", result.mean_loss)
    writer.close()


def _wait(folder, known, text):
    """Prints `text` and a dot at every look until there is another checkpoint than `known`; returns it."""
    print(text, end="", flush=True)
    while (newest := checkpoints.newest(folder)) in (None, known):
        time.sleep(POLL_SECONDS.value)
        print(".", end="", flush=True)
    print()
    return newest


if __name__ == "__main__":
    common.run(main)
