"""Where an unfinished training of a named model is kept: `MODEL.training/` beside the model.

`training.json` says which training it is; `brick-N.part` is a finished brick, `brick-N.state` the checkpoint of one that
is being trained, `lock` is locked by the process that trains (rank 0): of two trainings of one model at a time the second
one stops with an error that names the first. The lock ends with its process. Nothing here depends on ranks, so a training may go
on with another number of them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..distributed import Communicator
from ..errors import ApmgsrnError, ModelFileError
from ..file.file_lock import FileLock
from ..file.json_text import parse_json
from ..file.manifest import CODERS
from ..file.model_writer import StoredBrick, write_bytes
from ..training.checkpoint import Checkpoint
from ..training.history import COLUMNS

logger = logging.getLogger(__name__)

OURS = re.compile(r"training\.json|brick-\d+\.(part|state)|\.apmgsrn-.*")


@dataclass(frozen=True)
class FinishedBrick:
    """A trained brick.

    Attributes:
        stored: Its weights, for the model file.
        reason: Why its training stopped.
        error: Mean squared error of the stored network, relative to the (transformed) range.
        errors: The same of each array, relative to its own range.
        history: Columns as in `History.table`.
        notes: What a user should know of its training, in lines.
    """

    stored: StoredBrick
    reason: str
    error: float
    errors: tuple[float, ...]
    history: dict[str, np.ndarray] = field(repr=False)
    notes: tuple[str, ...] = ()


class BrickFolder:
    """The folder of one training. Errors in writing checkpoints never end it; those of finished bricks do.

    Args:
        model: Path of the model file.
        interval: Seconds between two checkpoints of a brick; 0: none.
    """

    def __init__(self, model: str, interval: float):
        self._path = Path(str(model) + ".training")
        self._lock_file = self._path / "lock"
        self._lock = FileLock(self._lock_file, str(model))
        self._interval = interval
        self._key = ""
        self._opened = False  # by this rank

    def open(self, key: str, communicator: Communicator) -> set[int]:
        """Collective: make or take up the folder; returns the bricks that are finished. Another training's files go.

        Raises:
            ModelFileError: It cannot be made or read, or another training of this model is under way.
        """
        self._key = key
        return communicator.from_root(self._open)

    def open_again(self) -> None:
        """After `close`, by the rank that had it; nothing while it is open. Raises ModelFileError as `open`."""
        if self._opened and not self._lock.taken:
            self._open()

    def _open(self) -> set[int]:
        try:
            self._take()
            self._opened = True
            if self._stored_key() != self._key:
                if any(self._path.glob("brick-*.part")):
                    logger.warning("%s: the finished bricks there are of another training and are dropped", self._path)
                self._clear()
                write_bytes(self._path / "training.json", json.dumps({"key": self._key}).encode())
            names = [path.name for path in self._path.glob("brick-*.part")]
        except ApmgsrnError:
            raise
        except OSError as error:
            raise ModelFileError(f"{self._path}: expected a folder for checkpoints, found: {error.strerror}") from error
        numbers = {int(name[6:-5]) for name in names if OURS.fullmatch(name)}
        finished = {brick for brick in numbers if self.load(brick) is not None}
        if finished:
            logger.info("%s: %d finished bricks are taken from there", self._path, len(finished))
        return finished

    def _take(self) -> None:
        """Have the folder for this training alone."""
        while True:
            self._path.mkdir(exist_ok=True)
            try:
                return self._lock.take()
            except FileNotFoundError:  # a training that has ended took it away meanwhile
                continue

    def _stored_key(self) -> str:
        try:
            return parse_json((self._path / "training.json").read_bytes())["key"]
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def checkpoint(self, brick: int, attempt: int = 0) -> Checkpoint:
        """Of one attempt to train a brick; there is a file for the last one only."""
        return Checkpoint(self._path / f"brick-{brick}.state", self._interval, f"{self._key}/{attempt}")

    def save(self, finished: FinishedBrick, section: bytes) -> FinishedBrick:
        """Write a finished brick; returns it with its bytes left in the file. Its checkpoint goes."""
        stored = finished.stored
        head = {
            "key": self._key, "entry": stored.entry, "length": stored.length, "sha256": stored.sha256,
            "time": stored.time, "coder": stored.coder,
            "reason": finished.reason, "error": finished.error, "errors": list(finished.errors),
            "notes": list(finished.notes),
            "history": {name: column.tolist() for name, column in finished.history.items()},
        }  # fmt: skip
        path = self._part(stored.brick)
        write_bytes(path, json.dumps(head).encode() + b"\n" + section)
        self.checkpoint(stored.brick).remove()
        return replace(finished, stored=replace(stored, read=_reader(path, stored.length)))

    def load(self, brick: int) -> FinishedBrick | None:
        """A finished brick of this training; None when there is none or its file is damaged."""
        path = self._part(brick)
        try:
            with open(path, "rb") as file:
                head, section = parse_json(file.readline(), strict=False), file.read()
            whole = len(section) == head["length"] and hashlib.sha256(section).hexdigest() == head["sha256"]
            if not whole or head["key"] != self._key:
                raise ValueError("the checksum does not match")
            history = _history_of(head["history"])
            _check_entry(head)
            stored = StoredBrick(
                brick, head["entry"], head["length"], head["sha256"], _reader(path, head["length"]), head["time"], head["coder"]
            )
            errors = tuple(float(error) for error in head["errors"])
            notes = tuple(map(str, head.get("notes", ())))
            return FinishedBrick(stored, head["reason"], float(head["error"]), errors, history, notes)
        except FileNotFoundError:
            return None
        except (AttributeError, OSError, OverflowError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s is damaged and is trained again: %s", path, error)
            return None

    def take(self, brick: int) -> FinishedBrick:
        """`load`, of a brick that is known to be there. Raises ModelFileError when it is not."""
        finished = self.load(brick)
        if finished is None:
            raise ModelFileError(f"{self._part(brick)}: expected a finished brick, found none; is the folder shared by all ranks?")
        return finished

    def remove(self) -> None:
        """When the model is there: the folder goes, unless it holds something that is not ours, or is another training's."""
        try:
            self._lock.take()
            self._clear()
            self._lock_file.unlink()
            self._path.rmdir()
        except OSError as error:
            logger.warning("%s stays: %s", self._path, error.strerror or error)
        finally:
            self.close()

    def close(self) -> None:
        """Let another training have the folder; what is in it stays."""
        self._lock.release()

    def _clear(self) -> None:
        for path in self._path.iterdir():
            if OURS.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _part(self, brick: int) -> Path:
        return self._path / f"brick-{brick}.part"


def _history_of(columns: dict) -> dict[str, np.ndarray]:
    """The columns of a history, equally long, of numbers. ValueError: they are not, or some are missing."""
    history = {name: np.array(column, np.int64 if name == "iteration" else np.float64) for name, column in columns.items()}
    if not set(COLUMNS) <= set(history) or any(column.shape != history["iteration"].shape for column in history.values()):
        raise ValueError(f"expected a history with {', '.join(COLUMNS)}, equally long, found {', '.join(history)}")
    if history["iteration"].ndim != 1:
        raise ValueError("expected a history of columns, found other shapes")
    return history


def _check_entry(head: dict) -> None:
    """ValueError unless the entry of a brick is of the kinds that `save` writes; what is in it is checked with the whole model."""
    kinds = {"entry": dict, "length": int, "time": int, "coder": str, "reason": str, "errors": list}
    wrong = [name for name, kind in kinds.items() if not isinstance(head[name], kind)]
    if wrong or head["coder"] not in CODERS or head["length"] < 1 or any(float(e) < 0 for e in [head["error"], *head["errors"]]):
        raise ValueError(f"expected {', '.join(wrong) or 'a coder, a length and errors'} of another kind")


def _reader(path: Path, length: int) -> Callable[[], bytes]:
    """Reads the section at the end of a part file."""

    def read() -> bytes:
        with open(path, "rb") as file:
            file.seek(-length, 2)
            return file.read()

    return read
