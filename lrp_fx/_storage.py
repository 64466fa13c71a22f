"""Files that are whole or not there, and locks that let one writer in."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from lrp_fx.errors import RunError

PART = ".part"
"""The ending of files that are being written."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
BUSY = (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn errors of the file system into one sentence.

    Raises:
        RunError: for any ``OSError`` inside.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise RunError(
                f"the disk is full: cannot write to '{place}' ({error.strerror}). What was committed is "
                "safe: make room and run the same again"
            ) from error
        raise RunError(f"cannot write to '{place}': {error.strerror or error}") from error


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file that after a crash at any moment is either whole or not there.

    It is written under another name, synchronized with the disk, and then renamed.

    Raises:
        RunError: if it cannot be written; what was there before stays.
    """
    part = path.with_name(f".{path.name}.{uuid4().hex}{PART}")
    with writing(path):
        try:
            with open(part, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def move_whole(part: Path, path: Path) -> None:
    """Give a file that is ready its name, once it is on the disk."""
    with open(part, "rb+") as file:
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
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
        what: what is locked, in words.
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
            part.unlink(missing_ok=True)
