"""Locks on files that end with the process that has them, also when it is killed."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from ..errors import ModelFileError

try:
    import fcntl
except ImportError:  # a system without them
    fcntl = None

WITHOUT = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # what file systems without locks say


def locked(handle: int) -> bool | None:
    """Lock an open file: whether that went; None where there are no locks. Closing the file ends it."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in WITHOUT:
            return None
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def has_name(handle: int, path: str | os.PathLike) -> bool:
    """Whether an open file is the one of a name; a file may be gone, or another one there, before it was locked."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


class FileLock:
    """What one training has at a time. On a file system without locks every one gets it.

    Args:
        path: Of a file in a folder that is there; it is made, and says who has the lock.
        what: What is locked, for the message.
    """

    def __init__(self, path: str | os.PathLike, what: str):
        self._path, self._what = Path(path), what
        self._handle: int | None = None

    @property
    def taken(self) -> bool:
        """Whether this one has it."""
        return self._handle is not None

    def take(self) -> None:
        """Take it, unless it is taken already.

        Raises:
            ModelFileError: Another process has it, or another one in this process; the message says which.
            OSError: The file cannot be made.
        """
        while self._handle is None:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            if locked(handle) is False:
                owner = os.pread(handle, 300, 0).decode(errors="replace").strip() or "another process"
                os.close(handle)
                found = "another training in this process" if owner == _name_of_process() else owner
                raise ModelFileError(f"{self._what}: expected nobody else to train it, found {found}")
            if has_name(handle, self._path):
                self._handle = handle
                os.ftruncate(handle, 0)
                os.pwrite(handle, _name_of_process().encode(), 0)
            else:
                os.close(handle)

    def release(self) -> None:
        """Give it up, if it is taken; the file stays."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _name_of_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
