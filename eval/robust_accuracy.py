"""Robust accuracy of a classifier under a table of attacks.

    python -m eval.robust_accuracy --model=models/mnist_fast --suite=mnist_table1_whitebox

The model is a .keras file, a SavedModel or a training folder. Every adversarial example is checked: its distance, its
pixel range, and its class by the model itself in float32.
"""

from absl import flags

from eval import common
from tfrobust import loading

MODEL = flags.DEFINE_string("model", None, "A .keras file, a SavedModel folder or a --model_dir of training.")
OUTPUT = flags.DEFINE_string("output", None, "Write the report to this JSON file.")
SAVE_ADVERSARIAL = flags.DEFINE_string(
    "save_adversarial",
    None,
    "Write the worst adversarial example of each image: .npz, or .npy in the challenge's format.",
)
flags.adopt_module_key_flags(common)


def main() -> None:
    """Evaluates --model and writes what was asked for."""
    if SAVE_ADVERSARIAL.value:
        common.check_adversarial_path(SAVE_ADVERSARIAL.value)
    if OUTPUT.value:
        common.check_output_path(OUTPUT.value)
    threat = common.threat_model()
    classifier = loading.load_classifier(MODEL.value)
    test = common.load_test_set()
    report = common.print_robustness_table(classifier, test, threat, MODEL.value)
    print(f"robust accuracy {report.robust_accuracy:.2%} (worst case of all rows, example by example)")
    print(f"seed {report.seed}, attack gradients in {report.precision}, predictions in float32")
    if OUTPUT.value:
        common.write_report(OUTPUT.value, report, model=MODEL.value)
    if SAVE_ADVERSARIAL.value:
        common.write_adversarial_examples(SAVE_ADVERSARIAL.value, report, test.labels)


if __name__ == "__main__":
    flags.mark_flag_as_required("model")
    common.run(main)
