"""Getting the model that some settings and some data ask for: remembered, loaded from its file, or trained."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from dataclasses import dataclass, field

from apmgsrn_core import ModelFileError, check_writable, read_header, read_model, write_bytes

HISTORY_COLUMNS = ("iteration", "seconds", "loss", "psnr", "learning_rate", "brick")
# What one filter keeps, for an animation that goes back and forth.
REMEMBERED = 256
REMEMBERED_BYTES = 1 << 28
LARGE_BYTES = 1 << 26  # a named model of this size is left in its file


@dataclass
class TrainedModel:
    """A model as bytes, the file it is in, and what is told about it.

    A large model with a name is in its file only: its `data` is empty, and another one that is written there ends it.
    """

    key: str
    data: bytes
    path: str = ""
    status: str = ""
    history: dict = field(default_factory=lambda: {name: () for name in HISTORY_COLUMNS})

    def ended_by(self, other: "TrainedModel") -> bool:
        """Whether this model was in a file only, and another one is there now."""
        return not self.data and self.path == other.path and self is not other


@dataclass
class Answer:
    """What all ranks agree on: the model, where its values lie, and whether they are those of a mesh."""

    model: TrainedModel
    frame: object
    of_mesh: bool

    @property
    def size(self) -> int:
        return len(self.model.data)


class Memory(dict):
    """The newest entries; the oldest is forgotten, which is the same one on every rank."""

    def keep(self, key, value) -> None:
        self.pop(key, None)
        self[key] = value
        size = sum(getattr(kept, "size", 0) for kept in self.values())
        while len(self) > REMEMBERED or (size > REMEMBERED_BYTES and len(self) > 1):
            size -= getattr(self.pop(next(iter(self))), "size", 0)

    def forget(self, condition) -> None:
        """Drop the entries whose value fulfils a condition."""
        self.forget_keys(lambda key: condition(self[key]))

    def forget_keys(self, condition) -> None:
        """Drop the entries whose key fulfils a condition."""
        for key in [key for key in self if condition(key)]:
            del self[key]


def describe(result, job, target: str) -> TrainedModel:
    """What is told of a training's result, with its bytes unless it is large and in its file; saved."""
    size = os.path.getsize(target) if result.model is None else len(result.model)
    data = result.to_bytes() if size < LARGE_BYTES or result.model is not None else b""
    steps = steps_of(result.history)
    bricks = f"{job.layout.count} bricks, " if job.layout.count > 1 else ""
    holes = f", {result.missing} values without data" if result.missing else ""
    model = TrainedModel(result.key, data, target, history=result.history)
    model.status = (
        f"trained ({result.stop_reason}): {quality(result)} after {bricks}{steps} iterations"
        f" and {result.seconds:.1f} s{holes}, {size} bytes, ratio {job.byte_count / size:.1f}{kept_bounds(result.shares, len(result.array_psnr))}"
        + "".join(f"; {note}" for note in result.notes)
    )
    save(model, target)
    return model


def show(data: bytes, history: dict, path: str) -> TrainedModel:
    """What is told of a model while it is trained; it is in a temporary file, the one before when there is one."""
    path = path or _temporary_file()
    write_bytes(path, data)
    return TrainedModel("", data, path, history=history)


def kept_bounds(shares, arrays: int) -> str:
    """What every value is within, and what that takes, of a model of so many arrays; "" without an error bound (None)."""
    if shares is None:
        return ""
    named = ", ".join(f"{bound:.4g}" + f" ({name})" * (arrays > 1) for name, bound in shares.bounds.items())
    return f", every value within {named} of the data: {shares}"


def quality(result) -> str:
    """The PSNR, of several arrays each with its name."""
    if len(result.array_psnr) == 1:
        return f"{next(iter(result.array_psnr.values())):.2f} dB"
    return ", ".join(f"{name} {psnr:.2f} dB" for name, psnr in result.array_psnr.items())


def steps_of(history: dict) -> int:
    """Of all bricks together."""
    return sum(dict(zip(history["brick"], history["iteration"])).values())


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
        data = read_model(path) if os.path.getsize(path) < LARGE_BYTES else b""
    except (ModelFileError, OSError):
        return None  # missing, foreign or damaged: `check_target` decides
    return TrainedModel(key, data, path, f"loaded from {path}, no training needed")


def save(model: TrainedModel, target: str) -> None:
    """Make sure that the model is in `target`, or in a temporary file when that is ""."""
    if not model.data:
        return  # it is there already
    if target:
        if not _holds(target, model.data):
            check_target(target)
            write_bytes(target, model.data)
        model.path = target
    elif not _holds(model.path, model.data):
        model.path = _temporary_file()
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


def _temporary_file() -> str:
    handle, path = tempfile.mkstemp(prefix="model-", suffix=".apmgsrn", dir=_temporary_folder())
    os.close(handle)
    return path


def _temporary_folder() -> str:
    """A folder for models without a name; it goes away with the process."""
    if not _folders:
        _folders.append(tempfile.mkdtemp(prefix="apmgsrn-"))
        atexit.register(shutil.rmtree, _folders[0], ignore_errors=True)
    return _folders[0]
