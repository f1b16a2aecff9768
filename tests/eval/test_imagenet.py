"""eval.imagenet: what it chooses, attacks, writes and refuses, on squares of a few colours."""

import csv
import json

import keras
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from eval import common, imagenet, imagenet_pictures, imagenet_rows
from tests.eval.pages import Page
from tfrobust.attacks import catalogue
from tfrobust.models.imagenet import CHANNEL_DEVIATION, CHANNEL_MEAN
from tfrobust.threat_models import ThreatModel

SIZE = 12
# Colours of the synsets n0 to n5.
COLOURS = np.array([[220, 30, 30], [30, 220, 30], [30, 30, 220], [210, 210, 40], [40, 210, 210], [210, 40, 210]])
QUICK = [
    *("--num_classes=4", "--images_per_class=2", "--epsilons=0.6", "--targeted_epsilons=0.02,0.6", "--pictures=2"),
    *("--attacks=fgsm,pgd:steps=4", "--targeted_steps=4", "--cw_images=3", "--cw_steps=400", "--cw_searches=5"),
    *("--precision=float32", "--seed=1"),
]


@flagsaver.flagsaver
def call(*arguments):
    common.guarded(imagenet.main, flags.FLAGS(["imagenet", *QUICK, *arguments]))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The path of a classifier that knows the colours: the logits are minus the squared distances of the mean."""
    centres = COLOURS / 255
    dense = keras.layers.Dense(6)
    network = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.GlobalAveragePooling2D(), dense])
    dense.set_weights([20 * centres.T, -10 * np.square(centres).sum(axis=1)])
    path = tmp_path_factory.mktemp("model") / "colours.keras"
    network.save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Five images of each synset; the second of n5 shows another class, and there is more that is of no use."""
    random = np.random.default_rng(0)
    root = tmp_path / "images"
    for label, colour in enumerate(COLOURS):
        (root / f"n{label}").mkdir(parents=True)
        for i in range(5):
            pixels = np.clip(colour + random.integers(-30, 31, (20, 20, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(root / f"n{label}" / f"{i}.png")
    Image.new("L", (20, 20), 128).save(root / "n5" / "0.png")
    Image.new("CMYK", (20, 20), (0, 200, 0, 0)).save(root / "n5" / "1.jpg")
    (root / "n4" / "0.png").write_bytes(b"no picture")
    (root / "n99").mkdir()
    Image.new("RGB", (20, 20)).save(root / "n99" / "0.png")
    (tmp_path / "synsets.txt").write_text("".join(f"n{label} colour {label}\n" for label in range(6)))
    return root


def rows_of(output):
    with open(f"{output}.csv", newline="") as file:
        return {(row["units"], float(row["epsilon"]), row["attack"]): row for row in csv.DictReader(file)}


def test_rows_and_pictures(model, folder, tmp_path, capsys, killed_at):
    output = tmp_path / "reports" / "a"
    arguments = [f"--model={model}", f"--data_dir={folder}", f"--output={output}"]
    measured = killed_at(imagenet_rows, "measure", 4)
    with pytest.raises(SystemExit):
        call(*arguments)
    call(*arguments)
    assert len(measured) == 8
    said = capsys.readouterr()
    # Six images of n5 and five of each other.
    assert "looking at 31 images of 6 classes" in said.out
    rows = rows_of(output)
    assert len(rows) == 2 * (2 + 4) + 1
    assert all(int(row["images"]) == (3 if row["attack"].startswith("cw") else 8) for row in rows.values())
    # A linear classifier on wide noise: every attack succeeds with 0.6 of the range, and none with 0.02.
    for units in ("pixels", "normalized"):
        near, far = (rows[units, epsilon, "bim, targeted"] for epsilon in (0.02, 0.6))
        assert float(near["top1"]) == 1 and float(near["target_top1"]) == 0 and float(near["mean_linf"]) < 0.0201
        assert float(far["target_top5"]) >= float(far["target_top1"])
        assert rows[units, 0.6, "fgsm"]["target_top1"] == "nan"
    assert float(rows["pixels", 0.6, "bim, targeted"]["target_top1"]) > 0.5
    assert float(rows["pixels", 0.6, "pgd:steps=4"]["top1"]) < 0.5
    # 0.6 of a deviation is less than 0.6 of the range.
    assert float(rows["normalized", 0.6, "fgsm"]["top1"]) > float(rows["pixels", 0.6, "fgsm"]["top1"])
    least = rows["pixels", float("inf"), "cw_l2, targeted"]
    assert float(least["target_top1"]) == 1 and float(least["top1"]) == 0
    assert 0 < float(least["mean_l2"]) < float(rows["pixels", 0.6, "bim, targeted"]["mean_l2"])
    settings = json.loads(output.with_suffix(".json").read_text())["settings"]
    assert len(settings["files"]) == len(set(settings["files"])) == 8
    assert [file.split("/")[0] for file in settings["files"]] == [f"n{label}" for label in settings["labels"]]
    assert all(
        t != y and str(t) in settings["names"] for t, y in zip(settings["targets"], settings["labels"], strict=True)
    )
    assert settings["names"][str(settings["labels"][0])] == f"colour {settings['labels'][0]}"
    pictures = [tmp_path / "reports" / f"a_{name}.png" for name in ("targeted", "pictures")]
    sizes = [path.stat().st_size for path in pictures]
    for path in pictures:
        path.unlink()
    call("--redraw", f"--output={output}")
    assert [path.stat().st_size for path in pictures] == sizes and len(measured) == 8


def test_more_pictures_than_images_of_the_l2_attack(model, folder, tmp_path):
    output = tmp_path / "few"
    arguments = ["--pictures=3", "--cw_images=1", "--epsilon_units=pixels", "--targeted_epsilons=", "--epsilons=0,0.6"]
    page = tmp_path / "few.html"
    call(f"--model={model}", f"--data_dir={folder}", f"--output={output}", f"--report={page}", *arguments)
    shown = imagenet_pictures.read(f"{output}.npz")
    assert [(one.attack, one.epsilon, len(one.images)) for one in shown] == [
        ("natural", np.inf, 3),
        ("pixels, fgsm", 0.6, 3),
        ("pixels, pgd:steps=4", 0.6, 3),
        ("pixels, cw_l2, targeted", np.inf, 1),
    ]
    # One of each class, and all of them right.
    assert len(set(shown[0].classes)) == 3
    assert not (tmp_path / "few_targeted.png").exists() and "Images under attack" in Page(page).text


def test_units():
    x = np.random.default_rng(0).random((2, 4, 4, 3), np.float32)
    seen = imagenet_rows.view("normalized", lambda pixels: pixels, x, 0.6)
    np.testing.assert_allclose(seen.images, (x - CHANNEL_MEAN) / CHANNEL_DEVIATION, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen.classifier(seen.images), x, atol=1e-6)
    np.testing.assert_allclose(imagenet_rows.in_pixels("normalized", seen.images), x, atol=1e-6)
    # Nothing within epsilon is clipped.
    assert seen.bounds[0] <= -CHANNEL_MEAN[0] / CHANNEL_DEVIATION[0] - 0.6 and seen.bounds[1] >= 0.6 + 0.6 / 0.224
    assert imagenet_rows.view("pixels", None, x, 0.6).images is x


@flagsaver.flagsaver
def test_norms_of_a_minimum_norm_attack_are_of_what_it_fooled(model):
    flags.FLAGS(["imagenet", "--precision=float32"])
    # Three in the middle of their class, and one near the boundary.
    colours = np.stack([*COLOURS[:3], 0.52 * COLOURS[0] + 0.48 * COLOURS[3]]) / 255
    images = np.broadcast_to(colours[:, None, None], (4, SIZE, SIZE, 3)).astype(np.float32)
    labels, targets = np.array([0, 1, 2, 0]), np.array([5, 5, 5, 5])
    rows, made = {}, {}
    attacks = catalogue.parse("deepfool", ThreatModel("linf", 0.1))
    seen = imagenet_rows.view("pixels", keras.models.load_model(model), images, 0.1)
    imagenet_rows.measure(
        *(seen, labels, targets, attacks), aims=False, on_row=rows.__setitem__, on_images=made.__setitem__
    )
    row, delta = rows["deepfool"], (made["deepfool"] - images).reshape(4, -1)
    assert row["top1"] == 0.75 and 0 < row["mean_linf"] < 0.1
    assert row["mean_linf"] == pytest.approx(np.abs(delta[3]).max())
    assert row["mean_l2"] == pytest.approx(np.linalg.norm(delta[3]))


def test_what_is_of_no_use_is_said_by_name(model, folder, caplog):
    call(f"--model={model}", f"--data_dir={folder}", "--num_classes=5", "--images_per_class=4", "--cw_images=0")
    assert "n99" in caplog.text and "n4/0.png cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data_dir={folder}"], "model must be given"),
        (["--model={model}"], "data_dir must be given"),
        (["--model={model}", "--data_dir=/nowhere"], "/nowhere is no folder"),
        (["--model={model}", "--data_dir={folder}", "--images_per_class=6"], "fewer have n0 (5)"),
        (["--model={model}", "--data_dir={folder}", "--only_synsets=n1,n77"], "only_synsets must be synsets that"),
        (["--model={model}", "--data_dir={folder}", "--synsets={short}"], "synsets must be as many as the 6 classes"),
        (["--model={model}", "--data_dir={folder}", "--synsets=/none"], "/none cannot be read"),
        (["--model={model}", "--data_dir={folder}", "--epsilon_units=grey"], "epsilon_units must be some of"),
        (["--model={model}", "--data_dir={folder}", "--epsilon=0.1"], "epsilon is not for eval.imagenet"),
        (["--model={model}", "--data_dir={folder}", "--epsilons=0.1,8"], "epsilon must be at most 1"),
        (["--model={model}", "--data_dir={folder}", "--only_synsets=n1"], "only_synsets must be two or more"),
        (["--model={model}", "--data_dir={folder}", "--report=a.html"], "report needs --output"),
        (["--model={model}", "--data_dir={folder}", "--attacks=pgdd"], "pgdd"),
        (["--model={model}", "--network=vgg11"], "network must not be given with --model"),
        (["--model={model}", "--weights=w.npz"], "weights are those of a --network"),
        (["--network=vgg11"], "weights must be given for --network=vgg11"),
        (["--network=vgg99"], "network must be one of squeezenet, vgg11"),
        (["--network=squeezenet", "--weights=/none.npz"], "/none.npz must be a .npz file of weights"),
        (["--model={model}", "--data_dir={folder}", "--image_size=50"], "image_size must be 12"),
    ],
)
def test_bad_input(refuses, model, folder, tmp_path_factory, arguments, message, monkeypatch, tmp_path):
    # Elsewhere than where nothing may be left.
    elsewhere = tmp_path_factory.mktemp("data")
    for path in list(tmp_path.iterdir()):
        path.rename(elsewhere / path.name)
    (elsewhere / "short.txt").write_text("n0\nn1\n")
    monkeypatch.setattr(common.logging, "warning", lambda *_: None)
    names = {"model": model, "folder": elsewhere / "images", "short": elsewhere / "short.txt"}
    refuses(call, [argument.format(**names) for argument in arguments], message)
