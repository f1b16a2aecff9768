"""Settings and fixtures shared by all tests."""

import os
import pathlib

import keras
import pytest

from tfrobust import datasets


@pytest.fixture(scope="session")
def tfds_data_dir() -> pathlib.Path:
    """A folder in which TFDS has prepared both MNIST and CIFAR-10; skips the test where there is none."""
    beside_the_checkout = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "tensorflow_datasets"
    candidates = [beside_the_checkout, pathlib.Path("~/tensorflow_datasets").expanduser()]
    if os.environ.get("TFDS_DATA_DIR"):
        candidates.insert(0, pathlib.Path(os.environ["TFDS_DATA_DIR"]).expanduser().resolve())
    for folder in candidates:
        if all(any(folder.glob(f"{name}/*/dataset_info.json")) for name in ("mnist", "cifar10")):
            return folder
    pytest.skip("no folder with MNIST and CIFAR-10 as TFDS prepares them: set TFDS_DATA_DIR to one")


@pytest.fixture(scope="session")
def digits_model(tmp_path_factory):
    """The path of a small classifier of `digits`, accurate but for some."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    stack = [layers.AveragePooling2D(2), layers.Conv2D(8, 5, activation="relu"), layers.Flatten(), layers.Dense(10)]
    classifier = keras.Sequential([keras.Input((28, 28, 1)), *stack])
    train = datasets.load("digits", "train")
    classifier.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    classifier.fit(train.images, train.labels, epochs=2, batch_size=100, verbose=0)
    path = tmp_path_factory.mktemp("models") / "first.keras"
    classifier.save(path)
    return path


@pytest.fixture
def refuses(tmp_path, monkeypatch, capsys):
    """Checks that a binary, called with arguments, says one line with `message` and leaves nothing in its folder."""

    def check(call, arguments, message):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as stopped:
            call(*arguments)
        errors = capsys.readouterr().err
        assert stopped.value.code == 1 and message in errors and errors.count("\n") == 1
        assert list(tmp_path.iterdir()) == []

    return check
