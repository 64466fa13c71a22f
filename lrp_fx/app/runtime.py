"""The two files of onnxruntime-web that the static page needs, from the npm registry or a folder."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import sys
import tarfile
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from lrp_fx._common import write_whole
from lrp_fx.errors import InputError

VERSION = "1.30.0"
INTEGRITY = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
"""SHA-512 of the package, as npm writes it."""
FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""The files and their SHA-256."""
REGISTRY = "https://registry.npmjs.org"
VARIABLE = "npm_config_registry"
"""npm's own name of the registry."""
LARGEST = 64 * 2**20
"""A longer answer of the registry, in bytes, is refused."""
SECONDS = 120
OFFLINE = (
    "the page needs onnxruntime-web {version}, which cannot be fetched ({why}): get the package from "
    "npm on another machine (npm pack onnxruntime-web@{version}), unpack it, and pass its folder "
    "dist as --ort DIR"
)


def fetch_runtime(folder: Path | None = None) -> Path:
    """A folder with the files of onnxruntime-web.

    Args:
        folder: where the files are already; None for the user's cache, which is filled from the npm
            registry once. ``npm_config_registry`` names another registry.

    Returns:
        The folder. Each file has the right hash.

    Raises:
        InputError: if the files are missing or others, or the registry cannot be reached.
    """
    if folder is not None:
        for name in FILES:
            if not _right(folder / name):
                raise InputError(
                    f"{folder / name} is missing, or is not that of onnxruntime-web {VERSION}"
                )
        return folder
    kept = cache_folder()
    if not all(_right(kept / name) for name in FILES):
        _unpack(_download(), kept)
    return kept


def cache_folder() -> Path:
    """The folder of the user's cache for this version."""
    home = Path.home()
    usual = {
        "darwin": home / "Library" / "Caches",
        "win32": Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")),
    }.get(sys.platform, home / ".cache")
    return Path(os.environ.get("XDG_CACHE_HOME") or usual) / f"lrp_fx/onnxruntime-web-{VERSION}"


def _right(file: Path) -> bool:
    """Whether a file is there and has its hash."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() == FILES[file.name]
    except OSError:
        return False


def _download() -> bytes:
    registry = os.environ.get(VARIABLE, REGISTRY).rstrip("/")
    url = f"{registry}/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
    if not url.startswith(("https://", "http://")):
        raise InputError(f"npm_config_registry must be a web address, got {registry!r}")
    try:
        with urlopen(url, timeout=SECONDS) as answer:
            content: bytes = answer.read(LARGEST + 1)
    except (OSError, HTTPException) as error:
        why = str(getattr(error, "reason", "") or error)
        raise InputError(OFFLINE.format(version=VERSION, why=why)) from error
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != INTEGRITY:
        raise InputError(
            f"what {registry} sent is not onnxruntime-web {VERSION}: its hash differs, so it is not "
            "used"
        )
    return content


def _unpack(package: bytes, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to the cache {folder}: {error.strerror}") from error
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
        for name in FILES:
            member = archive.extractfile(f"package/dist/{name}")
            assert member is not None, "the hash of the package was right"
            write_whole(folder / name, member.read(), InputError)
