"""Images in folders: what is read, in which order, and what a stranger's folder may have wrong."""

import numpy as np
import pytest
from PIL import Image

from tfrobust import batches, image_folders
from tfrobust.augmentation import Augmentation


def save(path, colour, size=(40, 30), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)


@pytest.fixture
def root(tmp_path):
    """Three red, two green and one blue training image; one of each to test."""
    for split, counts in (("train", (3, 2, 1)), ("val", (1, 1, 1))):
        for (name, colour), count in zip((("n1", "red"), ("n2", "lime"), ("n3", "blue")), counts, strict=True):
            for i in range(count):
                save(tmp_path / split / name / f"{i}.png", colour)
    (tmp_path / "train" / "n1" / "notes.txt").write_text("no image")
    (tmp_path / "train" / ".cache").mkdir()
    return tmp_path


def test_images_are_read_with_their_labels(root):
    spec = image_folders.spec(root, 20)
    assert (spec.class_names, spec.image_shape, spec.num_classes) == (("n1", "n2", "n3"), (20, 20, 3), 3)
    train = image_folders.load(root, "train", image_size=20)
    # RandomState(0).permutation(6) is 5, 2, 1, 3, 0, 4.
    assert train.labels.tolist() == [2, 0, 0, 1, 0, 1]
    assert train.images.shape == (6, 20, 20, 3) and len(train.images) == 6
    images = train.images[np.array([5, 0])]
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images[:, 7, 7], [[0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(np.asarray(train.images[1:4])[:, 0, 0], [[1, 0, 0], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(train.images[train.labels == 2], images[1:])
    np.testing.assert_array_equal(train.images[5], images[0])


def test_a_slice_decodes_nothing(root):
    train = image_folders.load(root, "train", image_size=20)
    (root / "train" / "n1" / "0.png").write_bytes(b"")
    rest = train.images[1:]
    assert len(rest) == 5
    with pytest.raises(image_folders.ImageFolderError):
        np.asarray(rest)


def test_the_first_examples_are_the_same_ones(root):
    few, all_of_them = (image_folders.load(root, "train", image_size=20, num_examples=count) for count in (4, None))
    assert few.labels.tolist() == all_of_them.labels[:4].tolist()
    decoded = image_folders.in_memory(few).images
    assert isinstance(decoded, np.ndarray) and decoded.shape == (4, 20, 20, 3)
    np.testing.assert_array_equal(decoded, np.asarray(all_of_them.images)[:4])


def test_deep_pixels_are_refused(tmp_path):
    Image.fromarray(np.arange(40_000, dtype=np.uint16).reshape(200, 200)).save(tmp_path / "deep.png")
    with pytest.raises(image_folders.ImageFolderError, match=r"deep.png cannot be read: its pixels have more"):
        image_folders.read_image(tmp_path / "deep.png")


def test_an_image_that_is_all_length_is_refused(tmp_path):
    save(tmp_path / "thin.png", "white", size=(3, 200))
    with pytest.raises(image_folders.ImageFolderError, match=r"thin\.png is 3x200 pixels: too long for a square of it"):
        image_folders.read_image(tmp_path / "thin.png", 20)


def test_the_middle_is_cut_out_of_a_wide_image(tmp_path):
    # 224 of 256 rows, and as many columns in the middle: the left and right thirds are not seen.
    wide = np.zeros([256, 3 * 256, 3], np.uint8)
    wide[:, 256:512] = 200
    wide[:16] = wide[-16:] = 77
    Image.fromarray(wide).save(tmp_path / "wide.png")
    found = image_folders.read_image(tmp_path / "wide.png", 224)
    assert found.shape == (224, 224, 3) and (found == 200).all()


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "png"), ("CMYK", "jpg"), ("P", "png"), ("RGBA", "png"), ("1", "png")]
)
def test_other_colours_become_rgb(tmp_path, mode, suffix):
    save(tmp_path / f"image.{suffix}", "white", mode=mode)
    found = image_folders.read_image(tmp_path / f"image.{suffix}", 20)
    assert found.shape == (20, 20, 3) and found.min() >= 254


def test_synsets_give_labels_of_a_larger_set(root):
    (root / "synsets.txt").write_text("n0 tench\nn1 goldfish\nn2 shark\nn3 ray\n\n")
    assert image_folders.spec(root).num_classes == 4
    assert sorted(image_folders.load(root, "test").labels) == [1, 2, 3]


def test_training_batches_are_decoded_as_they_come(root):
    ramp = np.linspace(0, 1, 30)[:, None] * np.array([60, 90, 120])
    for i, path in enumerate(sorted((root / "train").glob("*/*.png"))):
        Image.fromarray(np.uint8(20 * i + np.broadcast_to(ramp, (30, 30, 3)))).save(path)
    train = image_folders.load(root, "train", image_size=20)
    options = {"batch_size": 4, "seed": 0, "num_steps": 3, "augmentation": Augmentation(10, 0.1, 1, True)}
    stream = batches.training_batches(*train, **options)
    whole = batches.training_batches(*image_folders.in_memory(train), **options)
    for (x, y), (x_whole, y_whole) in zip(stream, whole, strict=True):
        np.testing.assert_array_equal(x, x_whole)
        np.testing.assert_array_equal(y, y_whole)


def test_what_cannot_be_read_is_named(root):
    train = image_folders.load(root, "train", image_size=20)
    broken = root / "train" / "n2" / "1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(image_folders.ImageFolderError, match=r"image .*n2/1\.png cannot be read: "):
        train.images[np.array([0, 5])]
    assert "n2/1.png" in str(train.images.error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "val").rename(root / "validation"), "val or .*test is no folder: --data_dir must hold"),
        (lambda root: (root / "val" / "n9").mkdir(), r"n9 is none of the 3 classes of"),
        (lambda root: [path.unlink() for path in (root / "val").glob("*/*")], "val holds no images: folders of .jpeg"),
        (lambda root: (root / "synsets.txt").write_text("n1\nn1\n"), "must have two classes or more, each once, got 2"),
    ],
)
def test_folders_that_are_not_as_expected(root, change, message):
    change(root)
    with pytest.raises(image_folders.ImageFolderError, match=message):
        image_folders.load(root, "test")


def test_bad_arguments(root):
    with pytest.raises(ValueError, match="split must be one of"):
        image_folders.load(root, "val")
    with pytest.raises(ValueError, match="image_size must be"):
        image_folders.spec(root, 0)
    with pytest.raises(ValueError, match="num_examples must be"):
        image_folders.load(root, "test", num_examples=4)
