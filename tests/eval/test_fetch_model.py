"""Published models from the command line; the downloads themselves are tested in tests/test_challenge_models.py."""

import hashlib
import io
import pathlib
import subprocess
import sys
import zipfile

import pytest
from absl import flags
from absl.testing import flagsaver

from eval import common, fetch_model
from tfrobust import challenge_models

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A current folder, where mnist_secret is to be had from a file."""
    monkeypatch.chdir(tmp_path)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("models/secret/checkpoint", b"1")
    pathlib.Path("served.zip").write_bytes(content.getvalue())
    serve(monkeypatch, None)
    return tmp_path


def serve(monkeypatch, sha256):
    url = pathlib.Path("served.zip").absolute().as_uri()
    model = challenge_models.PublishedModel("mnist_secret", url, sha256, "a README")
    monkeypatch.setattr(challenge_models, "MODELS", {**challenge_models.MODELS, "mnist_secret": model})


def run(*arguments):
    """The binary in this process."""
    with flagsaver.flagsaver():
        argv = flags.FLAGS(["fetch_model", *arguments])
        common.guarded(lambda: fetch_model.main(argv[1:]), argv[:1])


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    errors = capsys.readouterr().err
    assert stopped.value.code == 1 and errors.startswith("error: ") and errors.count("\n") == 1
    return errors


def test_fetches_once(capsys):
    run("mnist_secret")
    text = capsys.readouterr().out
    digest = hashlib.sha256(pathlib.Path("served.zip").read_bytes()).hexdigest()
    assert f"SHA256 hash: {digest}\n" in text and "its authors published none" in text
    assert text.endswith("Extracted model in models/mnist_secret\n")
    assert pathlib.Path("models/mnist_secret/checkpoint").read_bytes() == b"1"
    run("mnist_secret")
    assert capsys.readouterr().out.startswith("models/mnist_secret is there already")
    run("mnist_secret", "--output_dir=models/secret")
    assert pathlib.Path("models/secret/checkpoint").read_bytes() == b"1"


def test_digests(capsys, monkeypatch):
    digest = hashlib.sha256(pathlib.Path("served.zip").read_bytes()).hexdigest()
    serve(monkeypatch, digest)
    run("mnist_secret")
    assert "the archive has the published SHA-256 (a README)" in capsys.readouterr().out
    serve(monkeypatch, "0" * 64)
    assert digest in fails(capsys, "mnist_secret", "--output_dir=other")
    assert not pathlib.Path("other").exists()
    run("mnist_secret", "--output_dir=other", "--nocheck_sha256")
    assert f"not compared with the published {'0' * 64}" in capsys.readouterr().out


def test_without_a_network(capsys):
    pathlib.Path("served.zip").rename("kept.zip")
    errors = fails(capsys, "mnist_secret")
    by_hand = pathlib.Path("models/mnist_secret.zip").absolute()
    assert "mnist_secret cannot be downloaded" in errors and f"put it at {by_hand}" in errors
    pathlib.Path("kept.zip").rename(by_hand)
    run("mnist_secret")
    assert f"Taking {by_hand}" in capsys.readouterr().out
    assert pathlib.Path("models/mnist_secret/checkpoint").exists()


@pytest.mark.parametrize("names", [[], ["secret"], ["mnist_secret", "mnist_natural"]])
def test_names(capsys, names):
    errors = fails(capsys, *names)
    assert "name must be one of mnist_natural, mnist_adv_trained, mnist_secret, cifar10_natural" in errors


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--outputdir=x", "error: Unknown command line flag 'outputdir'"),
        ("--flagfile=nowhere", "error: Unable to open flagfile"),
    ],
)
def test_a_wrong_flag_gets_one_line(capsys, argument, message):
    with pytest.raises(SystemExit) as stopped:
        common.parse(["eval.fetch_model", "mnist_secret", argument])
    errors = capsys.readouterr().err
    assert stopped.value.code == 1 and errors.startswith(message) and errors.count("\n") == 1


def test_the_command_takes_a_name():
    done = subprocess.run(
        [sys.executable, "-m", "eval.fetch_model", "nothing"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (
        done.returncode == 1 and done.stderr.startswith("error: name must be one of") and "got nothing" in done.stderr
    )
