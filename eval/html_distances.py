"""The page of --suite=min_norm: how far the nearest adversarial images are."""

import numpy as np

from eval import (
    common,
    data_flags,
    fallen_examples,
    figures,
    html_classes,
    html_examples,
    html_page,
    provenance,
    smallest_changes,
)
from eval.html_words import INTERVAL, LIMITS, heading, model_words, with_interval
from tfrobust import datasets
from tfrobust.minimum_norm_evaluation import MinimumNormReport
from tfrobust.threat_models import ThreatModel

_NORMS = {
    "linf": "the largest change of any pixel",
    "l2": "the Euclidean length of the change of all pixels",
    "l1": "the sum of the changes of all pixels",
}


def write(
    path: str, model: str, classifier, test: datasets.Arrays, report: MinimumNormReport, threat: ThreatModel
) -> None:
    """Writes the page; accuracies are at the threat's epsilon.

    Args:
      model: the path of the classifier, its name on the page.
    """
    names = data_flags.dataset_spec().class_names
    epsilon, nearest = _epsilon(report, threat), report.nearest
    standing = nearest.distance > epsilon
    median = nearest.median_distance
    values = {"median of the smallest changes found": (f"{median:.4g}", "half of the examples need no larger one")}
    if epsilon != median:
        at_epsilon = f"robust accuracy at {report.norm} epsilon {epsilon:.4g}"
        values[at_epsilon] = with_interval(float(np.mean(standing)), report.num_examples)
    values["natural accuracy"] = with_interval(report.clean_accuracy, report.num_examples)
    lead = html_page.joined(
        html_page.paragraph(
            f"How much must a test image change before the model takes it for something else? Measured is "
            f"{_NORMS[report.norm]} ({report.norm}), pixels being from 0 to 1."
        ),
        html_page.cards(values),
        html_page.paragraph(INTERVAL, class_="faint"),
    )
    epsilons, found = smallest_changes.curves(report)
    accuracies = found[nearest.name]
    alt = "; ".join(f"epsilon {epsilons[i]:.3g}: {accuracies[i]:.0%}" for i in range(0, len(epsilons), 20))
    curve = figures.png(smallest_changes.figure(report, ""), 240)
    sections = {
        "What was measured": [
            html_page.paragraph(model_words(model, classifier)),
            html_page.paragraph(
                f"{report.num_examples:,} test examples of {data_flags.DATASET.value} in the official order, seed "
                f"{report.seed}. White-box attacks, which know the model and its weights, look for the nearest image "
                f"of another class, with gradients in {report.precision}; class, distance and pixel range of each are "
                "checked, the class by the model itself in float32."
            ),
        ],
        "Attacks": _attack_table(report, epsilon),
        "Accuracy against epsilon": [
            html_page.paragraph(
                "An example stands at all epsilons below the distance of its nearest adversarial image: the curve "
                "costs nothing beyond the table."
            ),
            html_page.plot(curve, f"Accuracy against epsilon under all attacks. {alt}.", density=2),
        ],
        "Classes": [
            html_page.paragraph(
                f"Robust is what stands at epsilon {epsilon:.4g}"
                f"{', the median of the smallest changes' if epsilon == median else ''}."
            ),
            *html_classes.by_class(test.labels, report.clean_predictions, report.predictions, standing, names),
        ],
        "Examples with the smallest changes": _pictures(report, test, names, smallest=True),
        "Examples with the largest changes": _pictures(report, test, names, smallest=False),
        "Red flags": [html_page.paragraph("Not looked for with --suite=min_norm.")],
        "What these numbers do not say": [
            html_page.bullets(
                [
                    "The true smallest change may be smaller: the distances that attacks find are upper bounds.",
                    *LIMITS[:3],
                ]
            )
        ],
        "How to repeat it": html_page.reproduction(provenance.made_by()),
    }
    title = "Smallest adversarial changes of"
    html_page.write(path, f"{title} {model}", heading(title, model), lead, sections)


def _epsilon(report, threat):
    """That of the flags; where they have none, and the norm is not that of the data set's own, the median change."""
    if threat.norm == "linf" or common.EPSILON.value is not None:
        return threat.epsilon
    return report.nearest.median_distance if np.isfinite(report.nearest.median_distance) else threat.epsilon


def _attack_table(report, epsilon):
    rows = sorted(report.attacks, key=lambda row: row.median_distance)
    cells = [
        [
            row.name,
            f"{row.median_distance:.4g}",
            f"{row.mean_distance:.4g}",
            f"{row.success_rate:.2%}",
            f"{row.accuracy_at([epsilon])[0]:.2%}",
            f"{row.seconds:,.1f}",
        ]
        for row in (report.nearest, *rows)
    ]
    header = ["attack", "median change", "mean change", "found", f"accuracy at {epsilon:.4g}", "seconds"]
    caption = "From the strongest attack to the weakest; what is misclassified as it is counts with a change of 0"
    settings = [html_page.joined(f"{row.name}: ", html_page.element("code", row.attack)) for row in rows]
    summary = html_page.element("summary", "The attacks' settings")
    details = html_page.element("details", summary, html_page.bullets(settings))
    return [html_page.table(caption, header, cells, first=1), details]


def _pictures(report, test, names, smallest):
    distance = report.nearest.distance
    (candidates,) = np.nonzero((distance > 0) & np.isfinite(distance))
    candidates = sorted(candidates, key=lambda i: (distance[i] if smallest else -distance[i], i))
    if not candidates:
        return [html_page.paragraph("None.")]
    words = "Those whose nearest adversarial image is nearest." if smallest else "Those that must change most."
    missing = int(np.sum(~np.isfinite(distance)))
    if missing and not smallest:
        words += f" {missing:,} examples for which no adversarial image was found are not among them."
    examples = [
        html_examples.Example(
            index=int(i),
            label=int(test.labels[i]),
            prediction=int(report.clean_predictions[i]),
            x=test.images[i],
            x_adv=report.x_adv[i],
            adversarial_prediction=int(report.predictions[i]),
            words=f"Change {distance[i]:.4g}.",
        )
        for i in candidates[: fallen_examples.SHOWN]
    ]
    return [html_page.paragraph(words), html_examples.gallery(examples, names)]
