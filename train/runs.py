"""Many training runs of one study, which share the flags of a flagfile and differ in a few.

Every run has a folder of its own under --model_dir, and goes on there where it was stopped.
"""

import pathlib
from collections.abc import Callable, Sequence

import keras

from eval import attack_flags, common, data_flags, foreign_flags
from tfrobust import datasets
from tfrobust.attacks import PGD
from train import architectures, optimizer_flags, recorded_flags, robustness, session
from train import common as train_common

# Flags that say how a run is shown, and those of a single run's attack and of its table.
_SHOWN = ("model_dir", "num_output_steps", "num_summary_steps", "num_checkpoint_steps")
_FOREIGN = ("adversarial", "training_epsilon", "suite", "rows", "compare_undefended", "store_adv_path")


def prepare(program: str, foreign: Sequence[str] = ()) -> pathlib.Path:
    """The folder of --model_dir; makes steps of --epochs.

    Raises:
      ValueError: if there is none, if --architecture does not fit --dataset, or if flags are given that the study
        decides, those named `foreign` among them.
    """
    if not common.MODEL_DIR.value:
        raise ValueError("model_dir must be given: --model_dir=FOLDER, where every run has a folder")
    foreign_flags.refuse((*_FOREIGN, *foreign), f"{program}, whose runs have attacks and a table of their own")
    session.allow_memory_growth()
    _builder()
    data_flags.load_test_set()
    train_common.resolve_epochs(len(session.load_training_set().labels))
    return pathlib.Path(common.MODEL_DIR.value)


def settings(varied: Sequence[str] = ()) -> dict:
    """What all runs have in common, for `study.Study`; flags named `varied` differ between them."""
    left_out = tuple(f"--{name}=" for name in (*_SHOWN, *varied))
    return {
        "flags": [line for line in recorded_flags.flag_lines(changed_only=True) if not line.startswith(left_out)],
        "steps": train_common.MAX_STEPS.value,
        "batch_size": optimizer_flags.BATCH_SIZE.value,
        "dataset": data_flags.DATASET.value,
        "num_examples": len(data_flags.load_test_set().labels),
        "seed": common.SEED.value,
    }


def make(
    folder: pathlib.Path,
    attack: PGD | None,
    measure: Callable[[keras.Model, datasets.Arrays, datasets.Arrays], None],
    **varied,
) -> None:
    """Trains a network of --architecture in `folder`, or goes on with it, and calls `measure`.

    Args:
      attack: what is trained against; None for natural training.
      measure: takes the trained network, the training set and the test set.
      varied: values of flags in this run.

    Raises:
      ValueError: if the folder has a run that is longer than --max_num_training_steps, or one with other flags.
    """
    values = {"model_dir": str(folder), "adversarial": attack is not None, **varied}
    if attack is not None:
        values |= {"training_epsilon": attack.threat.epsilon, **attack_flags.values_of(attack)}
    keras.backend.clear_session()
    # They are recorded with the run, which they repeat.
    with recorded_flags.changed(values):
        session.run(_Run(_builder(), attack, measure))


def _builder():
    table = architectures.BY_DATASET[data_flags.DATASET.value]
    return architectures.builder(table, data_flags.dataset_spec(), common.SEED.value)


class _Run(robustness.RobustnessTask):
    """A run against an attack that the study has made and checked, and with its measures in the place of a table."""

    def __init__(self, build_classifier, attack, measure):
        super().__init__(build_classifier)
        self._attack, self._measure = attack, measure

    def check(self):
        """See `Task.check`."""

    def finish(self, classifier, train, test, run):
        """Measures the network, if it was trained for as long as the others."""
        if run.step != train_common.MAX_STEPS.value:
            raise ValueError(f"model_dir holds a run of {run.step} steps in {run.model_dir}: take another --model_dir")
        self._measure(classifier, train, test)
