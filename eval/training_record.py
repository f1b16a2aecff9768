"""What a training run wrote of itself, found from any of its files."""

import pathlib

# In the folder of a training run, its flags.
FLAGS_FILE = "flags.txt"


def dataset_of(model: str) -> str | None:
    """The --dataset of the run that the path `model` is a part of: its folder, a file in it, or its SavedModel, which
    lies two folders below. None where there is no record."""
    path = pathlib.Path(model)
    folders = [path, path.parent]
    if path.name == "saved_model" or path.parent.name == "saved_model":
        folders.append(path.parent.parent)
    record = next((folder / FLAGS_FILE for folder in folders if (folder / FLAGS_FILE).is_file()), None)
    if record is None:
        return None
    lines = record.read_text(errors="replace").splitlines()
    return next((line.removeprefix("--dataset=") for line in reversed(lines) if line.startswith("--dataset=")), None)
