"""Files of adversarial examples from the command line: scored, or refused in the original's words."""

import pathlib

import keras
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from eval import common, run_attack
from tfrobust import attack_files, datasets, loading

FORMAT = attack_files.FORMATS["digits"]
TEST = datasets.load("digits", "test")
EPSILON = 0.2


def brightness(weight=1.0):
    """Logits k * (10 mean + 0.003 - k / 2) * weight: the class is the mean of the pixels in tenths, rounded; the 0.003
    are there because means of 0.25 do occur."""
    flat = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    classes = np.arange(10)
    flat.layers[-1].set_weights(
        [np.tile(classes * 10 / 784, (784, 1)) * weight, (0.003 - classes / 2) * classes * weight]
    )
    return flat


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A current folder with a model and a valid attack."""
    monkeypatch.chdir(tmp_path)
    brightness().save("model.keras")
    np.save("attack.npy", valid())
    return tmp_path


def valid():
    """Brighter or darker by all of epsilon."""
    return np.where(TEST.images < 0.5, TEST.images + EPSILON, TEST.images - EPSILON).reshape(360, 784)


def run(*arguments):
    """The binary in this process."""
    given = ["--model=model.keras", "--dataset=digits", f"--epsilon={EPSILON}", *arguments]
    with flagsaver.flagsaver():
        common.guarded(run_attack.main, flags.FLAGS(["run_attack", *given]))


def refused(capsys, *arguments):
    """What it prints on a file that it refuses: standard output, and the one line of the error."""
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    captured = capsys.readouterr()
    assert stopped.value.code == 1 and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert not list(pathlib.Path().glob("pred*"))
    return captured.out, captured.err


def test_accuracy_and_predictions(capsys):
    # By hand: the classes of the means of the images as they are in the file.
    expected = np.rint(10 * valid().mean(axis=1) + 0.003).astype(int)
    accuracy = 100 * np.mean(expected == TEST.labels)
    for size in (100, 7, 360, 1000):
        run(f"--eval_batch_size={size}")
        assert capsys.readouterr().out == f"Accuracy: {accuracy:.2f}%\nOutput saved at pred.npy\n"
        predictions = np.load("pred.npy")
        assert predictions.dtype == np.int64
        np.testing.assert_array_equal(predictions, expected)


def test_the_natural_images_and_another_path(tmp_path, capsys):
    np.save("natural.npy", TEST.images.reshape(360, 784))
    run("--store_adv_path=natural.npy", "--epsilon=0", f"--pred_path={tmp_path / 'new' / 'p.npy'}")
    expected = np.rint(10 * TEST.images.mean(axis=(1, 2, 3)) + 0.003).astype(int)
    np.testing.assert_array_equal(np.load(tmp_path / "new" / "p.npy"), expected)
    assert f"Accuracy: {100 * np.mean(expected == TEST.labels):.2f}%" in capsys.readouterr().out


def test_part_of_the_test_set(capsys):
    np.save("attack.npy", valid()[:50])
    out, error = refused(capsys)
    assert out == "Invalid shape: expected (360,784), found (50, 784)\n" and "--num_eval_examples=50" in error
    run("--num_eval_examples=50")
    assert np.load("pred.npy").shape == (50,)
    pathlib.Path("pred.npy").unlink()
    out, _ = refused(capsys, "--num_eval_examples=49")
    assert "expected (49,784), found (50, 784)" in out


def planted(fault):
    """A file's array with one fault."""
    array = valid().astype(np.float64)
    if fault == "NaN":
        array[3, 100] = np.nan
    elif fault == "range":
        array[3, 100] = 1.01
    elif fault == "epsilon":
        array[3, 100] += 0.001 if TEST.images[3].flat[100] < 0.5 else -0.001
    elif fault == "shape":
        array = array.reshape(360, 28, 28)
    elif fault == "order":
        array = np.roll(array, 1, axis=0)
    elif fault == "uint8":
        array = np.rint(array * 255).astype(np.uint8)
    elif fault == "bool":
        array = array > 0.5
    return array


@pytest.mark.parametrize(
    ("fault", "verdict", "reason"),
    [
        ("NaN", "Invalid pixel range. Expected [0, 1], found [nan, nan]", "not finite in 1 of 360"),
        ("range", "Invalid pixel range. Expected [0, 1], found [0.2", "the first being number 3"),
        ("epsilon", "maximum perturbation found: 0.20", "too large in 1 of 360 images, the first being number 3"),
        ("shape", "Invalid shape: expected (360,784), found (360, 28, 28)", "a row for each of 360"),
        ("order", "maximum perturbation found: ", "not in the official order"),
        ("uint8", "Invalid pixel range. Expected [0, 1], found [51, 204]", "divide them by 255"),
        ("bool", "", "pixels must be real numbers, got bool"),
    ],
)
def test_planted_faults(capsys, monkeypatch, fault, verdict, reason):
    monkeypatch.setattr(loading, "load_classifier", None)  # the file is checked first
    np.save("attack.npy", planted(fault))
    out, error = refused(capsys)
    assert out.startswith(verdict) and reason in error
    lines = out.splitlines()
    assert len(lines) == {"epsilon": 2, "order": 2, "bool": 0}.get(fault, 1)
    if len(lines) == 2:
        assert lines[1] == "maximum perturbation allowed: 0.2"


def test_unreadable_files(folder, capsys):
    whole = (folder / "attack.npy").read_bytes()
    for content in (whole[:-100], whole[:40], b"", b"0.1 0.2 0.3\n", None):
        (folder / "attack.npy").unlink()
        if content is not None:
            (folder / "attack.npy").write_bytes(content)
        out, error = refused(capsys)
        assert out == "" and "attack.npy is no valid attack: " in error


def test_models_that_cannot_score(capsys):
    brightness(np.nan).save("model.keras")
    assert "finite logits" in refused(capsys)[1]
    assert "none.keras does not exist" in refused(capsys, "--model=none.keras")[1]
    assert "norm must be linf" in refused(capsys, "--norm=l2")[1]
    assert "cannot be written" in refused(capsys, "--pred_path=attack.npy/pred.npy")[1]
