"""Robust accuracy of a classifier under a table of attacks.

    python -m eval.robust_accuracy --model=models/mnist_fast --suite=mnist_table1_whitebox
    python -m eval.robust_accuracy --model=models/mnist_fast --suite=autoattack --state=autoattack.npz
    python -m eval.robust_accuracy --model=models/mnist_fast --attacks=fgsm,pgd:steps=100:step_size=0.01,square
    python -m eval.robust_accuracy --model=models/mnist_fast --suite=min_norm --norm=l2 --curve=curve
    python -m eval.robust_accuracy --model=models/mnist_fast --suite=quick --report=report.html

The model is a .keras file, a SavedModel or a training folder. Every adversarial example is checked: its distance, its
pixel range, and its class by the model itself in float32. --report writes all that was found as one page for a browser,
with accuracy against epsilon and by class, and pictures of what fell and what stood.
"""

from absl import flags

from eval import (
    attack_warnings,
    classifiers,
    common,
    data_flags,
    html_distances,
    html_page,
    html_report,
    markdown,
    output_files,
    provenance,
    radius_sweep,
    relu_window_flag,
    smallest_changes,
    tables,
)
from tfrobust import red_flags
from tfrobust.evaluation_state import EvaluationState

SAVE_ADVERSARIAL = flags.DEFINE_string(
    "save_adversarial",
    None,
    "Write the worst adversarial example of each image: .npz, or .npy in the challenge's format.",
)
STATE = flags.DEFINE_string(
    "state", None, "Save the evaluation to this .npz file as it goes, and go on from there after a kill."
)
CURVE = flags.DEFINE_string(
    "curve", None, "With --suite=min_norm: write accuracy against epsilon to this path plus .csv and .png."
)
RED_FLAGS = flags.DEFINE_bool("red_flags", True, "Look for signs that the numbers are not to be trusted.")
flags.adopt_module_key_flags(common)
flags.adopt_module_key_flags(output_files)
flags.adopt_module_key_flags(markdown)
flags.adopt_module_key_flags(html_page)
flags.adopt_module_key_flags(radius_sweep)
flags.adopt_module_key_flags(relu_window_flag)


def main() -> None:
    """Evaluates --model and writes what was asked for."""
    path = common.model_path()
    if SAVE_ADVERSARIAL.value:
        output_files.check_adversarial_path(SAVE_ADVERSARIAL.value)
    written = {
        "output": output_files.OUTPUT.value,
        "markdown": markdown.MARKDOWN.value,
        "state": STATE.value,
        "curve": CURVE.value and f"{CURVE.value}.csv",
    }
    for target in written.values():
        if target:
            output_files.check_output_path(target)
    others = {"save_adversarial": SAVE_ADVERSARIAL.value, "report": html_page.REPORT.value}
    output_files.check_different({"model": path, **written, **others})
    page = html_page.check_report_path()
    smallest = common.ATTACKS.value is None and common.SUITE.value == common.MIN_NORM
    if CURVE.value and not smallest:
        raise ValueError("curve needs --suite=min_norm, whose attacks give the accuracy at every epsilon")
    if smallest and (STATE.value or SAVE_ADVERSARIAL.value or markdown.MARKDOWN.value):
        raise ValueError("state, save_adversarial and markdown are for norm-bounded attacks, not for --suite=min_norm")
    if smallest and relu_window_flag.RELU_WINDOW.value:
        raise ValueError("relu_window is for norm-bounded attacks, not for --suite=min_norm")
    attack_warnings.warn_of_other_data(path)
    threat = common.threat_model()
    rows = smallest_changes.attacks(threat.norm) if smallest else common.table(threat)
    classifier = classifiers.load(path)
    test = data_flags.load_test_set()
    if smallest:
        return measure_smallest_changes(classifier, test, rows, threat)
    state = EvaluationState(STATE.value) if STATE.value else None
    window = relu_window_flag.RELU_WINDOW.value
    report = tables.print_robustness_table(classifier, test, threat, rows, path, state=state, relu_window=window)
    print(f"robust accuracy {report.robust_accuracy:.2%} (worst case of all rows, example by example)")
    print(f"seed {report.seed}, attack gradients in {report.gradients}, predictions in float32")
    found = look_for_red_flags(classifier, test, threat, report, rows) if RED_FLAGS.value else None
    content = output_files.report_content(report, found)
    if output_files.OUTPUT.value:
        output_files.write_json(output_files.OUTPUT.value, content)
    if markdown.MARKDOWN.value:
        with output_files.whole_file(markdown.MARKDOWN.value) as file:
            file.write(markdown.robustness([content]).encode())
    if SAVE_ADVERSARIAL.value:
        output_files.write_adversarial_examples(SAVE_ADVERSARIAL.value, report, test.labels)
    if page:
        sweep = radius_sweep.measure(classifier, test, report, rows)
        html_report.write(page, path, classifier, test, report, rows.attacks, found, sweep)


def look_for_red_flags(classifier, test, threat, report, rows) -> list[red_flags.RedFlag]:
    """The red flags of the report and of the classifier, which are printed."""
    found = red_flags.inspect_report(report, rows.attacks)
    with common.device():
        found += red_flags.inspect_classifier(
            classifier, test.images, test.labels, threat, seed=report.seed, on_progress=tables.show_progress
        )
    tables.clear_progress()
    for flag in found:
        print(f"red flag, {flag}")
    if not found:
        print("no red flags")
    return found


def measure_smallest_changes(classifier, test, attacks, threat) -> None:
    """The table of --suite=min_norm and what is written of it."""
    path = common.model_path()
    report = smallest_changes.print_table(classifier, test, attacks, threat.norm, path)
    if output_files.OUTPUT.value:
        output_files.write_json(output_files.OUTPUT.value, {**report.as_json(), **provenance.made_by()})
    if CURVE.value:
        smallest_changes.write_curve(CURVE.value, report, path)
    if html_page.REPORT.value:
        html_distances.write(html_page.REPORT.value, path, classifier, test, report, threat)


if __name__ == "__main__":
    common.run(main)
