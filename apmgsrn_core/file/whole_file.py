"""Files that are written whole or not at all: beside their target, flushed to the disk, then renamed.

The temporary file is locked while it is written, so that the next one who writes in that folder knows one that was left by a
process that was killed, and deletes it.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import ApmgsrnError, ModelFileError
from .file_lock import has_name, locked

logger = logging.getLogger(__name__)

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


@contextmanager
def errors_of(path: Path, size: int = 0) -> Iterator[None]:
    """Turns the system's errors into ModelFileError that name the file; of a full disk also what it would have taken (`size`
    bytes, 0: unknown) and what is free."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ApmgsrnError):
            raise
        raise ModelFileError(f"{path}: cannot be written: {error.strerror}{_room(path, error, size)}") from error


def _room(path: Path, error: OSError, size: int) -> str:
    """What is said of a full disk; "" of other errors."""
    if error.errno not in FULL:
        return ""
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return ""
    expected = f"expected room for {size} bytes" if size else "expected room for it"
    return f"; {expected}, found {free} bytes free"


def check_writable(path: str | os.PathLike) -> None:
    """Raise ModelFileError when a file could not be written there; leaves nothing behind."""
    path = Path(path)
    if path.is_dir():
        raise ModelFileError(f"{path}: expected a file name, found a folder")
    try:
        handle, name = tempfile.mkstemp(prefix=_prefix(), dir=path.parent)
    except OSError as error:
        raise ModelFileError(f"{path}: the folder {str(path.parent)!r} cannot be written: {error.strerror}") from error
    os.close(handle)
    Path(name).unlink(missing_ok=True)  # another process may take it for one that was left


@contextmanager
def replacing(path: Path, size: int = 0) -> Iterator[BinaryIO]:
    """A temporary file beside `path` that takes its place when the block has ended without an error.

    Args:
        path: Of the file.
        size: That it will have, for the message where there is no room; 0: not known.

    Raises:
        ModelFileError: The folder does not exist or cannot be written, the disk is full. An older file stays.
    """
    check_writable(path)
    with errors_of(path, size):
        drop_left(path.parent)
        handle, name = _temporary_file(path.parent)
        try:
            with open(name, "wb", opener=lambda *_: handle) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if os.name == "nt":  # an open file has no new name there
                    file.close()
                os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _prefix() -> str:
    """Of the temporary files of this computer."""
    return f".apmgsrn-{re.sub(r'[^A-Za-z0-9]', '_', socket.gethostname())}-"


def _temporary_file(folder: Path) -> tuple[int, str]:
    """A new file, open and locked, and its name."""
    while True:
        name = str(folder / (_prefix() + secrets.token_hex(8)))
        try:  # with the permissions of any new file, unlike those of tempfile
            handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        except FileExistsError:
            continue
        if locked(handle) is not False and has_name(handle, name):
            return handle, name
        os.close(handle)  # before it was locked another process took it for one that was left: it is deleted, or will be


def drop_left(folder: Path) -> None:
    """Delete what processes of this computer that were killed have left: temporary files that nobody has locked."""
    for path in folder.glob(_prefix() + "*"):
        try:
            handle = os.open(path, os.O_RDWR)
        except OSError as error:
            logger.debug("%s stays: %s", path, error)
            continue
        if locked(handle):
            path.unlink(missing_ok=True)
        os.close(handle)
