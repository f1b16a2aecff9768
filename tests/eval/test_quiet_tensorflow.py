"""Importing TensorFlow for the binaries."""

import os
import sys

import pytest

from eval import quiet_tensorflow


def test_one_line_where_tensorflow_is_not_installed(monkeypatch):
    # None is what makes Python say that there is no such module.
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(SystemExit, match=r"^error: TensorFlow is not installed here: activate the environment"):
        quiet_tensorflow.load()


def test_onednn_is_on_unless_the_user_says_no(monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    quiet_tensorflow.load()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1"
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    quiet_tensorflow.load()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"
