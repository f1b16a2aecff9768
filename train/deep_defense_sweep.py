"""Deep Defense for many values of c, lambda and regularised layers: the paper's Figures 3 and 4.

    python -m train.deep_defense_sweep --flagfile=train/flags/deep_defense_mnist_lenet.flags --reference=... \\
        --c_values=5,15,25,35,45 --lambda_values=5,15,25 --model_dir=models/sweep

Every combination is a run of train.deep_defense in a folder of its own under --model_dir; sweep.csv and sweep.png are
written after each. The same command goes on after the runs that are finished, and when all are draws the figure again.
"""

import itertools
import json
import pathlib

import keras
from absl import flags

from eval import common as eval_common
from eval import data_flags, deep_defense_figures, deep_defense_measures, output_files, reference
from train import common, deep_defense, optimizer_flags, session

C_VALUES = flags.DEFINE_list("c_values", ["5", "15", "25", "35", "45"], "Values of --c.")
LAMBDA_VALUES = flags.DEFINE_list("lambda_values", ["15"], "Values of --lambda.")
LAYER_VALUES = flags.DEFINE_list(
    "layer_values", ["all"], "Values of --regularized_layers: layers that are regularised one at a time, or all."
)
flags.adopt_module_key_flags(deep_defense)

ALL = "all"


def main() -> None:
    """Makes the runs that are missing, and the figure."""
    combinations = list(itertools.product(LAYER_VALUES.value, _numbers(LAMBDA_VALUES), _numbers(C_VALUES)))
    if deep_defense.METHOD.value != "deep_defense":
        raise ValueError(f"method must be deep_defense in a sweep, got {deep_defense.METHOD.value}")
    if not eval_common.MODEL_DIR.value:
        raise ValueError("model_dir must be given: --model_dir=FOLDER, where every run has a folder")
    reference.check()
    folder = pathlib.Path(eval_common.MODEL_DIR.value)
    start = _reference_measures(folder)
    rows = []
    for number, (layer, strength, c) in enumerate(combinations, start=1):
        print(f"\nrun {number} of {len(combinations)}: layers {layer}, lambda {strength:g}, c {c:g}", flush=True)
        found = _run(folder / f"{layer}_lambda{strength:g}_c{c:g}", layer, strength, c)
        rows.append({"layers": layer, "lambda": strength, "c": c, **found})
        deep_defense_figures.write_sweep(str(folder / "sweep"), rows, start, _caption(found))
    print(f"saved {folder}/sweep.csv and {folder}/sweep.png")


def _run(model_dir, layer, strength, c):
    """The report of one run, which is made unless it is there."""
    values = flags.FLAGS
    values.model_dir, values["lambda"].value, values["c"].value = str(model_dir), strength, c
    values.regularized_layers = None if layer == ALL else [layer]
    report = model_dir / "report.json"
    if report.is_file():
        session.check_model_dir(model_dir, deep_defense.DeepDefenseTask.flags)
        found = json.loads(report.read_text())
        examples = len(data_flags.load_training_set().labels)
        common.resolve_epochs(examples - common.HELD_OUT.value)
        if found["steps"] == common.MAX_STEPS.value:
            print("finished before")
            return found
    keras.backend.clear_session()
    session.run(deep_defense.DeepDefenseTask())
    return json.loads(report.read_text())


def _reference_measures(folder):
    """Accuracy and rho2 of the reference, kept in reference.json; refuses layers that it does not have."""
    path = reference.REFERENCE.value
    center = reference.mean_image(data_flags.load_training_set())
    classifier = reference.load(path, center)
    known = [layer.name for layer in classifier.layers if layer.trainable_variables]
    for name in LAYER_VALUES.value:
        if name not in (ALL, *known):
            raise ValueError(f"layer_values must be some of {', '.join([ALL, *known])}, got {name!r}")
    test = data_flags.load_test_set()
    wanted = {"reference": path, "num_examples": len(test.labels)}
    kept = folder / "reference.json"
    if kept.is_file() and wanted.items() <= (found := json.loads(kept.read_text())).items():
        return found
    found = {**wanted, **deep_defense_measures.measure(classifier, test, center)}
    output_files.write_json(str(kept), found)
    return found


def _numbers(flag):
    try:
        numbers = [float(value) for value in flag.value]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0:
        raise ValueError(f"{flag.name} must be numbers of 0 or more, separated by commas, got {flag.value}")
    return numbers


def _caption(found):
    images = found["steps"] * optimizer_flags.BATCH_SIZE.value
    return (
        f"Deep Defense of {pathlib.Path(reference.REFERENCE.value).name}, {found['steps']:,} steps of "
        f"{optimizer_flags.BATCH_SIZE.value} ({images:,} images); {found['num_examples']:,} test examples of "
        f"{data_flags.DATASET.value}, DeepFool with 50 iterations, seed {eval_common.SEED.value}"
    )


if __name__ == "__main__":
    eval_common.run(main)
