"""VTK's XML image files, `.vti`: reading all of their encodings, writing inline binary with zlib.

Source: VTK's documentation, "VTK XML formats": arrays are text, base64 or raw; with a compressor, blocks behind a header of
their number, size, last size and compressed sizes.
"""

from __future__ import annotations

import base64
import lzma
import math
import re
import xml.etree.ElementTree as ElementTree
import zlib
from pathlib import Path

import numpy as np

from ..errors import ApmgsrnError, DataError
from ..grid import IDENTITY, Grid

TYPES = {
    "Int8": "i1", "UInt8": "u1", "Int16": "i2", "UInt16": "u2", "Int32": "i4", "UInt32": "u4", "Int64": "i8",
    "UInt64": "u8", "Float32": "f4", "Float64": "f8",
}  # fmt: skip
HEADERS = {"UInt32": "u4", "UInt64": "u8"}
LZMA_MEMORY = 1 << 27  # bytes that opening a block may take beside what comes out; VTK's blocks need half of it
COMPRESSORS = {
    None: None, "vtkZLibDataCompressor": zlib.decompressobj,
    "vtkLZMADataCompressor": lambda: lzma.LZMADecompressor(memlimit=LZMA_MEMORY),
}  # fmt: skip
SIDES = {"point": "PointData", "cell": "CellData"}
BLOCK = 1 << 20  # bytes compressed at a time
APPENDED = re.compile(rb"<AppendedData([^>]*)>\s*_", re.S)

Arrays = dict[tuple[str, str], np.ndarray]  # (association, name): values[z, y, x] or [z, y, x, component]
_Part = tuple[tuple[int, int, int], np.ndarray]  # first index along z, y, x, and values


def read_image_data(path: Path) -> tuple[Arrays, Grid]:
    """All arrays of an image file, and the lattice of its points.

    Raises:
        DataError: The file is damaged, or no image, or compressed with lz4.
    """
    data = path.read_bytes()
    appended, encoding = b"", ""
    found = APPENDED.search(data)
    if found:  # raw bytes are no XML
        encoding = "raw" if b'"raw"' in found[1] else "base64"
        appended = data[found.end() :]
        data = data[: found.start()] + b"</VTKFile>"
    try:
        root = ElementTree.fromstring(data, ElementTree.XMLParser(target=_NoEntities()))
        return _ImageData(root, appended, encoding).read()
    except ApmgsrnError as error:
        raise DataError(f"{path}: {error}") from error
    except (ElementTree.ParseError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise DataError(f"{path}: not an image file that can be read: {error}") from error
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise DataError(f"{path}: damaged image file: {type(error).__name__}: {error}") from error


class _NoEntities(ElementTree.TreeBuilder):
    """Refuses a document type, which could make much text of little; VTK writes none."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Called at the declaration."""
        raise DataError(f"expected no document type, found {name!r}")


class _ImageData:
    """The elements of one file."""

    def __init__(self, root: ElementTree.Element, appended: bytes, encoding: str):
        self._image = root.find("ImageData")
        if root.tag != "VTKFile" or self._image is None:
            raise DataError(f"expected VTK XML ImageData, found {root.get('type') or root.tag}")
        if root.get("compressor") not in COMPRESSORS:
            raise DataError(f"expected data without compression, zlib or lzma, found {root.get('compressor')}")
        self._decompressor = COMPRESSORS[root.get("compressor")]
        self._order = ">" if root.get("byte_order") == "BigEndian" else "<"
        self._header = np.dtype(self._order + HEADERS[root.get("header_type", "UInt32")])
        self._appended, self._encoding = appended, encoding
        self._whole = _whole_numbers(self._image.get("WholeExtent"))

    def read(self) -> tuple[Arrays, Grid]:
        """The arrays, put together from all pieces, and the grid."""
        low, high = self._whole[0::2], self._whole[1::2]
        dims = tuple(b - a + 1 for a, b in zip(low, high))
        spacing, origin = (_numbers(self._image.get(name, text)) for name, text in (("Spacing", "1 1 1"), ("Origin", "0 0 0")))
        numbers = _numbers(self._image.get("Direction", ""))
        direction = tuple(numbers[i : i + 3] for i in (0, 3, 6)) if numbers else IDENTITY
        grid = Grid(dims, origin, spacing, direction)
        parts: dict[tuple[str, str], list[_Part]] = {}
        for piece in self._image.findall("Piece"):
            extent = _whole_numbers(piece.get("Extent"))
            for association, side in SIDES.items():
                for element in piece.findall(f"{side}/DataArray"):
                    if element.get("type") in TYPES:  # texts are left out
                        name = element.get("Name", "")
                        parts.setdefault((association, name), []).append(self._part(association, name, element, extent))
        arrays = {key: self._joined(*key, own) for key, own in parts.items()}
        return arrays, grid.part(low, dims) if any(low) else grid

    def _part(self, association: str, name: str, element: ElementTree.Element, extent: list[int]) -> _Part:
        """The first index of an array in one piece, and its values."""
        components = int(element.get("NumberOfComponents", 1))
        (first, shape), (_, whole) = (_box(e, self._whole, association) for e in (extent, self._whole))
        if components < 1 or len(extent) != 6 or any(a < 0 or a + n > w for a, n, w in zip(first, shape, whole)):
            raise DataError(f"array {name!r}: expected an extent in {self._whole}, found {components} components in {extent}")
        shape += (components,) if components > 1 else ()
        dtype, count = np.dtype(self._order + TYPES[element.get("type")]), math.prod(shape)
        values = self._values(element, dtype, count)
        if values.size != count:
            raise DataError(f"array {name!r}: expected {count} numbers in extent {extent}, found {values.size}")
        return first, values.reshape(shape)

    def _joined(self, association: str, name: str, parts: list[_Part]) -> np.ndarray:
        """The values of the pieces where they are in the whole, of which they must be enough to fill it."""
        (_, one), (_, whole) = parts[0], _box(self._whole, self._whole, association)
        whole += one.shape[3:]
        if sum(values.size for _, values in parts) < math.prod(whole) or any(v.shape[3:] != one.shape[3:] for _, v in parts):
            raise DataError(f"array {name!r}: expected pieces that fill {whole} (z, y, x), found {[v.shape for _, v in parts][:9]}")
        target = np.zeros(whole, one.dtype.newbyteorder("="))
        for first, values in parts:
            target[tuple(slice(a, a + n) for a, n in zip(first, values.shape))] = values
        return target

    def _values(self, element: ElementTree.Element, dtype: np.dtype, count: int) -> np.ndarray:
        """(n,) the numbers of an array element, however they are stored; of more than `count` one too many."""
        kind, most = element.get("format", "ascii"), (count + 1) * dtype.itemsize
        if kind == "ascii":
            return np.array((element.text or "").split(), dtype.newbyteorder("="))
        if kind == "binary":
            return _numbers_of(self._from_text("".join((element.text or "").split()).encode(), most), dtype)
        offset = int(element.get("offset"))
        if not 0 <= offset <= len(self._appended):
            raise DataError(f"offset: expected one from 0 to {len(self._appended)}, found {offset}")
        data = self._appended[offset:]
        return _numbers_of(self._bytes(data, most) if self._encoding == "raw" else self._from_text(data, most), dtype)

    def _from_text(self, text: bytes, most: int) -> bytes:
        """Base64: the header is coded apart from the blocks, or without a compressor together with them."""
        item = self._header.itemsize

        def decoded(start: int, count: int) -> bytes:
            return base64.b64decode(text[start : start + -(-count // 3) * 4])[:count]

        first = int(np.frombuffer(decoded(0, item), self._header)[0])
        if self._decompressor is None:
            return decoded(0, item + first)[item:]
        length = item * (3 + first)
        head = decoded(0, length)
        sizes = np.frombuffer(head, self._header)[3:]
        return self._bytes(head + decoded(-(-length // 3) * 4, sum(sizes.tolist())), most)

    def _bytes(self, data: bytes, most: int) -> bytes:
        """Header and data -> the numbers' bytes, at most so many."""
        item = self._header.itemsize
        first = int(np.frombuffer(data[:item], self._header)[0])
        if self._decompressor is None:
            return data[item : item + first]
        at, blocks = item * (3 + first), []
        for size in np.frombuffer(data[item:at], self._header)[2:].tolist():
            blocks.append(self._decompressor().decompress(data[at : at + size], max(most, 1)))
            at, most = at + size, most - len(blocks[-1])
        return b"".join(blocks)


def _numbers_of(data: bytes, dtype: np.dtype) -> np.ndarray:
    return np.frombuffer(data, dtype, len(data) // dtype.itemsize)


def _box(extent: list[int], whole: list[int], association: str) -> tuple[tuple, tuple]:
    """(first value, values) along z, y, x of an extent inside of the whole one."""
    less = 0 if association == "point" else 1
    first = tuple(a - b for a, b in zip(extent[0::2], whole[0::2]))
    return first[::-1], tuple(max(b - a + 1 - less, 1) for a, b in zip(extent[0::2], extent[1::2]))[::-1]


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split())


def _whole_numbers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def image_data_text(arrays: dict[str, np.ndarray], grid: Grid) -> bytes:
    """The bytes of an image file: arrays[z, y, x] or [z, y, x, component] on the points of a grid, or in its cells.

    Raises:
        DataError: The grid is stretched, which an image cannot be.
    """
    if grid.axes is not None:
        raise DataError(".vti: expected a lattice with equal spacing, found a stretched one; write .npy or .raw")
    extent = " ".join(f"0 {n - 1}" for n in grid.dims)
    side = SIDES[grid.association]
    place = f'Origin="{_text(grid.origin)}" Spacing="{_text(grid.spacing)}" Direction="{_text(sum(grid.direction, ()))}"'
    parts = [
        b'<?xml version="1.0"?>\n<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian" header_type="UInt64"'
        b' compressor="vtkZLibDataCompressor">\n',
        f'<ImageData WholeExtent="{extent}" {place}>\n<Piece Extent="{extent}">\n<{side}>\n'.encode(),
    ]
    for name, values in arrays.items():
        parts += [*_array_element(name, values, grid), b"\n"]
    parts.append(f"</{side}>\n</Piece>\n</ImageData>\n</VTKFile>\n".encode())
    return b"".join(parts)


def _array_element(name: str, values: np.ndarray, grid: Grid) -> list[bytes]:
    shape = grid.value_dims[::-1]
    if values.shape[:3] != shape:
        raise DataError(f"array {name!r}: expected shape {shape} (z, y, x), found {values.shape}")
    kinds = {np.dtype(code): kind for kind, code in TYPES.items()}
    kind = kinds.get(values.dtype.newbyteorder("="))
    if kind is None:
        raise DataError(f"array {name!r}: expected a type of VTK's ({', '.join(TYPES)}), found {values.dtype}")
    components = values.shape[3] if values.ndim == 4 else 1
    data = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
    blocks = [zlib.compress(data[i : i + BLOCK], 6) for i in range(0, len(data), BLOCK)]
    header = np.array([len(blocks), BLOCK, len(data) % BLOCK, *map(len, blocks)], "<u8").tobytes()
    escaped = ElementTree.tostring(ElementTree.Element("a", Name=name)).decode()[3:-3]
    start = f'<DataArray type="{kind}" {escaped} NumberOfComponents="{components}" format="binary">\n'
    return [start.encode(), base64.b64encode(header), base64.b64encode(b"".join(blocks)), b"\n</DataArray>"]


def _text(numbers) -> str:
    return " ".join(repr(float(n)) for n in numbers)
