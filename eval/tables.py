"""Tables that are printed while they are computed."""

import sys

from eval import common, data_flags, sources
from tfrobust import datasets, madry_tables, reports, suites
from tfrobust.threat_models import ThreatModel


def print_robustness_table(
    classifier, test: datasets.Arrays, threat: ThreatModel, rows: common.Table, title: str, **arguments
) -> reports.Report:
    """Runs the attacks and prints each row as soon as it is known, beside the published one if --suite has any.

    Args:
      rows: what to run; its attacks have the threat model `threat`.
      title: the classifier's name.
      arguments: go to `common.evaluate`.
    """
    paper = published(threat.norm, threat.epsilon)
    width = max(len(name) for name in ("natural", *rows.attacks))
    examples = f"{len(test.labels)} test examples of {data_flags.DATASET.value}"
    print(f"{title}: {examples}, {threat.norm} epsilon {threat.epsilon:g}")
    if common.ATTACKS.value is None and common.SUITE.value in suites.WITH_SOURCES and sources.missing():
        print(f"without the rows of {', '.join(sources.missing())}, which are not given")
    first = "attacked" if rows.only_standing else "accuracy"
    beside = f"  {'published':>9}  {'difference':>10}" if paper else ""
    header = f"{'attack':{width}}  {first:>9}{beside}  {'worst case':>10}  {'seconds':>8}"
    print(header, "-" * len(header), sep="\n", flush=True)

    def row(name, value, accuracy, worst, seconds):
        clear_progress()
        columns = ""
        if paper:
            known = paper.get(name)
            columns = f"  {known:>9.2%}  {100 * (accuracy - known):>+10.2f}" if known else f"  {'':>9}  {'':>10}"
        print(f"{name:{width}}  {value:>9}{columns}  {worst:>10.2%}  {seconds:>8.1f}", flush=True)

    def result_row(result):
        # Where only what stands is attacked, the accuracy under the attack alone is not known.
        value = str(result.num_attacked) if rows.only_standing else f"{result.accuracy:.2%}"
        row(result.name, value, result.accuracy, result.worst_case_accuracy, result.seconds)

    def clean_row(accuracy, seconds):
        row("natural", "" if rows.only_standing else f"{accuracy:.2%}", accuracy, accuracy, seconds)

    told = []

    def skipped_row(name, reason):
        clear_progress()
        # The reason is that of all of them.
        print(f"{name:{width}}  skipped{'' if told else ': ' + reason}", flush=True)
        told.append(name)

    return common.evaluate(
        classifier,
        test,
        rows,
        on_clean=clean_row,
        on_result=result_row,
        on_skip=skipped_row,
        on_progress=show_progress,
        **arguments,
    )


def published(norm: str, epsilon: float) -> dict[str, float]:
    """The published accuracies of the rows of --suite; none where --attacks stands in its place, nor for other data or
    another threat model than theirs."""
    if common.ATTACKS.value is not None:
        return {}
    return madry_tables.published(common.SUITE.value, data_flags.DATASET.value, norm, epsilon)


def show_progress(name: str, done: int, total: int) -> None:
    """A counter that the next line of the table replaces; nothing where the output is no terminal."""
    if sys.stderr.isatty():
        print(f"\r{name}: {done}/{total}", end="", file=sys.stderr, flush=True)


def refuse_skipped(name: str, reason: str) -> None:
    """Raises ValueError: for studies, in which an attack that cannot be run leaves a hole."""
    raise ValueError(f"{name} cannot be run: {reason}")


def clear_progress() -> None:
    """Removes the counter."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
