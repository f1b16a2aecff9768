"""Tables that are printed while they are computed."""

import sys

from eval import common
from tfrobust import datasets, reports
from tfrobust.threat_models import ThreatModel


def print_robustness_table(
    classifier, test: datasets.Arrays, threat: ThreatModel, title: str, **arguments
) -> reports.Report:
    """Runs the flags' attacks and prints each row as soon as it is known; `arguments` go to `common.evaluate`."""
    rows, only_standing = common.attacks(threat)
    width = max(len(name) for name in ("natural", *rows))
    print(
        f"{title}: {len(test.labels)} test examples of {common.DATASET.value}, {threat.norm} epsilon {threat.epsilon:g}"
    )
    first = "attacked" if only_standing else "accuracy"
    header = f"{'attack':{width}}  {first:>9}  {'worst case':>10}  {'seconds':>8}"
    print(header, "-" * len(header), sep="\n", flush=True)

    def row(name, value, worst, seconds):
        clear_progress()
        print(f"{name:{width}}  {value:>9}  {worst:>10.2%}  {seconds:>8.1f}", flush=True)

    def result_row(result):
        # Where only what stands is attacked, the accuracy under the attack alone is not known.
        value = str(result.num_attacked) if only_standing else f"{result.accuracy:.2%}"
        row(result.name, value, result.worst_case_accuracy, result.seconds)

    def clean_row(accuracy, seconds):
        row("natural", "" if only_standing else f"{accuracy:.2%}", accuracy, seconds)

    told = []

    def skipped_row(name, reason):
        clear_progress()
        # The reason is that of all of them.
        print(f"{name:{width}}  skipped{'' if told else ': ' + reason}", flush=True)
        told.append(name)

    return common.evaluate(
        classifier,
        test,
        threat,
        on_clean=clean_row,
        on_result=result_row,
        on_skip=skipped_row,
        on_progress=show_progress,
        **arguments,
    )


def show_progress(name: str, done: int, total: int) -> None:
    """A counter that the next line of the table replaces; nothing where the output is no terminal."""
    if sys.stderr.isatty():
        print(f"\r{name}: {done}/{total}", end="", file=sys.stderr, flush=True)


def clear_progress() -> None:
    """Removes the counter."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
