"""Fixtures of the tests of training."""

import pytest

from tests.train import small_runs


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder and output of a whole run of 12 steps."""
    model_dir = tmp_path_factory.mktemp("runs") / "whole"
    return model_dir, small_runs.run(model_dir, "--max_num_training_steps=12", "--num_checkpoint_steps=3")
