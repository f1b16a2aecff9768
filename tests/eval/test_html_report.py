"""The page of eval.robust_accuracy: self-contained, well formed, and with the numbers of the report."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver

from eval import common, fallen_examples, html_page, html_report, html_words, radius_sweep, robust_accuracy
from tests.eval.pages import Page
from tfrobust import datasets, madry_tables, reports, suites
from tfrobust.attacks import PGD, Square, fgsm
from tfrobust.attacks.deepfool import DeepFool
from tfrobust.attacks.fmn import FMN
from tfrobust.evaluation import evaluate
from tfrobust.threat_models import ThreatModel

QUICK = ["--dataset=digits", "--num_eval_examples=60", "--epsilon=0.1", "--precision=float32"]
NAME = '<b>"R&D"</b>.keras'
LINF = ThreatModel("linf", 0.1)


@flagsaver.flagsaver
def call(*arguments):
    common.guarded(robust_accuracy.main, flags.FLAGS(["robust_accuracy", *QUICK, *arguments]))


@pytest.fixture
def model(digits_model, tmp_path):
    """A model whose name would break a page that does not escape it."""
    folder = tmp_path / "a<i>'"
    folder.mkdir()
    shutil.copy(digits_model, folder / NAME.replace("/", "|"))
    return folder / NAME.replace("/", "|")


def test_page(model, tmp_path, capsys):
    page, output, state = (tmp_path / name for name in ("new/report.html", "report.json", "state.npz"))
    arguments = [f"--model={model}", f"--report={page}", f"--output={output}", f"--state={state}"]
    call(*arguments, "--report_examples=30")
    printed = capsys.readouterr().out
    assert "report: PGD-40 at 6 epsilons on 30 examples, about " in printed and f"saved {page}" in printed
    found, report = Page(page), json.loads(output.read_text())
    assert str(model) in found.text and f"Robustness of {model.parent.name}/{model.name}" in found.text
    rows = {row[0]: row for row in found.rows}
    assert rows["worst case of all"][1] == f"{report['robust_accuracy']:.2%}"
    assert rows["natural images"][1] == f"{report['clean_accuracy']:.2%}"
    for attack in report["attacks"]:
        assert rows[attack["name"]][1] == f"{attack['accuracy']:.2%}" and attack["attack"] in found.text
    names = [row[0] for row in found.rows]
    assert names.index("worst case of all") < names.index("PGD-40") < names.index("FGSM")
    assert "may change every pixel by up to 0.1 (25.5/255)" in found.text
    assert f"Seed {report['seed']}. Attack gradients are computed in float32" in found.text
    # The sweep, on its own examples.
    sweep = [row for row in found.rows if len(row) == 3 and row[1].endswith("%")][-7:]
    assert [row[0] for row in sweep] == [html_words.radius(0.1 * part) for part in (0, *radius_sweep.PARTS)]
    accuracies = [float(row[1][:-1]) for row in sweep]
    assert accuracies == sorted(accuracies, reverse=True) and accuracies[0] > accuracies[-1]
    assert "Measured on the first 30 examples with PGD-40" in found.text and "seconds beyond the table" in found.text
    assert "Looked for:" in found.text and "upper bound" in found.text and report["command"] in found.text
    assert [image["alt"][:8] for image in found.images[1:4]] == ["natural ", "adversar", "differen"]
    # A second time nothing is attacked but for the sweep, which may be left out.
    call(*arguments, "--report_examples=0", "--nored_flags")
    again = Page(page)
    assert [row for row in again.rows if row[0] == "FGSM"] == [rows["FGSM"]]
    assert "Not measured" in again.text and "Not looked for" in again.text and "Fell to FGSM." in again.text


def test_classes_and_their_numbers(digits_model, tmp_path):
    page = tmp_path / "report.html"
    adversarial = tmp_path / "x.npz"
    call(f"--model={digits_model}", "--attacks=fgsm", "--report_examples=0", f"--report={page}", "--nored_flags")
    call(f"--model={digits_model}", "--attacks=fgsm", f"--save_adversarial={adversarial}", "--nored_flags")
    saved = np.load(adversarial)
    images = datasets.load("digits", "test", num_examples=60).images
    natural_classes = keras.models.load_model(digits_model).predict(images, verbose=0).argmax(axis=1)
    rows = [row for row in Page(page).rows if len(row) == 5 and row[0] in "0123456789"]
    assert [row[0] for row in rows] == list("0123456789")
    for label, (_, count, robust, natural, taken_for) in enumerate(rows):
        of_class = saved["labels"] == label
        stands = saved["predictions"][of_class] == label
        assert int(count) == of_class.sum() and robust == f"{stands.mean():.1%}"
        assert natural == f"{np.mean(natural_classes[of_class] == label):.1%}"
        assert (f" of {(~stands).sum()})" in taken_for) == (not stands.all())


def test_smallest_changes(model, tmp_path, monkeypatch):
    # The whole suite takes more than a minute.
    quick = {"DeepFool": DeepFool("linf"), "FMN": FMN("linf")}
    monkeypatch.setattr(suites, "min_norm", lambda norm: quick)
    page, output = tmp_path / "report.html", tmp_path / "report.json"
    arguments = [f"--model={model}", "--suite=min_norm", "--num_eval_examples=20", f"--output={output}"]
    call(*arguments, f"--report={page}")
    found, report = Page(page), json.loads(output.read_text())
    rows = {row[0]: row for row in found.rows}
    assert rows["nearest of all"][1] == f"{report['nearest']['median_distance']:.4g}"
    for attack in report["attacks"]:
        assert rows[attack["name"]][1] == f"{attack['median_distance']:.4g}"
    assert "robust accuracy at linf epsilon 0.1" in found.text and len(found.images) > 6


def test_published_numbers_stand_beside(digits_model, tmp_path, monkeypatch):
    monkeypatch.setitem(madry_tables.PUBLISHED_FOR, "madry_table1", ("digits", ThreatModel("linf", 0.1)))
    page = tmp_path / "report.html"
    arguments = ["--suite=madry_table1", "--rows=FGSM", "--report_examples=0", "--nored_flags"]
    call(f"--model={digits_model}", *arguments, f"--report={page}")
    rows = {row[0]: row for row in Page(page).rows}
    accuracy = float(rows["FGSM"][1][:-1])
    assert rows["FGSM"][2] == "95.60%" and float(rows["FGSM"][3]) == pytest.approx(accuracy - 95.6, abs=0.01)
    assert rows["natural images"][2] == "98.80%"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--report=report.txt"], "report must be a file that ends in .html, got 'report.txt'"),
        (["--report=/dev/null/report.html"], "/dev/null/report.html cannot be written"),
    ],
)
def test_paths_are_checked_first(refuses, arguments, message):
    refuses(call, ["--model=/nonexistent.keras", *arguments], message)


# Which examples are shown.


def rounded(x):
    """A classifier of one pixel, above or below 0.5, without a gradient."""
    return tf.pad(10 * (tf.round(255 * tf.reshape(x, [-1, 1])) / 255 - 0.5), [[0, 0], [1, 0]])


def linear(x):
    """The same with one."""
    return tf.pad(10 * (tf.reshape(x, [-1, 1]) - 0.5), [[0, 0], [1, 0]])


PIXELS = np.float32([0.44, 0.2, 0.53, 0.41, 0.0, 0.63, 0.47]).reshape(-1, 1, 1, 1)
# The second is misclassified.
LABELS = np.array([0, 1, 1, 0, 0, 1, 0])


@flagsaver.flagsaver
def measured(classifier, attacks, **values):
    flags.FLAGS(["robust_accuracy", *QUICK])
    for name, value in values.items():
        setattr(flags.FLAGS, name, value)
    test = datasets.Arrays(PIXELS, LABELS)
    report = evaluate(classifier, PIXELS, LABELS, attacks, seed=0)
    return report, test, radius_sweep.measure(classifier, test, report, common.Table(attacks, False))


def test_fell_first_and_never():
    report, test, sweep = measured(linear, {"FGSM": fgsm(LINF), "PGD": PGD(LINF, 5, 0.05)})
    # From 0.44 it is 0.06 to the boundary, more than half of epsilon and less than three quarters.
    np.testing.assert_allclose(sweep.fell_at, [0.075, 0, 0.05, 0.1, np.inf, 0.15, 0.05], atol=1e-9)
    np.testing.assert_allclose(sweep.accuracies, np.array([6, 6, 4, 3, 2, 2, 1]) / 7)
    words, examples = fallen_examples.fell_first(report, test, sweep)
    assert "smallest epsilon" in words and [example.index for example in examples] == [2, 6, 0, 3]
    assert abs(examples[0].x_adv - examples[0].x).max() <= 0.05 + 1e-6 and examples[0].adversarial_prediction == 0
    _, examples = fallen_examples.never_fell(report, test, sweep)
    assert [example.index for example in examples] == [4, 5]
    # Without a sweep.
    _, examples = fallen_examples.fell_first(report, test, None)
    assert [example.index for example in examples] == [0, 2, 3, 6]
    assert {example.words for example in examples} == {"Fell to FGSM."}


def test_a_sweep_without_gradients_takes_what_was_run():
    report, _, sweep = measured(rounded, {"FGSM": fgsm(LINF), "Square": Square(LINF, 50)})
    assert report.skipped == ("FGSM",) and sweep.attack == "Square"
    assert sweep.accuracies[-1] < sweep.accuracies[0]
    with flagsaver.flagsaver():
        flags.FLAGS(["robust_accuracy", *QUICK])
        text = "".join(html_report.attack_table(report))
    assert "Not run, for the model has no gradient: FGSM." in text


def hidden(x):
    """Of class 1 only between 0.485 and 0.545, which one long step from below misses."""
    return tf.pad(10 * (0.03 - tf.abs(tf.reshape(x, [-1, 1]) - 0.515)), [[0, 0], [1, 0]])


def test_a_table_that_says_too_much_is_contradicted(tmp_path):
    page, attacks = tmp_path / "page.html", {"FGSM": fgsm(LINF)}
    for classifier, contradicted in ((hidden, True), (linear, False)):
        report, test, sweep = measured(classifier, attacks)
        with flagsaver.flagsaver():
            flags.FLAGS(["robust_accuracy", *QUICK])
            html_report.write(str(page), "model", classifier, test, report, attacks, None, sweep)
        # The last pixel, 0.47, stands at 0.1 and falls at 0.05.
        assert ("The robust accuracy is at most 14.29%" in Page(page).text) == contradicted
        assert report.robust_accuracy == pytest.approx(2 / 7)


def test_no_sweep():
    attacks = {"FGSM": fgsm(LINF)}
    assert measured(linear, attacks, report_examples=0)[2] is None
    assert measured(linear, {"FGSM": fgsm(ThreatModel("linf", 0.0))})[2] is None
    # No ball in linf is wider than the range of pixels.
    assert measured(linear, {"FGSM": fgsm(ThreatModel("linf", 0.8))})[2].epsilons[-1] == pytest.approx(1.0)
    assert len(measured(linear, attacks, report_examples=3)[2].fell_at) == 3


def test_an_attack_of_a_state_that_did_not_keep_it():
    report, test, _ = measured(linear, {"FGSM": fgsm(LINF)})
    report.fell_to[report.fell_to == 0] = reports.UNKNOWN
    _, examples = fallen_examples.fell_first(report, test, None)
    assert examples[0].words == "Fell to an attack of the part that was resumed."


# Pieces of pages.


def test_text_is_escaped_and_markup_is_not():
    found = html_page.element("p", "a < b & ", html_page.element("b", '"'), title='"<')
    assert found == '<p title="&quot;&lt;">a &lt; b &amp; <b>&quot;</b></p>'
    assert html_page.path("a/<b>") == "a/<wbr>&lt;b&gt;"
    assert "&lt;i&gt;" in html_page.table("<i>", ["<i>"], [["<i>", 1]]) and "<i>" not in html_page.share(0.5)
