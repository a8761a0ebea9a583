"""What a training needs to go on after it was cut off: its state as bytes, and the file that holds them.

- A state is nested dicts with text keys; leaves are torch tensors, numpy arrays or JSON values (a tuple becomes a
  list).
- As bytes it is a safetensors buffer; its metadata entry `state` is JSON that describes the tree, with the values that
  are no arrays.
- The file: 8 bytes magic, SHA-256 of what follows, then the bytes of {"key": ..., "state": ...}.
- Nothing is executed on opening it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

import numpy as np
import torch

from ..errors import ConfigError, ModelFileError, one_line
from ..file.json_text import parse_json
from ..file.model_writer import write_bytes
from ..validation import check

logger = logging.getLogger(__name__)

MAGIC = b"\x89APMCP1\n"  # the digit counts the versions of the state
DIGEST_BYTES = 32


def pack_state(state: dict) -> bytes:
    """A state as bytes, copied: what is changed later does not show. TypeError: a leaf of another kind."""
    from safetensors.torch import save

    arrays: dict[str, torch.Tensor] = {}
    text = json.dumps(_describe(state, arrays))
    return save(arrays, {"state": text})


def unpack_state(data: bytes) -> dict:
    """The inverse of `pack_state`; tensors are on the CPU.

    Raises:
        ModelFileError: These are no bytes of a state.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        length = int.from_bytes(data[:8], "little")
        description = parse_json(parse_json(data[8 : 8 + length])["__metadata__"]["state"].encode(), strict=False)
        state = _build(description, load(data))
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ModelFileError(f"not a packed state: {one_line(error)}") from error
    if not isinstance(state, dict):
        raise ModelFileError(f"not a packed state: expected a dict, found {type(state).__name__}")
    return state


def _describe(value, arrays: dict[str, torch.Tensor]) -> list:
    """["dict", {key: ...}], ["torch" or "numpy", name among the arrays, where it is put] or ["json", value]."""
    if isinstance(value, dict):
        return ["dict", {key: _describe(child, arrays) for key, child in value.items()}]
    if isinstance(value, torch.Tensor):
        kind, tensor = "torch", value.detach().to("cpu", copy=True).contiguous()
    elif isinstance(value, np.ndarray):
        native = np.array(value, dtype=value.dtype.newbyteorder("="), order="C")
        kind, tensor = "numpy", torch.from_numpy(native)
    else:
        return ["json", value]
    name = str(len(arrays))
    arrays[name] = tensor
    return [kind, name]


def _build(description: list, arrays: dict[str, torch.Tensor]):
    """The inverse of `_describe`."""
    kind, value = description
    if kind == "dict":
        return {key: _build(child, arrays) for key, child in value.items()}
    if kind == "json":
        return value
    return arrays[value].numpy() if kind == "numpy" else arrays[value]


def check_alike(found, like, where: str = "state") -> None:
    """ConfigError unless a state has the entries of another one: of the same kinds, arrays of the same shapes.

    Args:
        found: From a file.
        like: Of a training that has just begun. What is None there may be anything, an empty dictionary any dictionary, an empty
            array one of any length.
        where: What messages call it.
    """
    if isinstance(like, dict):
        missing = sorted(set(like) - set(found)) if isinstance(found, dict) else [type(found).__name__]
        check(not missing, where, f"the entries {', '.join(like)}", ", ".join(missing))
        for name, child in like.items():
            check_alike(found[name], child, f"{where}: {name}")
    elif isinstance(like, (np.ndarray, torch.Tensor)):
        kind = type(like) if isinstance(like, np.ndarray) else torch.Tensor
        alike = isinstance(found, kind) and found.dtype == like.dtype and found.ndim == like.ndim
        alike = alike and (found.shape == like.shape or 0 in like.shape)
        check(alike, where, f"numbers of shape {tuple(like.shape)}, {like.dtype}", _kind_of(found))
    elif like is not None:
        kinds = {bool: bool, int: int, float: (int, float), tuple: list}.get(type(like), type(like))
        alike = isinstance(found, kinds) and isinstance(found, bool) == isinstance(like, bool)
        check(alike and (not isinstance(found, int) or abs(found) < 1 << 63), where, type(like).__name__, _kind_of(found))


def _kind_of(found) -> str:
    return f"{type(found).__name__} of shape {tuple(found.shape)}" if hasattr(found, "shape") else type(found).__name__


class Checkpoint:
    """The file in which a training leaves its state from time to time. No trouble with it ends the training.

    Args:
        path: Of the file.
        interval: Seconds of training between two saves; 0: none is ever due.
        key: Of everything that decides what the training gives; a file of another key is not taken up.

    Raises:
        ConfigError: The interval is negative or not a number.
    """

    def __init__(self, path: str | os.PathLike, interval: float, key: str):
        if not interval >= 0:
            raise ConfigError(f"interval of checkpoints: expected at least 0 seconds, found {interval}")
        self.path, self.interval, self.key = Path(path), interval, key
        self._now = 0.0
        self._last: float | None = None  # when the last save was due
        self._warned = False

    def due(self, seconds: float) -> bool:
        """Whether the interval has passed at this time of the training, since the last save or the first question."""
        self._now = seconds
        if self._last is None:
            self._last = seconds
        return self.interval > 0 and seconds - self._last >= self.interval

    def save(self, state: dict) -> None:
        """Write a state, whole or not at all; an older file stays when that fails, which is logged once."""
        self._last = self._now
        data = pack_state({"key": self.key, "state": state})
        try:
            write_bytes(self.path, MAGIC + hashlib.sha256(data).digest() + data)
            self._warned = False
            logger.debug("checkpoint %s written, %d bytes", self.path, len(data))
        except OSError as error:
            if not self._warned:
                logger.warning("checkpoint not written, the training goes on without: %s", error)
            self._warned = True

    def load(self) -> dict | None:
        """The state that was saved last; None when there is none of this key. A damaged file is logged in one line."""
        try:
            content = self._read()
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("checkpoint %s cannot be used, the training starts anew: %s", self.path, error)
            return None
        if content["key"] != self.key:
            logger.info("checkpoint %s is of another training", self.path)
            return None
        return content["state"]

    def remove(self) -> None:
        """Delete the file, if there is one."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("checkpoint %s cannot be removed: %s", self.path, error)

    def _read(self) -> dict:
        """The key and the state in the file; OSError, ModelFileError among them, when they cannot be read."""
        file = self.path.read_bytes()
        start = len(MAGIC) + DIGEST_BYTES
        data = file[start:]
        if file[: len(MAGIC)] != MAGIC:
            raise ModelFileError(f"not a checkpoint of this version: it begins with {file[: len(MAGIC)]!r}")
        if hashlib.sha256(data).digest() != file[len(MAGIC) : start]:
            raise ModelFileError("the checksum does not match, the file is damaged")
        found = unpack_state(data)
        if not isinstance(found.get("key"), str) or not isinstance(found.get("state"), dict):
            raise ModelFileError(f"not a checkpoint: expected a key and a state, found {', '.join(found)}")
        return found
