"""Checkpoints of a training run."""

import keras
import numpy as np
import pytest
from keras import layers

from tfrobust import checkpoints
from tfrobust.trainers import AdversarialTrainer

X = np.random.default_rng(0).random((8, 8, 8, 1), np.float32)
Y = np.arange(8) % 3


def trainer(*, use_ema=True, filters=4, scaled=False):
    stack = [keras.Input((8, 8, 1)), layers.Conv2D(filters, 3), layers.BatchNormalization(), layers.Flatten()]
    model = AdversarialTrainer(keras.Sequential([*stack, layers.Dense(3)]), None, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(0.01, use_ema=use_ema)
    model.compile(keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer, loss=loss)
    return model


@pytest.fixture
def run(tmp_path):
    """A trainer after three steps with checkpoints of the last two, and its checkpoints."""
    model = trainer()
    saved = checkpoints.TrainingCheckpoints(tmp_path, model)
    checkpoints.save_architecture(tmp_path, model.classifier)
    for step in range(3):
        model.train_on_batch(X, Y)
        if step:
            saved.save()
    return model, saved


def test_restores_every_variable_and_trains_on_alike(run, tmp_path):
    model, _ = run
    other = trainer()
    assert checkpoints.TrainingCheckpoints(tmp_path, other).restore() == 3
    for _ in range(2):
        for a, b in zip(
            [*model.variables, *model.optimizer.variables], [*other.variables, *other.optimizer.variables], strict=True
        ):
            if "seed_generator" not in a.path and "loss" not in a.path:
                np.testing.assert_array_equal(a, b, err_msg=a.path)
        model.train_on_batch(X, Y)
        other.train_on_batch(X, Y)


def test_without_checkpoint_starts_at_0(tmp_path):
    assert checkpoints.TrainingCheckpoints(tmp_path, trainer()).restore() == 0


def test_keeps_the_newest(tmp_path):
    model = trainer()
    saved = checkpoints.TrainingCheckpoints(tmp_path, model, keep=2)
    for _ in range(4):
        model.train_on_batch(X, Y)
        saved.save()
    assert sorted(path.name for path in tmp_path.glob("*.index")) == ["checkpoint-3.index", "checkpoint-4.index"]


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("use_ema", [True, False])
def test_load_classifier_gives_the_averaged_weights_where_there_are_any(tmp_path, use_ema, scaled):
    model = trainer(use_ema=use_ema, scaled=scaled)
    saved = checkpoints.TrainingCheckpoints(tmp_path, model)
    checkpoints.save_architecture(tmp_path, model.classifier)
    for _ in range(3):
        model.train_on_batch(X, Y)
    saved.save()
    before = model.classifier(X).numpy()
    model.optimizer.finalize_variable_values(model.trainable_variables)
    after = model.classifier(X).numpy()
    assert np.array_equal(before, after) != use_ema
    np.testing.assert_array_equal(checkpoints.load_classifier(tmp_path)(X), after)


def test_damage_is_named_and_the_one_before_it_offered(run, tmp_path):
    _, saved = run
    data = tmp_path / "checkpoint-3.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 255
    data.write_bytes(content)
    with pytest.raises(checkpoints.CheckpointError, match="checkpoint-3 cannot be read") as error:
        saved.restore()
    assert "{{" not in str(error.value) and "\n" not in str(error.value)
    assert saved.restore(error.value.previous) == 2


@pytest.mark.parametrize("options", [{"use_ema": False}, {"filters": 5}])
def test_a_checkpoint_of_another_run_is_refused(run, tmp_path, options):
    other = checkpoints.TrainingCheckpoints(tmp_path, trainer(**options))
    with pytest.raises(checkpoints.CheckpointError, match="cannot be read"):
        other.restore()


@pytest.mark.parametrize("content", [None, b"", b"\xff garbage"])
def test_the_list_of_checkpoints_may_be_missing_or_damaged(run, tmp_path, content):
    state = tmp_path / "checkpoint"
    state.unlink() if content is None else state.write_bytes(content)
    model = trainer()
    saved = checkpoints.TrainingCheckpoints(tmp_path, model, keep=2)
    assert saved.restore() == 3
    model.train_on_batch(X, Y)
    saved.save()
    assert sorted(path.name for path in tmp_path.glob("*.index")) == ["checkpoint-3.index", "checkpoint-4.index"]


def test_a_failed_write_takes_away_its_own_pieces_only(run, tmp_path, monkeypatch):
    model, saved = run
    (tmp_path / "checkpoint-40.index").write_bytes(b"of step 40")

    def fail(checkpoint_number):
        (tmp_path / f"checkpoint-{checkpoint_number}.data-00000-of-00001").write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(saved._manager, "save", fail)
    model.train_on_batch(X, Y)
    with pytest.raises(checkpoints.CheckpointError, match="checkpoint-4 cannot be written"):
        saved.save()
    names = {path.name for path in tmp_path.iterdir()}
    assert "checkpoint-40.index" in names and not any(name.startswith("checkpoint-4.") for name in names)


def test_folders_without_checkpoint_or_architecture(run, tmp_path):
    (tmp_path / "architecture.json").write_text("{}")
    with pytest.raises(checkpoints.CheckpointError, match="describes no Keras model"):
        checkpoints.load_classifier(tmp_path)
    (tmp_path / "architecture.json").unlink()
    with pytest.raises(FileNotFoundError, match="no training checkpoint"):
        checkpoints.load_classifier(tmp_path)
