"""onnxruntime-web: by its hash, once, from the registry or a folder; offline a sentence."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from lrp_fx.app import fetch_runtime, runtime
from lrp_fx.errors import InputError

CONTENT = {name: name.encode() * 10 for name in runtime.FILES}


def _package() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in CONTENT.items():
            info = tarfile.TarInfo(f"package/dist/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[bytes]]:
    """A registry on this machine, whose answer can be changed; its own hashes; an empty cache."""
    answers = [_package()]
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answers[0])

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        digest = hashlib.sha512(answers[0]).digest()
        monkeypatch.setattr(runtime, "INTEGRITY", b64encode(digest).decode())
        hashes = {name: hashlib.sha256(each).hexdigest() for name, each in CONTENT.items()}
        monkeypatch.setattr(runtime, "FILES", hashes)
        yield answers
        server.shutdown()
        thread.join()
    assert len(asked) <= 2


def test_package_is_fetched_once(registry: list[bytes]) -> None:
    """The second time nothing is asked; a damaged file is fetched again."""
    folder = fetch_runtime()
    assert {name: (folder / name).read_bytes() for name in CONTENT} == CONTENT
    registry[0] = b"not asked"
    assert fetch_runtime() == folder
    registry[0] = _package()
    next(folder.iterdir()).write_bytes(b"damaged")
    assert {each.name: each.read_bytes() for each in fetch_runtime().iterdir()} == CONTENT


def test_other_package_is_refused(registry: list[bytes]) -> None:
    """A package with another hash is not unpacked."""
    registry[0] += b"more"
    with pytest.raises(InputError, match="its hash differs"):
        fetch_runtime()
    assert not runtime.cache_folder().exists()


def test_offline_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No registry: it says what to do."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"cannot be fetched .* --ort DIR") as caught:
        fetch_runtime()
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("npm_config_registry", "file:///etc")
    with pytest.raises(InputError, match="a web address"):
        fetch_runtime()


def test_folder_is_checked(registry: list[bytes], tmp_path: Path) -> None:
    """A folder of one's own must hold the same files."""
    for name, content in CONTENT.items():
        (tmp_path / name).write_bytes(content)
    assert fetch_runtime(tmp_path) == tmp_path
    (tmp_path / next(iter(CONTENT))).write_bytes(b"other")
    with pytest.raises(InputError, match="is missing, or is not that of onnxruntime-web"):
        fetch_runtime(tmp_path)
