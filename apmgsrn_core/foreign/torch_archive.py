"""Tensors from a file of `torch.save`, read as data: no class is looked up, and nothing of the file is called.

The file is a zip archive: `NAME/data.pkl`, a pickle that describes objects, and `NAME/data/KEY`, the bytes of each storage.
The opcodes of the pickle are followed here one by one. Names of functions stay text, and only those that dictionaries of
tensors need are understood; torch's own restricted loader knows many more.

Source: the opcodes are documented in Python's `pickletools`, the archive in torch's `serialization.py`.
"""

from __future__ import annotations

import math
import os
import pickletools
import struct
import zipfile
from dataclasses import dataclass

import numpy as np

from ..errors import ModelFileError, one_line

STORAGES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4",
    "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip
MOST_PICKLE = 1 << 26  # bytes of a description
MOST_NAME = 200  # characters of a key, a function or a storage
CONSTANTS = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple, "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}  # fmt: skip
LITERALS = (
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
)  # fmt: skip
SKIPPED = ("PROTO", "FRAME", "STOP")
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
MOST_AXES = 16  # of a tensor


@dataclass(frozen=True)
class _Name:
    """A function or class that the file names; never looked up."""

    text: str


@dataclass(frozen=True)
class _Storage:
    """The bytes of a tensor: numpy's type, the key in the archive, the number of elements."""

    dtype: str
    key: str
    count: int


def _checked_key(name) -> str:
    """A text of reasonable length: a tuple of tuples would take for ever to be hashed or told."""
    if not isinstance(name, str) or len(name) > MOST_NAME:
        raise ValueError(f"expected a text of at most {MOST_NAME} characters for a name, found another thing")
    return name


def read_archive(path: str | os.PathLike) -> dict:
    """What a file of `torch.save` holds: dictionaries, lists, texts and numbers as they are, tensors as numpy arrays.

    Raises:
        ModelFileError: Missing, no archive of torch, damaged, or it holds more than dictionaries of tensors.
    """
    name = os.fspath(path)
    try:
        with zipfile.ZipFile(path) as archive:
            found = _Description(_Members(archive, name), name).read()
    except OSError as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"{name}: cannot be opened: {error.strerror}") from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, struct.error) as error:
        raise ModelFileError(f"{name}: expected a zip archive of torch.save, found: {one_line(error)}") from error
    except (IndexError, KeyError, OverflowError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{name}: damaged description: {one_line(error)}") from error
    if not isinstance(found, dict):
        raise ModelFileError(f"{name}: expected a dictionary, found {type(found).__name__}")
    return found


class _Members:
    """The members of an archive by what follows their common folder."""

    def __init__(self, archive: zipfile.ZipFile, name: str):
        self._archive, self._name, self.size = archive, name, os.stat(name).st_size
        found = [n for n in archive.namelist() if n.endswith("/data.pkl")]
        if len(found) != 1:
            raise ModelFileError(f"{name}: expected one data.pkl of torch.save, found {len(found)}")
        self._folder = found[0][: -len("data.pkl")]
        order = self._folder + "byteorder"
        if order in archive.namelist() and self.read("byteorder", 16) != b"little":
            raise ModelFileError(f"{name}: expected little-endian numbers, found others")

    def read(self, member: str, most: int) -> bytes:
        """All bytes of a member. Raises ModelFileError when it is missing or longer than `most`."""
        path = self._folder + member
        if path not in self._archive.NameToInfo:
            raise ModelFileError(f"{self._name}: {member}: missing")
        info = self._archive.getinfo(path)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > self.size:
            raise ModelFileError(f"{self._name}: {member}: expected bytes that are stored as they are, found packed ones")
        if info.file_size > most:
            raise ModelFileError(f"{self._name}: {member}: expected at most {most} bytes, found {info.file_size}")
        return self._archive.read(path)


class _Description:
    """The machine that a pickle is written for, without its power to call what the file names."""

    def __init__(self, members: _Members, name: str):
        self._members, self._name = members, name
        self._stack: list = []
        self._memo: dict = {}
        self._marks: list[int] = []  # where they are on the stack
        self._room = members.size  # bytes that the tensors may still take
        self._storages: dict[str, bytes] = {}

    def read(self):
        """The object that the pickle describes."""
        for opcode, argument, _ in pickletools.genops(self._members.read("data.pkl", MOST_PICKLE)):
            self._follow(opcode.name, argument)
        return self._stack.pop()

    def _follow(self, code: str, argument) -> None:
        """One opcode."""
        stack = self._stack
        if code in CONSTANTS:
            stack.append(CONSTANTS[code]())
        elif code in LITERALS:
            stack.append(argument)
        elif code in TUPLES:
            stack[-TUPLES[code] :] = [tuple(stack[-TUPLES[code] :])]
        elif code in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if code == "MEMOIZE" else argument] = stack[-1]
        elif code in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif code not in SKIPPED:
            self._build(code, argument)

    def _build(self, code: str, argument) -> None:
        """One opcode that makes something of what is on the stack."""
        stack = self._stack
        if code == "MARK":
            self._marks.append(len(stack))
        elif code == "TUPLE":
            stack.append(tuple(self._items()))
        elif code == "APPENDS":
            items = self._items()
            stack[-1].extend(items)
        elif code in ("SETITEM", "SETITEMS"):
            items = self._items() if code == "SETITEMS" else [stack.pop(-2), stack.pop()]
            keys = (key if isinstance(key, int) else _checked_key(key) for key in items[0::2])
            stack[-1].update(zip(keys, items[1::2]))
        elif code in ("GLOBAL", "STACK_GLOBAL"):
            parts = argument.split(" ") if code == "GLOBAL" else [stack.pop(-2), stack.pop()]
            stack.append(_Name(".".join(map(_checked_key, parts))))
        elif code == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif code == "REDUCE":
            values = stack.pop()
            stack.append(self._made(stack.pop(), values))
        elif code == "BUILD" and isinstance(stack[-2], dict):
            stack.pop()  # attributes of a dictionary, as torch's table of versions: no data
        else:
            raise ModelFileError(f"{self._name}: expected dictionaries of tensors, found the pickle's operation {code}")

    def _items(self) -> list:
        """What lies above the last mark."""
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _storage(self, told: tuple) -> _Storage:
        """("storage", its class, key, device, elements), as torch stores it."""
        kind, storage, key, _, count = told
        dtype = STORAGES.get(storage.text.removeprefix("torch."))
        if kind != "storage" or dtype is None:
            raise ModelFileError(f"{self._name}: expected a storage of {', '.join(STORAGES)}, found {storage.text}")
        if not isinstance(count, int) or count < 0:
            raise ModelFileError(f"{self._name}: expected a storage of so many elements, found another kind of number")
        return _Storage(dtype, _checked_key(key), count)

    def _bytes_of(self, key: str, most: int) -> bytes:
        """The bytes of a storage, read once. All together are no more than the archive."""
        if key not in self._storages:
            room = self._members.size - sum(map(len, self._storages.values()))
            self._storages[key] = self._members.read(f"data/{key}", min(most, room))
        return self._storages[key]

    def _made(self, made: _Name, values: tuple):
        """What the call that a pickle asks for would give; only of names that dictionaries of tensors need."""
        if made.text == "collections.OrderedDict" and not values:
            return {}
        if made.text == "torch._utils._rebuild_tensor_v2":
            return self._tensor(*values[:4])
        if made.text == "torch._utils._rebuild_parameter":
            return values[0]
        raise ModelFileError(f"{self._name}: expected dictionaries of tensors, found a call of {made.text}")

    def _tensor(self, storage: _Storage, offset: int, shape: tuple, stride: tuple) -> np.ndarray:
        """A tensor of some elements of a storage."""
        item = np.dtype(storage.dtype).itemsize
        numbers = (offset, *shape, *stride)
        if not all(isinstance(n, int) and 0 <= n < 1 << 48 for n in numbers) or len(shape) != len(stride) or len(shape) > MOST_AXES:
            raise ModelFileError(f"{self._name}: data/{storage.key}: expected a tensor of at most {MOST_AXES} axes, found no shape")
        data = self._bytes_of(storage.key, storage.count * item)
        last = offset + sum((n - 1) * s for n, s in zip(shape, stride)) if 0 not in shape else offset - 1
        count = math.prod(shape)  # a stride of 0 would make much of little
        if len(data) != storage.count * item or max(last + 1, count) > storage.count:
            raise ModelFileError(
                f"{self._name}: data/{storage.key}: expected {storage.count} elements of {item} bytes that hold a tensor of"
                f" shape {shape} and stride {stride} from {offset} on, found {len(data)} bytes"
            )
        self._room -= count * item
        if self._room < 0:
            raise ModelFileError(f"{self._name}: expected tensors of at most {self._members.size} bytes, found more")
        flat = np.frombuffer(data, storage.dtype)[offset:]
        return np.lib.stride_tricks.as_strided(flat, shape, [s * item for s in stride]).copy()
