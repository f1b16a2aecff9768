"""The page of a robust accuracy: what was attacked and how, what stood, what fell, and what that does not say."""

from collections.abc import Mapping, Sequence

import numpy as np

from eval import data_flags, fallen_examples, figures, html_classes, html_examples, html_page, provenance, tables
from eval.html_page import Html
from eval.html_words import (
    INTERVAL,
    LIMITS,
    RED_FLAG_CHECKS,
    heading,
    model_words,
    percent,
    radius,
    threat_words,
    with_interval,
)
from eval.radius_sweep import Sweep, strength
from tfrobust import datasets, reports
from tfrobust.attacks.base import Attack
from tfrobust.confidence import wilson_interval
from tfrobust.red_flags import RedFlag
from tfrobust.red_flags.comparison import BLACK_BOX

_DENSITY = 2
_NATURAL = "natural images"


def write(
    path: str,
    model: str,
    classifier,
    test: datasets.Arrays,
    report: reports.Report,
    attacks: Mapping[str, Attack],
    flags: Sequence[RedFlag] | None,
    sweep: Sweep | None,
) -> None:
    """Writes the page.

    Args:
      model: the path of the classifier, its name on the page.
      attacks: of the report, by name.
      flags: red flags; None where none were looked for.
      sweep: of `radius_sweep`; None where there is none.
    """
    names = data_flags.dataset_spec().class_names
    lead = html_page.joined(
        html_page.paragraph(threat_words(report.threat_model)),
        html_page.cards(
            {
                "robust accuracy": with_interval(report.robust_accuracy, report.num_examples),
                "natural accuracy": with_interval(report.clean_accuracy, report.num_examples),
                "test examples": (f"{report.num_examples:,}", f"of {data_flags.DATASET.value}, in the official order"),
            }
        ),
        _overstatement(report, sweep),
        html_page.paragraph(
            "Robust accuracy is the share of the examples that are classified correctly as they are and under every "
            f"attack of the table below: the worst case, example by example. {INTERVAL}",
            class_="faint",
        ),
    )
    standing = report.fell_to == reports.STANDING
    sections = {
        "What was measured": [
            html_page.paragraph(model_words(model, classifier)),
            html_page.paragraph(_attack_words(report, attacks)),
            html_page.paragraph(
                f"Seed {report.seed}. Attack gradients are computed in {report.gradients}; every adversarial example "
                "was checked for its distance and its pixel range, and judged by the model itself in float32."
            ),
        ],
        "Attacks": attack_table(report),
        "Accuracy against epsilon": _sweep_section(report, sweep),
        "Classes": html_classes.by_class(test.labels, report.clean_predictions, report.predictions, standing, names),
        "Examples that fell first": _gallery(fallen_examples.fell_first(report, test, sweep), names),
        "Examples that never fell": _gallery(fallen_examples.never_fell(report, test, sweep), names),
        "Red flags": _red_flags(flags),
        "What these numbers do not say": [html_page.bullets(LIMITS)],
        "How to repeat it": html_page.reproduction(provenance.made_by()),
    }
    html_page.write(path, f"Robustness of {model}", heading("Robustness of", model), lead, sections)


def attack_table(report: reports.Report) -> list[Html]:
    """The attacks from the strongest to the weakest below the worst case, beside published numbers if there are any."""
    paper = tables.published(report.threat_model.norm, report.threat_model.epsilon)
    alone = all(row.num_attacked == report.num_examples for row in report.attacks)
    results = sorted(report.attacks, key=strength) if alone else report.attacks
    rows = [("worst case of all", report.robust_accuracy, None, None)]
    rows += [(row.name, row.accuracy, row.num_attacked, row.seconds) for row in results]
    rows.append((_NATURAL, report.clean_accuracy, None, None))
    cells = []
    for name, accuracy, attacked, seconds in rows:
        line = [name, html_page.share(accuracy, kind="natural" if name == _NATURAL else None)]
        if paper:
            known = paper.get("natural" if name == _NATURAL else name)
            line += [f"{known:.2%}", f"{100 * (accuracy - known):+.2f}"] if known else ["", ""]
        if not alone:
            line.append("" if attacked is None else f"{attacked:,}")
        cells.append([*line, "" if seconds is None else f"{seconds:,.1f}"])
    header = ["attack", "accuracy", *(["published", "difference"] if paper else []), *([] if alone else ["attacked"])]
    caption = "From the strongest attack to the weakest"
    if not alone:
        caption = "In the order in which they were run: each attacked what stood before it, and shows what then stood"
    parts = [html_page.table(caption, [*header, "seconds"], cells, first=1)]
    if report.skipped:
        words = f"Not run, for the model has no gradient: {', '.join(report.skipped)}."
        parts.append(html_page.paragraph(words))
    settings = [html_page.joined(f"{row.name}: ", html_page.element("code", row.attack)) for row in report.attacks]
    summary = html_page.element("summary", "The attacks' settings")
    return [*parts, html_page.element("details", summary, html_page.bullets(settings))]


def _attack_words(report, attacks):
    blind = [row.name for row in report.attacks if isinstance(attacks[row.name], BLACK_BOX)]
    sighted = [row.name for row in report.attacks if row.name not in blind]
    words = []
    if sighted:
        words.append(f"White-box attacks, which know the model and its weights: {', '.join(sighted)}.")
    if blind:
        words.append(f"Black-box attacks, which see its outputs or another model only: {', '.join(blind)}.")
    return " ".join(words)


def _overstatement(report, sweep):
    """That robust accuracy is lower than the table says, if it is."""
    if sweep is None:
        return None
    fell = sweep.fell_at <= report.threat_model.epsilon
    missed = int(np.sum((report.fell_to[: len(fell)] == reports.STANDING) & fell))
    if not missed:
        return None
    at_most = report.robust_accuracy - missed / report.num_examples
    words = (
        f"The robust accuracy is at most {at_most:.2%}: the curve below, measured on the first {len(sweep.fell_at):,} "
        f"examples, made {missed} of them fall within epsilon {report.threat_model.epsilon:.4g} that stood under every "
        "attack of the table. Stronger attacks or more restarts are needed."
    )
    return html_page.element("div", html_page.paragraph(words), class_="flag")


def _sweep_section(report, sweep):
    if sweep is None:
        return [html_page.paragraph("Not measured: --report_examples says on how many examples it is.")]
    count = len(sweep.fell_at)
    words = (
        f"Measured on the first {count:,} examples with {sweep.attack}, the strongest of the attacks that were tried "
        "on all examples; its steps grow and shrink with epsilon. An example counts as fallen from the smallest "
        f"epsilon on at which it fell. This cost {sweep.seconds:,.0f} seconds beyond the table."
    )
    alt = "; ".join(
        f"epsilon {epsilon:.4g}: {accuracy:.1%}"
        for epsilon, accuracy in zip(sweep.epsilons, sweep.accuracies, strict=True)
    )
    return [
        html_page.paragraph(words),
        html_page.plot(figures.png(_draw(report, sweep), 240), f"Accuracy against epsilon. {alt}.", density=_DENSITY),
        html_page.table(
            f"Accuracy under {sweep.attack}",
            ["epsilon", "accuracy", "95 % interval"],
            [
                [radius(epsilon), f"{accuracy:.2%}", percent(wilson_interval(round(accuracy * count), count))]
                for epsilon, accuracy in zip(sweep.epsilons, sweep.accuracies, strict=True)
            ],
        ),
    ]


def _draw(report, sweep):
    threat, count = report.threat_model, len(sweep.fell_at)
    figure, (axes,) = figures.new(1, "", width=4.2, height=3.4)
    intervals = [wilson_interval(round(accuracy * count), count) for accuracy in sweep.accuracies]
    low, high = (100 * np.array(side) for side in zip(*intervals, strict=True))
    axes.fill_between(sweep.epsilons, low, high, alpha=0.2, linewidth=0)
    axes.plot(sweep.epsilons, 100 * np.array(sweep.accuracies), marker="o", markersize=4, label=sweep.attack)
    label = f"worst case of the table, {report.num_examples:,} examples"
    axes.plot(threat.epsilon, 100 * report.robust_accuracy, "k*", markersize=10, linestyle="none", label=label)
    axes.set(
        xlabel=f"epsilon ({threat.norm}, pixels in [0, 1])",
        ylabel="accuracy (%)",
        ylim=(0, 101),
        xlim=(0, 1.02 * sweep.epsilons[-1]),
    )
    figures.legend_below(figure, axes, columns=1)
    return figure


def _gallery(found, class_names):
    words, examples = found
    if not examples:
        return [html_page.paragraph("None.")]
    return [html_page.paragraph(words), html_examples.gallery(examples, class_names)]


def _red_flags(flags):
    if flags is None:
        return [html_page.paragraph("Not looked for (--nored_flags).")]
    parts = [
        html_page.element(
            "div",
            html_page.element("h3", flag.name),
            html_page.paragraph(flag.observation),
            html_page.paragraph(f"{flag.likely_cause} ({flag.source})"),
            class_="flag",
        )
        for flag in flags
    ] or [html_page.paragraph("None found.")]
    return [*parts, html_page.paragraph("Looked for:"), html_page.bullets(RED_FLAG_CHECKS)]
