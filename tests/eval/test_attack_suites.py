"""The evaluation binary's attacks by name, suites that attack what stands, smallest changes, and resuming."""

import csv
import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver

from eval import attack_warnings, common, robust_accuracy
from tfrobust import export, suites
from tfrobust.attacks import PGD, fgsm
from tfrobust.attacks.deepfool import DeepFool
from tfrobust.attacks.momentum import MomentumPGD
from tfrobust.attacks.multi_targeted import MultiTargeted
from tfrobust.attacks.square import Square
from tfrobust.attacks.targets import TargetedPGD
from tfrobust.attacks.transfer import Transfer
from tfrobust.threat_models import ThreatModel


def run(model, *arguments):
    """The binary in this process."""
    given = [f"--model={model}", "--dataset=digits", "--epsilon=0.1", "--num_examples=40", "--seed=3", *arguments]
    with flagsaver.flagsaver():
        common.guarded(robust_accuracy.main, flags.FLAGS(["robust_accuracy", *given]))


def rows(text):
    """The table's rows as lists of cells, by name."""
    return {line.split("  ")[0].strip(): line.split() for line in text.splitlines() if line and line[0] != "-"}


def test_attacks_by_name(digits_model, tmp_path, capsys):
    output = tmp_path / "report.json"
    run(
        digits_model,
        "--attacks=fgsm,pgd:steps=20:step_size=0.02,square:queries=30",
        f"--output={output}",
        "--nored_flags",
    )
    report, text = json.loads(output.read_text()), capsys.readouterr().out
    assert [attack["name"] for attack in report["attacks"]] == [
        "fgsm",
        "pgd:steps=20:step_size=0.02",
        "square:queries=30",
    ]
    accuracies = [attack["accuracy"] for attack in report["attacks"]]
    assert accuracies[1] <= accuracies[0] < report["clean_accuracy"]
    assert f"{accuracies[1]:.2%}" in rows(text)["pgd:steps=20:step_size=0.02"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attacks=pdg"], "did you mean 'pgd'?"),
        (["--attacks=pgd:step=3"], "did you mean 'steps'?"),
        (["--attacks=r_fgsm", "--norm=l2"], "r_fgsm exists in linf"),
        (["--curve=here"], "curve needs --suite=min_norm"),
        (["--suite=min_norm", "--state=here.npz"], "state, save_adversarial and markdown are for norm-bounded"),
        (["--suite=min_norm", "--norm=l2", "--rows=PGD*"], "rows must match some of 'DeepFool', 'DDN'"),
        (["--suite=min_norm", "--source_b=there"], "sources of black-box rows are for --suite=madry_table1 or"),
    ],
)
def test_bad_input_gets_one_line(digits_model, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        run(digits_model, *arguments)
    errors = capsys.readouterr().err
    assert stopped.value.code == 1 and errors.startswith("error: ") and errors.count("\n") == 1
    assert message in errors


def test_a_suite_that_attacks_what_stands(digits_model, tmp_path, capsys, monkeypatch):
    def small(threat):
        return {"FGSM": fgsm(threat), "PGD": PGD(threat, 20, 0.02), "Square": Square(threat, queries=20)}

    monkeypatch.setitem(suites.SUITES, "autoattack", small)
    output, state = tmp_path / "report.json", tmp_path / "state.npz"
    run(digits_model, "--suite=autoattack", f"--output={output}", f"--state={state}")
    text, first = capsys.readouterr().out, json.loads(output.read_text())
    attacked = [attack["num_attacked"] for attack in first["attacks"]]
    assert attacked[0] == round(40 * first["clean_accuracy"]) > attacked[1] >= attacked[2]
    assert rows(text)["PGD"][1] == str(attacked[1])
    # Again: everything is known, down to the seconds.
    run(digits_model, "--suite=autoattack", f"--output={output}", f"--state={state}")
    assert json.loads(output.read_text())["attacks"] == first["attacks"]
    assert rows(capsys.readouterr().out)["PGD"] == rows(text)["PGD"]
    with pytest.raises(SystemExit):
        run(digits_model, "--suite=autoattack", f"--state={state}", "--seed=4")
    assert "another evaluation" in capsys.readouterr().err


def test_smallest_changes(digits_model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        suites, "min_norm", lambda norm: {"DeepFool": DeepFool(norm), "one step": DeepFool(norm, steps=1)}
    )
    run(digits_model, "--suite=min_norm", "--norm=l2", "--rows=one*")
    table = rows(capsys.readouterr().out)
    assert "one step" in table and "DeepFool" not in table
    output, curve = tmp_path / "report.json", tmp_path / "plots" / "curve"
    run(digits_model, "--suite=min_norm", "--norm=l2", f"--output={output}", f"--curve={curve}")
    table, report = rows(capsys.readouterr().out), json.loads(output.read_text())
    assert set(table) >= {"DeepFool", "one step", "nearest of all"}
    assert report["norm"] == "l2" and report["num_examples"] == 40
    full, short = report["attacks"]
    assert full["success_rate"] == 1 > short["success_rate"]
    assert report["nearest"]["median_distance"] <= full["median_distance"]
    with open(f"{curve}.csv") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["epsilon", "DeepFool", "one step", "nearest of all"]
    values = np.array(lines[1:], float)
    assert values[0, 1] == pytest.approx(report["clean_accuracy"])
    assert np.all(np.diff(values[:, 1:], axis=0) <= 0) and np.all(values[:, 3] <= values[:, 1])
    picture = tf.io.decode_png(tf.io.read_file(f"{curve}.png"))
    assert picture.shape[0] > 300 and len(np.unique(picture)) > 10


def test_a_model_without_gradients_is_attacked_by_what_needs_none(digits_model, tmp_path, capsys):
    classifier = keras.models.load_model(digits_model)
    rounding = keras.layers.Lambda(lambda x: tf.cast(tf.cast(x * 15, tf.int32), tf.float32) / 15)
    x = keras.Input((28, 28, 1))
    export.export_saved_model(keras.Model(x, classifier(rounding(x))), tmp_path / "rounded")
    output = tmp_path / "report.json"
    run(tmp_path / "rounded", "--attacks=fgsm,pgd,square:queries=200", f"--output={output}")
    text, report = capsys.readouterr().out, json.loads(output.read_text())
    assert report["skipped"] == ["fgsm", "pgd"] and [a["name"] for a in report["attacks"]] == ["square:queries=200"]
    assert report["robust_accuracy"] < report["clean_accuracy"]
    assert text.count("must be differentiable") == 1
    with pytest.raises(SystemExit):
        run(tmp_path / "rounded", "--attacks=fgsm,pgd")
    assert "error: classifier must be differentiable" in capsys.readouterr().err


def test_steps_too_short_for_epsilon_are_told_once(caplog, monkeypatch):
    monkeypatch.setattr(attack_warnings, "_warned", [])
    threat = ThreatModel("linf", 0.3)
    for attack in (
        PGD(threat, 10, 0.02),
        PGD(threat, 10, 0.02),
        PGD(threat, 10, 0.03),
        PGD(threat, 40, 0.1, step_decay=0.5),
    ):
        attack_warnings.warn_of_short_steps(attack)
    messages = [record.getMessage() for record in caplog.records]
    assert [message.split(",")[0] for message in messages] == [
        "10 steps of 0.02 reach 0.2",
        # 0.1 + 0.05 + ... is 0.2.
        "40 steps of 0.1 reach 0.2",
    ]


def test_short_steps_within_other_attacks_are_told(caplog, monkeypatch):
    monkeypatch.setattr(attack_warnings, "_warned", [])
    threat = ThreatModel("linf", 0.3)
    short = PGD(threat, 2, 0.01)
    attacks = (
        Transfer(dataclasses.replace(short, steps=3), lambda x: x),
        TargetedPGD(dataclasses.replace(short, steps=4)),
        MultiTargeted(threat, 5, 0.01),
        MomentumPGD(threat, 6, 0.01),
        TargetedPGD(PGD(threat, 40, 0.01)),
        MomentumPGD(threat, 6, 0.05),
    )
    for attack in attacks:
        attack_warnings.warn_of_short_steps(attack)
    assert [record.getMessage()[:7] for record in caplog.records] == [f"{steps} steps" for steps in (3, 4, 5, 6)]


def test_what_has_no_steps_is_not_told(caplog):
    attack_warnings.warn_of_short_steps(Square(ThreatModel("linf", 0.3), queries=10))
    attack_warnings.warn_of_short_steps(fgsm(ThreatModel("linf", 0.3)))
    assert not caplog.records


@flagsaver.flagsaver
def test_an_epsilon_that_reaches_grey_is_told(caplog):
    flags.FLAGS(["robust_accuracy", "--dataset=digits"])
    # Of 784 pixels.
    for threat in (ThreatModel("linf", 0.5), ThreatModel("l2", 14.0), ThreatModel("l1", 392.0)):
        attack_warnings.warn_of_absurd_epsilon("epsilon", threat)
        assert not caplog.records
        attack_warnings.warn_of_absurd_epsilon("training_epsilon", threat.scaled(1.01))
        assert caplog.records.pop().getMessage().startswith("training_epsilon")
        caplog.clear()
    with flagsaver.flagsaver(epsilon=0.6):
        common.threat_model()
    assert "epsilon 0.6 can turn every image into plain grey" in caplog.text
