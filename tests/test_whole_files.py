"""Files that are written whole or not at all."""

import os
import stat

import pytest

from tfrobust.whole_files import whole_file


def test_a_new_file_in_a_new_folder(tmp_path):
    path = tmp_path / "new" / "file"
    with whole_file(path) as file:
        file.write(b"content")
        assert not path.exists()
    mask = os.umask(0)
    os.umask(mask)
    assert path.read_bytes() == b"content" and stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("no")])
def test_what_fails_leaves_the_earlier_file(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"earlier")
    with pytest.raises(type(error)) as raised, whole_file(str(path)) as file:
        file.write(b"half")
        raise error
    if isinstance(error, OSError):
        assert str(raised.value) == f"{path} cannot be written (No space left on device); the earlier one is intact"
    assert path.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / "below"
    with pytest.raises(OSError, match=r"file/below cannot be written \(\w.*\)$"), whole_file(path):
        pass
