"""The challenges' attack from the command line: what its file holds."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver

from eval import attack_flags, common, pgd_attack
from tfrobust import attack_files, datasets, seeds
from tfrobust.attacks import PGD
from tfrobust.threat_models import ThreatModel

FORMAT = attack_files.FORMATS["digits"]


def run(model, *arguments):
    """The binary in this process."""
    given = [f"--model={model}", "--dataset=digits", "--epsilon=0.1", "--precision=float32", *arguments]
    with flagsaver.flagsaver():
        common.guarded(pgd_attack.main, flags.FLAGS(["pgd_attack", *given]))


def test_stores_the_last_iterate_of_every_image(digits_model, tmp_path, capsys):
    path = tmp_path / "attack.npy"
    run(digits_model, f"--store_adv_path={path}", "--k=7", "--a=0.02", "--seed=5", "--eval_batch_size=90")
    text = capsys.readouterr().out
    assert "Iterating over 4 batches\nbatch size: 90 (90/360" in text and text.count("batch size: 90") == 4
    assert f"Storing examples\nExamples stored in {path}\n(360, 784), pixels from 0 to 1\n" in text
    test = datasets.load("digits", "test")
    x_adv = attack_files.read(path, FORMAT, test.images, 0.1)
    classifier = keras.models.load_model(digits_model)
    attack = PGD(ThreatModel("linf", 0.1), steps=7, step_size=0.02)
    expected = attack(classifier, test.images, test.labels, seed=seeds.per_example(5, tf.range(360)))
    # Rounding may turn the sign of a gradient's entry that is nearly 0.
    assert np.mean(np.abs(x_adv - expected) > 1e-6) < 1e-3
    # What is misclassified anyway is attacked too.
    wrong = classifier.predict(test.images, verbose=0).argmax(axis=1) != test.labels
    moved = np.abs(x_adv - test.images).max(axis=(1, 2, 3))
    assert wrong.any() and moved.min() > 0.09
    accuracy = np.mean(classifier.predict(x_adv, verbose=0).argmax(axis=1) == test.labels)
    assert f"natural: {np.mean(~wrong):.2%}\nadversarial: {accuracy:.2%} " in text and accuracy < np.mean(~wrong) - 0.1


def test_flags_of_the_attack(digits_model, tmp_path, capsys):
    def stored(*arguments):
        run(digits_model, f"--store_adv_path={tmp_path / 'x.npy'}", "--num_eval_examples=20", *arguments)
        return np.load(tmp_path / "x.npy"), capsys.readouterr().out

    first, text = stored("--norandom_start", "--k=1", "--a=0.05", "--loss_func=cw")
    assert "steps=1, step_size=0.05" in text and "kappa=50" in text and "random_start=False" in text
    assert "20 of 360 test examples of digits" in text and first.shape == (20, 784)
    natural = datasets.load("digits", "test", num_examples=20).images.reshape(20, 784)
    assert np.abs(first - natural).max() == pytest.approx(0.05, abs=1e-6)
    again, _ = stored("--norandom_start", "--k=1", "--a=0.05", "--loss_func=cw", "--eval_batch_size=7")
    np.testing.assert_allclose(again, first, atol=1e-6)
    _, text = stored("--k=2")
    assert "steps=2, step_size=0.01" in text and "epsilon=0.1" in text


def test_npz_and_default_path(digits_model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(digits_model, "--num_eval_examples=20", "--k=2")
    assert np.load("attack.npy").shape == (20, 784)
    run(digits_model, "--num_eval_examples=20", "--k=2", "--store_adv_path=x.npz")
    with np.load("x.npz") as file:
        assert file["x_adv"].shape == (20, 28, 28, 1) and file["x_adv"].dtype == np.float32
        np.testing.assert_array_equal(file["x_adv"].reshape(20, 784), np.load("attack.npy"))
        np.testing.assert_array_equal(file["labels"], datasets.load("digits", "test", num_examples=20).labels)
    assert "x_adv (20, 28, 28, 1), pixels from 0 to 1" in capsys.readouterr().out


def test_bad_input_gets_one_line_and_no_file(digits_model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for arguments, message in (
        (["--store_adv_path=x.png"], ".npz or .npy"),
        (["--store_adv_path=file/x.npy"], "cannot be written"),
        (["--norm=l2"], "norm must be linf"),
        (["--num_eval_examples=361"], "num_examples"),
        (["--model=none.keras"], "none.keras does not exist"),
        (["--epsilon=8"], "8/255"),
    ):
        with pytest.raises(SystemExit) as stopped:
            run(digits_model, *arguments)
        errors = capsys.readouterr().err
        assert stopped.value.code == 1 and errors.startswith("error: ") and errors.count("\n") == 1
        assert message in errors
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_attack_that_fails_leaves_the_old_file(digits_model, tmp_path, monkeypatch):
    (tmp_path / "x.npy").write_bytes(b"old")
    monkeypatch.setattr(attack_files, "write", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(SystemExit):
        run(digits_model, f"--store_adv_path={tmp_path / 'x.npy'}", "--num_eval_examples=20", "--k=1")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"] and (tmp_path / "x.npy").read_bytes() == b"old"


def test_defaults_of_the_challenges():
    for dataset, steps, size, epsilon in (("mnist", 40, 0.01, 0.3), ("cifar10", 10, 2 / 255, 8 / 255)):
        with flagsaver.flagsaver():
            flags.FLAGS(["pgd_attack", f"--dataset={dataset}"])
            attack = attack_flags.pgd(common.threat_model())
            assert attack == PGD(ThreatModel("linf", epsilon), steps, size)
