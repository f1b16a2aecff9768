"""Fetches a network that the challenges published.

    python -m eval.fetch_model mnist_secret
    python -m eval.robust_accuracy --model=models/mnist_secret --suite=mnist_table1_whitebox

Names: mnist_natural, mnist_adv_trained, mnist_secret, cifar10_natural, cifar10_adv_trained, cifar10_secret. The model
comes into models/NAME, or another --output_dir: the two challenges' own folders, models/adv_trained and so on, would be
the same. Where its authors published a SHA-256, what comes is compared with it. Without a network, put the zip archive
at models/NAME.zip first.
"""

import pathlib
import sys

from absl import app, flags

from eval import common, tables
from tfrobust import challenge_models

OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where the model goes; default: models/NAME.")
CHECK_SHA256 = flags.DEFINE_bool("check_sha256", True, "Refuse what has another SHA-256 than the published one.")


def main(names: list[str]) -> None:
    """Fetches the one model that `names` has.

    Raises:
      ValueError: for none, several or an unknown one.
      FetchError: if it cannot be had.
    """
    if len(names) != 1 or names[0] not in challenge_models.MODELS:
        known = ", ".join(challenge_models.MODELS)
        raise ValueError(f"name must be one of {known}, got {' '.join(names) or 'none'}")
    model = challenge_models.MODELS[names[0]]
    folder = pathlib.Path(OUTPUT_DIR.value or f"models/{model.name}")
    if folder.exists():
        print(f"{folder} is there already; delete it to fetch {model.name} anew")
        return
    by_hand = challenge_models.archive_by_hand(folder)
    print(f"Taking {by_hand}" if by_hand.exists() else f"Downloading {model.url}", flush=True)
    fetched = challenge_models.fetch(model, folder, check_sha256=CHECK_SHA256.value, on_progress=show_progress)
    tables.clear_progress()
    print(f"SHA256 hash: {fetched.sha256}")
    if fetched.matched:
        print(f"{fetched.matched} has the published SHA-256 ({model.published})")
    elif model.sha256:
        print(f"not compared with the published {model.sha256} ({model.published})")
    else:
        print("its authors published none to compare it with")
    print(f"Extracted model in {folder}")


def show_progress(done: int, total: int | None) -> None:
    """A counter of megabytes on a terminal."""
    if sys.stderr.isatty():
        of = f" of {total / 1e6:.0f}" if total else ""
        print(f"\r{done / 1e6:.0f}{of} MB", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    # The name is a positional argument, as in the original; `guarded` takes flags only.
    app.run(lambda argv: common.guarded(lambda: main(argv[1:]), argv[:1]), flags_parser=common.parse)
