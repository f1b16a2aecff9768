"""Markdown tables of what programs wrote as JSON, so that no number is ever typed."""

import csv
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from tfrobust import deep_defense_tables, madry_tables
from tfrobust.reports import gradient_words

MARKDOWN = flags.DEFINE_string("markdown", None, "Write the table to this Markdown file.")

Content = Mapping[str, Any]
WORST = "worst case of all rows, image by image"


def robustness(reports: Sequence[Content]) -> str:
    """One table of the reports of one model (`output_files.report_content`): its rows, exact attacks and commands.

    Rows of several reports follow each other, for attacks that were made on different numbers of images; published
    accuracies stand beside those of a suite that has them, for its data and threat model.

    Raises:
      ValueError: if there is no report, or if they are of different data sets or threat models.
    """
    if not reports:
        raise ValueError("reports must be one or more, got none")
    for name, values in (
        ("data sets", {report["flags"]["dataset"] for report in reports}),
        ("threat models", {str(report["threat_model"]) for report in reports}),
    ):
        if len(values) > 1:
            raise ValueError(f"reports must be of one model and threat, got the {name} {sorted(values)}")
    paper = any(_published(report) for report in reports)
    several = len({report["num_examples"] for report in reports}) > 1
    header = ["attack", "accuracy", *(["published", "difference"] if paper else []), *(["images"] if several else [])]
    lines = [_row([*header, "seconds"]), "|---" * (len(header) + 1) + "|"]
    for report in reports:
        for name, accuracy, seconds in _results(report):
            cells = [name, f"{accuracy:.2%}"]
            if paper:
                known = _published(report).get(name)
                cells += [f"{known:.2%}", f"{100 * (accuracy - known):+.2f}"] if known else ["", ""]
            if several:
                cells.append(f"{report['num_examples']:,}")
            lines.append(_row([*cells, "" if seconds is None else f"{seconds:.0f}"]))
    for report in reports:
        lines += ["", _settings(report), "", "<details><summary>The attacks</summary>", ""]
        lines += [f"- {result['name']}: `{result['attack']}`" for result in report["attacks"]]
        lines += ["", "</details>", "", made_by(report)]
    return "\n".join(lines) + "\n"


def transfer(content: Content) -> str:
    """The matrix that `eval.transfer` wrote: sources in rows, targets in columns."""
    names = list(content["models"])
    rows = [("natural", content["natural"]), *zip(names, content["accuracy"], strict=True)]
    lines = [_row(["source \\ target", *names]), "|---" * (len(names) + 1) + "|"]
    lines += [_row([name, *(f"{value:.2%}" for value in values)]) for name, values in rows]
    return "\n".join([*lines, "", made_by(content)]) + "\n"


def deep_defense(content: Content) -> str:
    """The table that `eval.deep_defense` wrote, each method followed by the paper's numbers where there are any."""
    paper = deep_defense_tables.PUBLISHED.get(content["paper"], {})
    header = ["method", "accuracy", "rho2", "rho2, 5 iterations", "fooled by DeepFool"]
    header += [f"FGSM at {part:g} eps_ref" for part in content["parts"]]
    header += [f"PGD at {part:g} eps_ref" for part in content["pgd_parts"]]
    lines = [_row(header), "|---" * len(header) + "|"]
    for name, row in content["rows"].items():
        cells = [f"{row['accuracy']:.2%}", f"{row['rho2']:.4g}", f"{row['rho2_5']:.4g}"]
        cells += [f"{row['deepfool_success_rate']:.2%}", *(f"{value:.2%}" for value in row["fgsm_accuracies"])]
        cells += [f"{value:.2%}" for value in row.get("pgd_accuracies", ())]
        lines.append(_row([name, *cells]))
        if name in paper:
            known = paper[name]
            cells = [f"{known.accuracy:.2%}", f"{known.rho2:.4g}", "", "", *(f"{a:.2%}" for a in known.accuracies)]
            cells += [""] * len(content["pgd_parts"])
            lines.append(_row([f"{name}, the paper's", *cells]))
    settings = f"{content['num_examples']:,} test examples of {content['dataset']}, eps_ref {content['eps_ref']:.5f}."
    return "\n".join([*lines, "", settings, "", made_by(content)]) + "\n"


def study(rows: str, content: Content) -> str:
    """The rows of a study, the text of its CSV file, numbers with four digits; `content` is its JSON file."""
    header, *lines = csv.reader(rows.splitlines())
    table = [_row([name.replace("_", " ") for name in header]), "|---" * len(header) + "|"]
    table += [_row([_rounded(cell) for cell in line]) for line in lines]
    return "\n".join([*table, "", made_by(content)]) + "\n"


def made_by(content: Content) -> str:
    """The command and the machine that made a file."""
    return f"Made by `{content['command']}` on {content['machine']}."


def _row(cells):
    return f"| {' | '.join(cells)} |"


def _rounded(cell):
    try:
        return cell if cell.isdigit() else f"{float(cell):.4g}"
    except ValueError:
        return cell


def _published(report):
    flags, threat = report["flags"], report["threat_model"]
    if flags["attacks"] is not None:
        return {}
    return madry_tables.published(flags["suite"], flags["dataset"], threat["norm"], threat["epsilon"])


def _results(report):
    yield "natural", report["clean_accuracy"], None
    for result in report["attacks"]:
        yield result["name"], result["accuracy"], result["seconds"]
    yield WORST, report["robust_accuracy"], None


def _settings(report):
    threat = report["threat_model"]
    # Reports of earlier versions do not tell of windows.
    gradients = gradient_words(report["precision"], report.get("relu_window", 0))
    return (
        f"{report['num_examples']:,} test examples of {report['flags']['dataset']}, {threat['norm']} epsilon "
        f"{threat['epsilon']:g}, seed {report['seed']}, attack gradients in {gradients}, predictions in "
        "float32."
    )
