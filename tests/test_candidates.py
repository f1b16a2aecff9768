"""Candidates: images of a folder of synsets or of TFDS, and what may be wrong with them."""

import numpy as np
import pytest
from PIL import Image

from tfrobust import candidates, image_folders

SYNSETS = ("n1", "n2", "n3")


@pytest.fixture
def folder(tmp_path):
    """Three images of n1, two of n3, one of a synset that nobody knows, and an empty folder."""
    for name, count in (("n1", 3), ("n3", 2), ("n9", 1)):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.new("RGB", (30, 20), (100 * i, 0, 50)).save(tmp_path / name / f"{i}.png")
    (tmp_path / "n2").mkdir()
    return tmp_path


def test_images_and_labels(folder):
    found = candidates.from_folder(folder, SYNSETS, per_class=2)
    assert found.labels.tolist() == [0, 0, 2, 2] and found.unknown == ("n9",) and len(found) == 4
    images, readable, faults = found.decode(range(4), 16)
    assert images.shape == (4, 16, 16, 3) and images.dtype == np.float32 and not faults
    assert readable.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(images[:, 0, 0, 2], 50 / 255)
    again = candidates.from_folder(folder, SYNSETS, per_class=2)
    assert again.names == found.names
    assert any(candidates.from_folder(folder, SYNSETS, per_class=2, seed=s).names != found.names for s in range(1, 9))


def test_some_classes(folder):
    assert candidates.from_folder(folder, SYNSETS, per_class=9, num_classes=1).labels.tolist() in ([0, 0, 0], [2, 2])
    assert candidates.from_folder(folder, SYNSETS, per_class=1, only=["n3"]).labels.tolist() == [2]
    with pytest.raises(image_folders.ImageFolderError, match="holds no images of n2"):
        candidates.from_folder(folder, SYNSETS, per_class=1, only=["n2", "n3"])


def test_files_that_cannot_be_read_are_named(folder):
    (folder / "n1" / "1.png").write_bytes((folder / "n1" / "1.png").read_bytes()[:40])
    (folder / "n3" / "0.png").write_bytes(b"")
    found = candidates.from_folder(folder, SYNSETS, per_class=9)
    images, readable, faults = found.decode(range(5), 16)
    assert len(images) == len(readable) == 3 and len(faults) == 2
    assert sorted(fault.split(" cannot")[0].rsplit("/", maxsplit=2)[1] for fault in faults) == ["n1", "n3"]
    images, readable, _ = found.decode([], 16)
    assert images.shape == (0, 16, 16, 3) and len(readable) == 0


def test_folders_without_images_or_known_synsets(folder, tmp_path_factory):
    with pytest.raises(
        image_folders.ImageFolderError, match="holds no folder of a synset that the classifier knows, but n1"
    ):
        candidates.from_folder(folder, ("a", "b"), per_class=1)
    with pytest.raises(image_folders.ImageFolderError, match="holds no images: folders of"):
        candidates.from_folder(tmp_path_factory.mktemp("empty"), SYNSETS, per_class=1)
    with pytest.raises(image_folders.ImageFolderError, match="missing is no folder"):
        candidates.from_folder(folder / "missing", SYNSETS, per_class=1)
    with pytest.raises(ValueError, match="per_class must be an integer of at least 1"):
        candidates.from_folder(folder, SYNSETS, per_class=0)


def test_squashed_images_keep_their_borders(tmp_path):
    # The left and right sixth of a wide image are red: cut off by the crop, or kept in part.
    image = np.zeros([60, 180, 3], np.uint8)
    image[:, :30, 0] = image[:, -30:, 0] = 255
    (tmp_path / "n1").mkdir()
    Image.fromarray(image).save(tmp_path / "n1" / "wide.png")
    found = candidates.from_folder(tmp_path, SYNSETS, per_class=1)
    assert found.decode([0], 28)[0].max() == 0
    assert found.decode([0], 28, squash=True)[0][0, :, 0, 0].max() > 0.9


def test_synsets_and_their_names(tmp_path):
    path = tmp_path / "synsets.txt"
    path.write_text("n1 tench, Tinca tinca\n\nn2\nn3 great white shark\n")
    assert candidates.synsets_of(path) == (("n1", "n2", "n3"), ("tench", "n2", "great white shark"))
    path.write_text("n1 a\nn1 b\n")
    with pytest.raises(ValueError, match="synsets must be two or more, each once, got 1 in"):
        candidates.synsets_of(path)
    with pytest.raises(ValueError, match="cannot be read"):
        candidates.synsets_of(tmp_path / "none.txt")


def test_tfds():
    tfds = pytest.importorskip("tensorflow_datasets")
    synsets = candidates.tfds_synsets()
    assert len(synsets) == 1000 and synsets[0] == "n01440764" and list(synsets) == sorted(synsets)
    with tfds.testing.mock_data(num_examples=12):
        found = candidates.from_tfds(None, synsets, per_class=1)
        assert 0 < len(found) <= 12 and len(set(found.labels.tolist())) == len(found)
        images, _, faults = found.decode(range(len(found)), 32)
        assert len(images) + len(faults) == len(found) and images.shape[1:] == (32, 32, 3)
        # A classifier with another order of the classes.
        name = synsets[found.labels[0]]
        other = candidates.from_tfds(None, ["n0", *reversed(synsets)], per_class=9, only=[name])
        assert set(other.labels.tolist()) == {1000 - int(found.labels[0])}
        few = [candidates.from_tfds(None, synsets, per_class=9, num_classes=500, seed=s).labels for s in (1, 2)]
        assert few[0].tolist() != few[1].tolist()
        with pytest.raises(ValueError, match="synsets must be some of imagenet2012's, got n1, n2, n3"):
            candidates.from_tfds(None, SYNSETS, per_class=1)


def test_tfds_that_was_not_prepared(tmp_path):
    with pytest.raises(OSError, match="imagenet2012 must have been prepared by TensorFlow Datasets"):
        candidates.from_tfds(tmp_path, candidates.tfds_synsets(), per_class=1)
