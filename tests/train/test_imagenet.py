"""Training on a folder of images, and Deep Defense of what comes out."""

import json

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from eval import common, curve_files, data_flags, deep_defense
from train import deep_defense as train_deep_defense
from train import imagenet

# Traced in a third of a residual network's time.
SMALL = "--architecture=small"
FEW = [
    "--dataset=imagefolder",
    "--image_size=24",
    "--training_batch_size=8",
    "--max_num_training_steps=6",
    "--num_output_steps=3",
    "--num_checkpoint_steps=3",
    "--loss_reduction=mean",
    "--num_eval_examples=10",
    "--precision=float32",
    "--optimizer=momentum",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Bright and dark images with noise, JPEG, of two classes."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 5)):
        for name, level in (("bright", 180), ("dark", 60)):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(rng.normal(level, 30, [32, 40, 3]), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i:02}.JPEG")
    return folder


@flagsaver.flagsaver
def call(main, *arguments):
    common.guarded(main, flags.FLAGS(["program", *FEW, *arguments]))


@pytest.mark.parametrize("network", [SMALL, pytest.param("--architecture=resnet18", marks=pytest.mark.slow)])
def test_train_then_deep_defense(root, tmp_path, capsys, network):
    shared = [f"--data_dir={root}"]
    call(
        imagenet.main,
        *shared,
        network,
        f"--model_dir={tmp_path / 'natural'}",
        "--noadversarial",
        "--learning_rate=0.01",
    )
    report = json.loads((tmp_path / "natural" / "report.json").read_text())
    assert report["num_examples"] == 10 and report["threat_model"]["epsilon"] == pytest.approx(4 / 255)
    assert report["flags"]["dataset"] == "imagefolder" and report["clean_accuracy"] >= 0.5
    assert (tmp_path / "natural" / "adversarial_examples.png").stat().st_size > 2000
    tuned = [f"--reference={tmp_path / 'natural'}", f"--model_dir={tmp_path / 'tuned'}"]
    call(
        *(train_deep_defense.main, *shared, *tuned, "--learning_rate=0.001", "--deepfool_iterations=2"),
        *("--lambda=5", "--c=500", "--d=5", "--curve_examples=4"),
    )
    found = json.loads((tmp_path / "tuned" / "report.json").read_text())
    rows = curve_files.read(tmp_path / "tuned" / "curve.csv")
    assert [row["step"] for row in rows] == [0, 3, 6] and rows[2]["rho2"] > 0 < found["rho2"]
    assert found["method"] == "deep_defense" and found["steps"] == 6 and found["num_examples"] == 10
    assert "step 6/6" in capsys.readouterr().out


def test_a_broken_image_ends_training_by_its_name(root, tmp_path, capsys):
    broken = root / "train" / "bright" / "05.JPEG"
    whole = broken.read_bytes()
    try:
        broken.write_bytes(whole[:200])
        with pytest.raises(SystemExit) as stopped:
            call(imagenet.main, SMALL, f"--data_dir={root}", f"--model_dir={tmp_path / 'run'}", "--noadversarial")
    finally:
        broken.write_bytes(whole)
    error = capsys.readouterr().err
    assert stopped.value.code == 1 and "05.JPEG cannot be read" in error and "Traceback" not in error


def test_another_folder_is_another_run(root, tmp_path, capsys):
    arguments = [SMALL, f"--model_dir={tmp_path / 'run'}", "--noadversarial", "--max_num_training_steps=1"]
    call(imagenet.main, f"--data_dir={root}", *arguments)
    with pytest.raises(SystemExit):
        call(imagenet.main, f"--data_dir={root}/", *arguments)
    assert "holds a run with other flags (--data_dir was" in capsys.readouterr().err


def test_more_than_memory_holds_is_refused(root, monkeypatch, capsys):
    monkeypatch.setattr(data_flags, "_MOST_BYTES", 9 * 24 * 24 * 3 * 4)
    with pytest.raises(SystemExit):
        call(imagenet.main, f"--data_dir={root}", "--model_dir=none", "--noadversarial")
    assert (
        "num_eval_examples must be 9 or less, because test images are held in memory, got 10" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (imagenet.main, [], "data_dir must be given for imagefolder: --data_dir=FOLDER, which holds train and val"),
        (imagenet.main, ["--data_dir=nowhere"], "nowhere/train is no folder"),
        (imagenet.main, ["--dataset=mnist"], "dataset must be imagefolder here, got 'mnist'"),
        (
            imagenet.main,
            ["--data_dir={root}", "--architecture=vgg"],
            "architecture must be one of resnet18, alexnet, small",
        ),
        (imagenet.main, ["--data_dir={root}", "--model_dir=x", "--architecture=alexnet"], "of 63 or more"),
        (
            imagenet.main,
            ["--data_dir={root}", "--model_dir=x", "--store_adv_path=x.npy"],
            "imagefolder is no challenge",
        ),
        (
            train_deep_defense.main,
            ["--data_dir={root}", "--reference={root}", "--model_dir=x", "--method=adv_train_1"],
            "method must not be adv_train_1 for imagefolder",
        ),
        (deep_defense.main, ["--data_dir={root}", "--reference=x.keras"], "reference x.keras does not exist"),
    ],
)
def test_bad_input(root, tmp_path, monkeypatch, capsys, main, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        call(main, *(argument.format(root=root) for argument in arguments))
    error = capsys.readouterr().err
    assert stopped.value.code == 1 and message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
