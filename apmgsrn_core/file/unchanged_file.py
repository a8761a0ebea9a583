"""Whether what lies under a name is still what was read there, before another file takes its place."""

from __future__ import annotations

import os

from ..errors import ModelFileError


class UnchangedFile:
    """A file, or that there is none, as it is now.

    Args:
        path: Of the file.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = os.fspath(path)
        self._state = self._look()

    def check(self) -> None:
        """Raise ModelFileError when another file lies there, or the file was written over."""
        if self._look() != self._state:
            raise ModelFileError(
                f"{self._path}: expected the file that was there when its time steps were read, found that another program has "
                f"written it meanwhile; it stays as it is. Start again to append to what is there now"
            )

    def _look(self) -> tuple | None:
        try:
            state = os.stat(self._path)
        except OSError:
            return None
        return state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size  # of two files the time may be the same
