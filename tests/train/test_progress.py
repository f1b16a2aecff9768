"""Progress of training on terminals."""

import fcntl
import os
import pty
import struct
import sys
import termios

import pytest

from train.progress import Progress


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (24, 0), (0, 120), (24, 120)])
def test_a_terminal_that_does_not_know_its_size_shows_the_bar(rows, columns, monkeypatch):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        progress = Progress(total_steps=9, start_step=3, every=5, batch_size=2, averages=None)
        progress.on_train_begin()
        progress.on_train_end()
        terminal.flush()
        shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "3/9" in shown
