"""Writes docs/results.md from docs/results/: its words from page.md, its numbers from the files that programs wrote.

    python -m eval.results

Lines of page.md of these forms are replaced:

    {{ robustness FILE.json ... }}   reports of one model, written by --output of eval.robust_accuracy or by training
    {{ transfer FILE.json }}         the matrix of eval.transfer
    {{ deep_defense FILE.json }}     the table of eval.deep_defense
    {{ study FILE.csv FILE.json }}   the rows of a study, such as eval.landscape's, and what made them
    {{ output FILE.txt }}            what a program printed

To renew a number, run the command that stands below it with --output (or its output sent) to the file, then this.
"""

import json
import pathlib
import re

from absl import flags

from eval import common, markdown, output_files

FOLDER = flags.DEFINE_string("results", "docs/results", "The folder of page.md and of the files that it names.")

_NOTE = "<!-- Written by `python -m eval.results` from docs/results/page.md and the files beside it; do not edit. -->"


def main() -> None:
    """Writes the page beside its folder."""
    folder = pathlib.Path(FOLDER.value)
    page = f"{folder}.md"
    output_files.check_output_path(page)
    text = render(folder)
    with output_files.whole_file(page) as file:
        file.write(text.encode())
    print(f"wrote {page}")


def render(folder: pathlib.Path) -> str:
    """The page with every placeholder replaced.

    Raises:
      ValueError: for a placeholder that is not known, and a file that is missing or is not what its placeholder needs.
    """
    try:
        lines = (folder / "page.md").read_text().splitlines()
    except OSError as error:
        raise ValueError(f"results must be a folder with a page.md, got {str(folder)!r}") from error
    return "\n".join([_NOTE, *(_replaced(line, folder) for line in lines)]) + "\n"


def _replaced(line, folder):
    match = re.fullmatch(r"\{\{ (\w+) (.+) \}\}", line)
    if not match:
        return line
    kind, names = match.group(1), match.group(2).split()
    if kind not in _RENDERERS:
        raise ValueError(f"placeholders must be one of {sorted(_RENDERERS)}, got {line!r}")
    try:
        return _RENDERERS[kind]([(folder / name).read_text() for name in names]).rstrip("\n")
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{line} cannot be rendered: {error!r}") from error


_RENDERERS = {
    "robustness": lambda texts: markdown.robustness([json.loads(text) for text in texts]),
    "transfer": lambda texts: "\n".join(markdown.transfer(json.loads(text)) for text in texts),
    "deep_defense": lambda texts: "\n".join(markdown.deep_defense(json.loads(text)) for text in texts),
    "study": lambda texts: markdown.study(texts[0], json.loads(texts[1])),
    "output": lambda texts: "\n".join(f"```\n{text.strip()}\n```" for text in texts),
}


if __name__ == "__main__":
    common.run(main)
