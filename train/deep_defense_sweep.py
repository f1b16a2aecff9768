"""Deep Defense for many values of c, lambda and regularised layers: the paper's Figures 3 and 4.

    python -m train.deep_defense_sweep --flagfile=train/flags/deep_defense_mnist_lenet.flags --reference=... \\
        --c_values=5,15,25,35,45 --lambda_values=5,15,25 --model_dir=models/sweep

Every combination is a run of train.deep_defense in a folder of its own under --model_dir; sweep.csv and sweep.png are
written after each. The same command goes on after the runs that are finished, and when all are draws the figure again.
"""

import itertools
import json
import math
import pathlib

import keras
from absl import flags

from eval import common as eval_common
from eval import data_flags, deep_defense_figures, deep_defense_measures, output_files, reference
from tfrobust import loading
from train import common, deep_defense, optimizer_flags, run_folder, session

C_VALUES = flags.DEFINE_list("c_values", None, "Values of c; default: that of --c.")
LAMBDA_VALUES = flags.DEFINE_list("lambda_values", None, "Values of lambda; default: that of --lambda.")
LAYER_VALUES = flags.DEFINE_list(
    "layer_values", ["all"], "Layers that are regularised, one at a time, or all for all at once."
)
flags.adopt_module_key_flags(deep_defense)

ALL = "all"


def main() -> None:
    """Makes the runs that are missing, and the figure."""
    session.allow_memory_growth()
    if deep_defense.METHOD.value != "deep_defense":
        raise ValueError(f"method must be deep_defense in a sweep, got {deep_defense.METHOD.value}")
    if not eval_common.MODEL_DIR.value:
        raise ValueError("model_dir must be given: --model_dir=FOLDER, where every run has a folder")
    if deep_defense.LAYERS.value is not None:
        raise ValueError(
            "regularized_layers is what a sweep varies: --layer_values=" + ",".join(deep_defense.LAYERS.value)
        )
    strengths, scales = _numbers(LAMBDA_VALUES, deep_defense.LAMBDA), _numbers(C_VALUES, deep_defense.C)
    deep_defense.DeepDefenseTask().check()
    folder = pathlib.Path(eval_common.MODEL_DIR.value)
    train, test = data_flags.load_training_set(), data_flags.load_test_set()
    common.resolve_epochs(len(train.labels) - common.HELD_OUT.value)
    start = _reference_measures(folder, reference.mean_image(train), test)
    runs = {
        (layers, strength, c): folder / f"{layers}_lambda{strength:g}_c{c:g}"
        for layers, strength, c in itertools.product(LAYER_VALUES.value, strengths, scales)
    }
    found = {key: report for key, run in runs.items() if (report := _finished(run, len(test.labels)))}
    for number, (key, run) in enumerate(runs.items(), start=1):
        layers, strength, c = key
        print(f"\nrun {number} of {len(runs)}: layers {layers}, lambda {strength:g}, c {c:g}", flush=True)
        _set_flags(run, *key)
        if key in found:
            run_folder.check(run, deep_defense.DeepDefenseTask.flags)
            print("finished before")
            continue
        keras.backend.clear_session()
        session.run(deep_defense.DeepDefenseTask())
        found[key] = json.loads((run / "report.json").read_text())
        _draw(folder, runs, found, start)
    _draw(folder, runs, found, start)
    print(f"saved {folder}/sweep.csv and {folder}/sweep.png")


def _finished(run, num_examples):
    """The report of a run that is there, unless it was measured on other examples.

    Raises:
      ValueError: if the run has another length.
    """
    try:
        report = json.loads((run / "report.json").read_text())
    except FileNotFoundError:
        return None
    if report["steps"] != common.MAX_STEPS.value:
        raise ValueError(
            f"model_dir holds a run of {report['steps']} steps in {run}, got {common.MAX_STEPS.value} steps: take "
            "another --model_dir or delete it"
        )
    return report if report["num_examples"] == num_examples else None


def _set_flags(run, layers, strength, c):
    values = flags.FLAGS
    values.model_dir, values["lambda"].value, values["c"].value = str(run), strength, c
    values.regularized_layers = None if layers == ALL else [layers]


def _reference_measures(folder, center, test):
    """Accuracy and rho2 of the reference, kept in reference.json; refuses layers that it does not have.

    Raises:
      ValueError: also if the runs of the folder started from another one.
    """
    path = reference.REFERENCE.value
    classifier = reference.load(path, center)
    layers = [layer for layer in classifier.layers if not isinstance(layer, keras.layers.BatchNormalization)]
    known = [layer.name for layer in layers if layer.trainable_variables]
    for name in LAYER_VALUES.value or [""]:
        if name not in (ALL, *known):
            raise ValueError(f"layer_values must be some of {', '.join([ALL, *known])}, got {name!r}")
    start = {"dataset": data_flags.DATASET.value, "weights": loading.weights_sha256(classifier)}
    kept = folder / "reference.json"
    if kept.is_file():
        found = json.loads(kept.read_text())
        if any(found.get(name) != value for name, value in start.items()):
            raise ValueError(f"model_dir {folder} holds runs from another reference than {path}: take another one")
        if found["num_examples"] == len(test.labels):
            return found
    meter = deep_defense_measures.rho_meter(classifier, center)
    found = {**start, "num_examples": len(test.labels), **deep_defense_measures.measure(classifier, test, meter)}
    output_files.write_json(str(kept), found)
    return found


def _numbers(values, default):
    """The numbers of a list flag, or the one of the flag that it varies."""
    try:
        numbers = [default.value] if values.value is None else [float(value) for value in values.value]
    except ValueError:
        numbers = []
    if not numbers or not all(0 <= number < math.inf for number in numbers):
        raise ValueError(f"{values.name} must be numbers of 0 or more, separated by commas, got {values.value}")
    return numbers


def _draw(folder, runs, found, start):
    rows = [
        {"layers": key[0], "lambda": key[1], "c": key[2], **found[key]}
        for key in runs
        if key in found and found[key]["num_examples"] == start["num_examples"]
    ]
    caption = (
        f"Deep Defense of {pathlib.Path(reference.REFERENCE.value).name}, {common.MAX_STEPS.value:,} steps of "
        f"{optimizer_flags.BATCH_SIZE.value}; {start['num_examples']:,} test examples of {data_flags.DATASET.value}, "
        f"DeepFool with 50 iterations, seed {eval_common.SEED.value}"
    )
    deep_defense_figures.write_sweep(str(folder / "sweep"), rows, start, caption)


if __name__ == "__main__":
    # As in train.deep_defense.
    flags.FLAGS.set_default("loss_reduction", "mean")
    eval_common.run(main)
