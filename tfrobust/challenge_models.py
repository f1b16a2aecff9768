"""The networks that the MNIST and CIFAR10 challenges published: downloaded, compared with their digest, unpacked.

    fetched = fetch(MODELS["mnist_secret"], "models/mnist_secret")
    classifier = loading.load_classifier(fetched.folder)

Of a folder "models/mnist_secret" a file "models/mnist_secret.zip" is used instead of a download, where there is one.
"""

import dataclasses
import hashlib
import http.client
import os
import pathlib
import shutil
import stat
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Mapping

# Of a download and of what is unpacked; the largest, CIFAR10's, is a few hundred megabytes.
MAX_BYTES = 4 * 2**30
# Without a byte.
TIMEOUT_SECONDS = 60.0
_CHUNK = 2**20
_MNIST = "https://github.com/MadryLab/mnist_challenge_models/raw/master"
_CIFAR10 = "https://www.dropbox.com/s"


class FetchError(OSError):
    """A model cannot be had; the message is one line and says what to do."""


@dataclasses.dataclass(frozen=True)
class PublishedModel:
    """Where a model is.

    Attributes:
      name: challenge and model.
      url: of its zip archive, as in the challenge's fetch_model.py.
      sha256: the digest that its authors published, in hexadecimal; None if there is none.
      published: where they did.
    """

    name: str
    url: str
    sha256: str | None = None
    published: str = ""


@dataclasses.dataclass(frozen=True)
class FetchedModel:
    """What came.

    Attributes:
      folder: of the model.
      sha256: of the zip archive.
      matched: what has the published digest: "the archive" or the name of a file in it; None if nothing was compared.
    """

    folder: pathlib.Path
    sha256: str
    matched: str | None


# The READMEs give the digest of "our model file", which they do not name; MNIST's is that of the archive, against which
# others have compared it. The digest of the issue is what fetch_model.py says of the archive.
MODELS: Mapping[str, PublishedModel] = {
    model.name: model
    for model in (
        PublishedModel("mnist_natural", f"{_MNIST}/natural.zip"),
        PublishedModel("mnist_adv_trained", f"{_MNIST}/adv_trained.zip"),
        PublishedModel(
            "mnist_secret",
            f"{_MNIST}/secret.zip",
            "14eea09c72092db5c2eb5e34cd105974f42569281d2f34826316e356d057f96d",
            "README of MadryLab/mnist_challenge",
        ),
        PublishedModel(
            "cifar10_natural",
            f"{_CIFAR10}/cgzd5odqoojvxzk/natural.zip?dl=1",
            "6af2addfc5bc75e3b16b8654c907a8dfaebeffc600871115460063ade1cd1ee7",
            "MadryLab/cifar10_challenge, issue 30",
        ),
        PublishedModel("cifar10_adv_trained", f"{_CIFAR10}/g4b6ntrp8zrudbz/adv_trained.zip?dl=1"),
        PublishedModel(
            "cifar10_secret",
            f"{_CIFAR10}/ywc0hg8lr5ba8zd/secret.zip?dl=1",
            "555be6e892372599380c9da5d5f9802f9cbd098be8a47d24d96937a002305fd4",
            "README of MadryLab/cifar10_challenge",
        ),
    )
}


def fetch(
    model: PublishedModel,
    folder: str | os.PathLike,
    *,
    check_sha256: bool = True,
    timeout: float = TIMEOUT_SECONDS,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> FetchedModel:
    """Downloads and unpacks a model; the folder is there whole or not at all.

    The folders that an archive wraps around all of its files are left out: `folder` holds the checkpoint itself.

    Args:
      folder: must not exist yet; those above it are made.
      check_sha256: refuse what has another digest than the published one.
      timeout: seconds without an answer after which a download is given up.
      on_progress: called with the bytes that have come, and how many there are if that is known.

    Raises:
      FetchError: if the folder exists, the download fails, the digest is another one, or the archive is none or would
        write outside of the folder.
    """
    folder = pathlib.Path(folder).absolute()
    if os.path.lexists(folder):
        raise FetchError(f"{folder} exists already")
    by_hand = archive_by_hand(folder)
    advice = f"get {model.url} by other means, put it at {by_hand} and try again"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        archive = by_hand
        if not by_hand.exists():
            archive = pathlib.Path(temporary, "download.zip")
            try:
                _download(model.url, archive, timeout, on_progress)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise FetchError(f"{model.name} cannot be downloaded ({error}): {advice}") from error
        try:
            with open(archive, "rb") as file:
                digest = _sha256(file)
            with zipfile.ZipFile(archive) as opened:
                members = _members(opened)
                matched = _compare(model, opened, members, digest) if check_sha256 and model.sha256 else None
                _unpack(opened, members, pathlib.Path(temporary, "model"))
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise FetchError(f"{model.name} came as no zip archive, or a damaged one ({error}): {advice}") from error
        os.rename(pathlib.Path(temporary, "model"), folder)
    return FetchedModel(folder, digest, matched)


def archive_by_hand(folder: str | os.PathLike) -> pathlib.Path:
    """Where an archive is put by hand for `folder`."""
    folder = pathlib.Path(folder).absolute()
    return folder.with_name(f"{folder.name}.zip")


def _download(url, target, timeout, on_progress):
    request = urllib.request.Request(url, headers={"User-Agent": "tfrobust"})
    with urllib.request.urlopen(request, timeout=timeout) as response, open(target, "wb") as file:
        length = response.headers.get("Content-Length")
        total = int(length) if length is not None else None
        done = 0
        while chunk := response.read(_CHUNK):
            done += len(chunk)
            if done > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes")
            file.write(chunk)
            if on_progress:
                on_progress(done, total)
        if total is not None and done != total:
            raise ValueError(f"{done} bytes came of {total}")


def _members(opened):
    """The files of an archive with the path that each gets, [(ZipInfo, path)].

    Raises:
      FetchError: if one is no plain file or its path leaves the folder, or if they are too large together.
    """
    files = [info for info in opened.infolist() if not info.is_dir() and not _is_litter(info.filename)]
    for info in files:
        path, mode = pathlib.PurePosixPath(info.filename), info.external_attr >> 16
        if path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in info.filename:
            raise FetchError(f"the archive would write outside of its folder: {info.filename!r}")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise FetchError(f"the archive has a link or other special file: {info.filename!r}")
    if not files or sum(info.file_size for info in files) > MAX_BYTES:
        raise FetchError(f"the archive must hold files, of {MAX_BYTES} bytes in all at most")
    wrapping = os.path.commonpath([os.path.dirname(info.filename) for info in files])
    return [(info, os.path.relpath(info.filename, wrapping or ".")) for info in files]


def _is_litter(name):
    """Files that macOS adds to archives."""
    return name.startswith("__MACOSX/") or name.rpartition("/")[2] == ".DS_Store"


def _sha256(file):
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _compare(model, opened, members, digest):
    """What has the published digest: "the archive", or the name of a file in it."""
    if digest == model.sha256:
        return "the archive"
    for info, name in members:
        with opened.open(info) as file:
            if _sha256(file) == model.sha256:
                return name
    raise FetchError(
        f"{model.name} has the SHA-256 {digest}, and {model.sha256} is published ({model.published}): it is not what "
        "its authors published; --nocheck_sha256 takes it all the same"
    )


def _unpack(opened, members, folder):
    for info, name in members:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # "x": an archive may hold a name twice. What a file says of its size is where zipfile stops reading.
        with opened.open(info) as source, open(target, "xb") as file:
            shutil.copyfileobj(source, file, _CHUNK)
