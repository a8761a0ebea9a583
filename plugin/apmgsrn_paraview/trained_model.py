"""Getting the model that some settings and some data ask for: remembered, loaded from its file, or trained."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from dataclasses import dataclass, field

from apmgsrn_core import (
    ModelConfig, ModelFileError, TrainConfig, check_writable, read_header, read_model, training_key, write_bytes,
)  # fmt: skip

HISTORY_COLUMNS = ("iteration", "seconds", "loss", "psnr", "learning_rate")
# What one filter keeps, for an animation that goes back and forth.
REMEMBERED = 256
REMEMBERED_BYTES = 1 << 28


@dataclass(frozen=True)
class TrainingJob:
    """Everything that a training depends on: the data as a view, and the settings."""

    values: object
    grid: object
    name: str
    model: ModelConfig
    train: TrainConfig
    device: str = "auto"
    time: float | None = None
    initial: bytes = b""

    def key(self, content: str) -> str:
        """Equal keys, equal models: a hash of the data's content (given as hash) and of all settings."""
        return training_key(content, self.grid, self.name, self.model, self.train, self.time, self.initial)

    def run(self, key: str, on_progress, on_warning):
        """Train; returns the core's TrainingResult."""
        from apmgsrn_core import train_volume  # the first name that needs torch

        return train_volume(
            self.values, self.grid, name=self.name, model=self.model, train=self.train, device=self.device,
            initial=self.initial or None, time=self.time, key=key, on_progress=on_progress, on_warning=on_warning,
        )  # fmt: skip


@dataclass
class TrainedModel:
    """A model as bytes, the file it is in, and what is told about it."""

    key: str
    data: bytes
    path: str = ""
    status: str = ""
    history: dict = field(default_factory=lambda: {name: () for name in HISTORY_COLUMNS})


@dataclass
class Answer:
    """What all ranks agree on: the model, and where and on what its values lie."""

    model: TrainedModel
    frame: object
    association: str

    @property
    def size(self) -> int:
        return len(self.model.data)


class Memory(dict):
    """The newest entries; the oldest is forgotten, which is the same one on every rank."""

    def keep(self, key, value) -> None:
        self[key] = value
        size = sum(getattr(kept, "size", 0) for kept in self.values())
        while len(self) > REMEMBERED or (size > REMEMBERED_BYTES and len(self) > 1):
            size -= getattr(self.pop(next(iter(self))), "size", 0)


def check_target(path: str) -> None:
    """Before any training: can a model be written to this path?

    Raises:
        ModelFileError: No such folder, not writable, or a file is there that is not a model.
    """
    check_writable(path)
    if os.path.exists(path) and os.path.getsize(path):
        try:
            read_header(path)
        except ModelFileError as error:
            raise ModelFileError(f"ModelFile: will not overwrite a file that is no model ({error})") from None


def load_if_trained(path: str, key: str) -> TrainedModel | None:
    """The model in a file when it is the one with this key, otherwise None."""
    if not path:
        return None
    try:
        if not key or read_header(path).key != key:
            return None
        data = read_model(path)
    except ModelFileError:
        return None  # missing, foreign or damaged: `check_target` decides
    return TrainedModel(key, data, path, f"loaded from {path}, no training needed")


def save(model: TrainedModel, target: str) -> None:
    """Make sure that the model is in `target`, or in a temporary file when that is ""."""
    if target:
        if not _holds(target, model.data):
            check_target(target)
            write_bytes(target, model.data)
        model.path = target
    elif not _holds(model.path, model.data):
        handle, model.path = tempfile.mkstemp(prefix="model-", suffix=".apmgsrn", dir=_temporary_folder())
        os.close(handle)
        write_bytes(model.path, model.data)


def _holds(path: str, data: bytes) -> bool:
    """Whether a file has exactly this content."""
    try:
        if os.path.getsize(path) != len(data):
            return False
        with open(path, "rb") as file:
            return file.read() == data
    except OSError:
        return False


def read_initial(path: str, target: str) -> bytes:
    """The bytes of the model that training starts from; b"" without one.

    Raises:
        ModelFileError: It cannot be read, or it is the file that the result would replace: what was trained
            could then not be told from what it started from, and would be trained again and again.
    """
    if not path:
        return b""
    path = os.path.abspath(os.path.expanduser(path))
    if path == target:
        raise ModelFileError(f"InitialModel and ModelFile: expected two files, found {path!r} in both")
    try:
        return read_model(path)
    except ModelFileError as error:
        raise ModelFileError(f"InitialModel: {error}") from None


_folders: list = []


def _temporary_folder() -> str:
    """A folder for models without a name; it goes away with the process."""
    if not _folders:
        _folders.append(tempfile.mkdtemp(prefix="apmgsrn-"))
        atexit.register(shutil.rmtree, _folders[0], ignore_errors=True)
    return _folders[0]
