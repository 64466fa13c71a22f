"""Files that are whole or not there, and locks that let one writer in."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from lrp_fx.errors import LRPError, RunError

PART = ".part"
"""The ending of folders in which files are being written."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
BUSY = (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN)


@contextmanager
def writing(place: Path, kind: type[LRPError] = RunError) -> Iterator[None]:
    """Turn errors of the file system into one sentence.

    Args:
        place: the file or folder that is written.
        kind: the type of the error.

    Raises:
        LRPError: of this kind, for any ``OSError`` inside.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise kind(
                f"the disk is full: cannot write to '{place}' ({error.strerror}). What was there before "
                "is safe: make room and run the same again"
            ) from error
        raise kind(f"cannot write to '{place}': {error.strerror or error}") from error


@contextmanager
def appearing(path: Path, kind: type[LRPError] = RunError) -> Iterator[Path]:
    """Write a file that after a crash at any moment is either whole or not there.

    Yields:
        Where to write it: its name in a hidden folder beside it. At the end, all files of this folder
        are synchronized with the disk and moved beside ``path``, and it comes last. A link stays a
        link, to the new content.

    Raises:
        LRPError: of this kind, if it cannot be written; what was there before stays.
    """
    with writing(path, kind):
        place = Path(os.path.realpath(path))
        if place.is_symlink():  # links in a circle
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        with TemporaryDirectory(prefix=".", suffix=PART, dir=place.parent) as folder:
            yield (main := Path(folder, place.name))
            for part in sorted(Path(folder).iterdir(), key=lambda part: (part == main, part)):
                with open(part, "rb+") as file:
                    os.fsync(file.fileno())
                part.replace(place.with_name(part.name))
            _sync_folder(place.parent)


def write_whole(path: Path, content: bytes | memoryview, kind: type[LRPError] = RunError) -> Path:
    """Write a file as :func:`appearing` does.

    Returns:
        The file.

    Raises:
        LRPError: of this kind, if it cannot be written; what was there before stays.
    """
    with appearing(path, kind) as part:
        part.write_bytes(content)
    return path


def _sync_folder(folder: Path) -> None:
    """Make renames in a folder last; a system that cannot open folders does so by itself."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path, what: str, *, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a file. The system frees it when the process ends, however it ends.

    Args:
        path: the file of the lock; it is made, and stays.
        what: the locked object, in words.
        shared: let others with ``shared`` in too.
        wait: wait for the lock.

    Raises:
        RunError: if another process or thread has the lock, or if there can be none.
    """
    with writing(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            _lock(handle, shared, wait)
        except OSError as error:
            if error.errno in BUSY:
                raise RunError(
                    f"another process or thread is writing to {what}: let it end, or end it first"
                ) from None
            raise RunError(
                f"the file system of '{path}' has no locks ({error.strerror}), so nothing would keep a "
                "second writer out: use another one"
            ) from error
        yield
    finally:
        os.close(handle)


def _lock(handle: int, shared: bool, wait: bool) -> None:
    if sys.platform == "win32":
        import msvcrt

        if not shared:  # Windows has no shared locks of this kind
            msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        return
    import fcntl

    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fcntl.flock(handle, how if wait else how | fcntl.LOCK_NB)


def sweep(folder: Path) -> None:
    """Remove the files that a writer left unfinished; only for the holder of the lock."""
    with writing(folder):
        for part in folder.glob(f".*{PART}"):
            shutil.rmtree(part)
