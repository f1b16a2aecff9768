"""Published models: downloaded from a local server, compared, unpacked, and nothing outside of the folder."""

import hashlib
import http.server
import io
import pathlib
import stat
import threading
import zipfile

import pytest

from tfrobust import challenge_models
from tfrobust.challenge_models import MODELS, FetchError, PublishedModel, archive_by_hand, fetch

FILES = {"models/secret/checkpoint": b"one", "models/secret/checkpoint-7.index": b"two", "models/secret/eval/x": b"3"}


def archive(files, *infos):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in [*files.items(), *infos]:
            opened.writestr(name, data)
    return content.getvalue()


def digest(content):
    return hashlib.sha256(content).hexdigest()


def published(tmp_path, content, sha256=None):
    (tmp_path / "served").mkdir(exist_ok=True)
    (tmp_path / "served" / "secret.zip").write_bytes(content)
    return PublishedModel("secret", (tmp_path / "served" / "secret.zip").as_uri(), sha256, "a README")


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(model, folder, **arguments):
    """The message; nothing is left behind but what was there."""
    before = sorted(folder.parent.glob("*")) if folder.parent.exists() else []
    with pytest.raises(FetchError) as raised:
        fetch(model, folder, **arguments)
    assert sorted(p for p in folder.parent.iterdir()) == before
    return str(raised.value)


def test_unpacks_without_the_wrapping_folders(tmp_path):
    content = archive({**FILES, "__MACOSX/models/secret/._x": b"", "models/.DS_Store": b""}, ("models/", b""))
    seen = []
    model = published(tmp_path, content)
    fetched = fetch(model, tmp_path / "new" / "m", on_progress=lambda *numbers: seen.append(numbers))
    assert fetched.folder == tmp_path / "new" / "m" and fetched.sha256 == digest(content) and fetched.matched is None
    assert contents(fetched.folder) == {"checkpoint": b"one", "checkpoint-7.index": b"two", "eval/x": b"3"}
    assert seen == [(len(content), len(content))]
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["m"]
    flat = fetch(published(tmp_path, archive({"a": b"1", "b": b"2"})), tmp_path / "flat")
    assert contents(flat.folder) == {"a": b"1", "b": b"2"}


def test_published_digests(tmp_path):
    content = archive(FILES)
    assert fetch(published(tmp_path, content, digest(content)), tmp_path / "a").matched == "the archive"
    assert fetch(published(tmp_path, content, digest(b"two")), tmp_path / "b").matched == "checkpoint-7.index"
    model = published(tmp_path, content, digest(b"other"))
    message = refused(model, tmp_path / "models" / "c")
    assert digest(content) in message and digest(b"other") in message and "a README" in message
    assert fetch(model, tmp_path / "c", check_sha256=False).matched is None


def test_an_archive_put_there_by_hand(tmp_path):
    model = PublishedModel("secret", "http://127.0.0.1:9/secret.zip", digest(archive(FILES)))
    message = refused(model, tmp_path / "models" / "secret")
    by_hand = tmp_path / "models" / "secret.zip"
    assert (
        f"put it at {by_hand}" in message
        and model.url in message
        and archive_by_hand(by_hand.parent / "secret") == by_hand
    )
    by_hand.write_bytes(archive(FILES)[:-30])
    message = refused(model, tmp_path / "models" / "secret")
    assert str(by_hand) in message and "no zip archive" in message
    by_hand.write_bytes(archive(FILES))
    fetch(model, tmp_path / "models" / "secret")
    assert by_hand.exists() and (tmp_path / "models" / "secret" / "checkpoint").read_bytes() == b"one"


def link(name):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([("../evil", b"")], "outside of its folder"),
        ([("models/../../evil", b"")], "outside of its folder"),
        ([("/tmp/evil", b"")], "outside of its folder"),
        ([("models\\..\\evil", b"")], "outside of its folder"),
        ([("C:/evil", b"")], "outside of its folder"),
        ([(link("models/link"), b"/etc")], "link"),
        ([(link("models/link"), b".."), ("models/link/evil", b"")], "link"),
        ([("models/", b"")], "must hold files"),
        ([("models/large", b"0" * 10_001)], "must hold files, of 10000 bytes in all at most"),
    ],
)
def test_archives_that_are_not_unpacked(tmp_path, monkeypatch, files, message):
    monkeypatch.setattr(challenge_models, "MAX_BYTES", 10_000)
    assert message in refused(published(tmp_path, archive({}, *files)), tmp_path / "models" / "m")
    assert not list(tmp_path.rglob("evil")) and not pathlib.Path("/tmp/evil").exists()


def test_damaged_archives(tmp_path):
    whole = archive({"models/a": bytes(range(256)) * 40})
    flipped = bytearray(whole)
    flipped[60] ^= 255
    for content in (b"", b"<html>Sign in</html>", whole[: len(whole) // 2], bytes(flipped)):
        message = refused(published(tmp_path, content), tmp_path / "models" / "m")
        assert "no zip archive, or a damaged one" in message and "put it at" in message


def test_a_name_twice(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        content = archive({"models/a": b"1"}, ("models/a", b"2"))
    with pytest.raises(OSError, match="exists"):
        fetch(published(tmp_path, content), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_what_is_there_is_left_alone(tmp_path):
    (tmp_path / "m").mkdir()
    assert "exists already" in refused(published(tmp_path, archive(FILES)), tmp_path / "m")


@pytest.fixture
def server():
    """A server that answers as `server.answer` says."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.answer(self)

        def log_message(self, *_):
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def send(handler, content, length=None):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content) if length is None else length))
    handler.end_headers()
    handler.wfile.write(content)


def test_http(tmp_path, server, monkeypatch):
    url = f"http://127.0.0.1:{server.server_port}/secret.zip?dl=1"
    content, model, folder = archive(FILES), PublishedModel("secret", url), tmp_path / "models" / "m"

    server.answer = lambda handler: handler.send_error(404)
    assert "cannot be downloaded (HTTP Error 404" in refused(model, folder)
    server.answer = lambda handler: send(handler, content[:-50], len(content))
    assert "cannot be downloaded" in refused(model, folder)
    released = threading.Event()
    server.answer = lambda handler: (send(handler, content[:10], len(content)), released.wait(20))
    assert "timed out" in refused(model, folder, timeout=0.2)
    released.set()
    server.answer = lambda handler: send(handler, content)
    monkeypatch.setattr(challenge_models, "MAX_BYTES", 100)
    assert "more than 100 bytes" in refused(model, folder)
    monkeypatch.undo()
    assert fetch(model, folder).sha256 == digest(content)


def test_the_published_ones():
    assert list(MODELS) == [f"{c}_{m}" for c in ("mnist", "cifar10") for m in ("natural", "adv_trained", "secret")]
    for name, model in MODELS.items():
        assert model.name == name and model.url.startswith("https://")
        assert f"/{name.partition('_')[2]}.zip" in model.url
        assert (model.sha256 is None) == (model.published == "") and len(model.sha256 or "0" * 64) == 64
