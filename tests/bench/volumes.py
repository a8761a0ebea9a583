"""Volumes for the benchmarks, in plain Python: VTK XML image files, Gaussian cube and numpy files, and a synthetic one.

    python tests/bench/volumes.py DATA ...       prints name, dims, type and range of each

DATA is a path, or `synthetic`; with `:2` behind it, 2^3 values are averaged.
"""

from __future__ import annotations

import argparse
import base64
import xml.etree.ElementTree as ElementTree
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TYPES = {
    "Int8": "i1", "UInt8": "u1", "Int16": "i2", "UInt16": "u2", "Int32": "i4", "UInt32": "u4", "Int64": "i8",
    "UInt64": "u8", "Float32": "f4", "Float64": "f8",
}  # fmt: skip


@dataclass(frozen=True)
class Volume:
    """values[z, y, x] or [z, y, x, component]; spacing along x, y, z."""

    name: str
    values: np.ndarray
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def grid(self):
        """The lattice, as `apmgsrn_core` wants it."""
        from apmgsrn_core import Grid

        return Grid(self.values.shape[2::-1], spacing=self.spacing)


def load(text: str) -> Volume:
    """The volume that a command line names."""
    path, _, factor = text.rpartition(":")
    if not (path and factor.isdigit()):
        path, factor = text, ""
    if path == "synthetic":
        volume = Volume("synthetic", windowed_turbulence())
    elif path.endswith(".npy"):
        volume = Volume(Path(path).stem, np.load(path, allow_pickle=False))
    elif path.endswith(".cube"):
        volume = read_cube(Path(path))
    else:
        volume = read_vti(Path(path))
    if not factor:
        return volume
    pooled = mean_pooled(volume.values, int(factor))
    return Volume(f"{volume.name}:{factor}", pooled, tuple(s * int(factor) for s in volume.spacing))


def read_vti(path: Path) -> Volume:
    """The first array on the points, or else in the cells, of an image file with inline zlib data.

    Raises:
        ValueError: The file is something else.
    """
    root = ElementTree.parse(path).getroot()
    image, piece = root.find("ImageData"), root.find("ImageData/Piece")
    if image is None or piece is None or root.get("compressor") != "vtkZLibDataCompressor":
        raise ValueError(f"{path}: expected VTK XML ImageData compressed with zlib")
    array = next((a for kind in ("PointData", "CellData") for a in piece.findall(f"{kind}/DataArray")), None)
    if array is None or array.get("format") != "binary":
        raise ValueError(f"{path}: expected an array in format 'binary' (inline)")
    in_cells = not piece.findall("PointData/DataArray")
    extent = [int(n) for n in piece.get("Extent").split()]
    shape = [max(high - low + (0 if in_cells else 1), 1) for low, high in zip(extent[0::2], extent[1::2])][::-1]
    order = "<" if root.get("byte_order") == "LittleEndian" else ">"
    header = np.dtype(order + TYPES[root.get("header_type", "UInt32")])
    data = np.frombuffer(_inflate(array.text, header), order + TYPES[array.get("type")])
    components = int(array.get("NumberOfComponents", 1))
    values = data.reshape(shape + ([components] if components > 1 else []))
    spacing = tuple(float(s) for s in image.get("Spacing", "1 1 1").split())
    return Volume(path.stem, values.astype(values.dtype.newbyteorder("=")), spacing)


def read_cube(path: Path) -> Volume:
    """Decimal logarithms of a Gaussian cube file's values, float32, along its first, second and third axis as x, y, z.

    Raises:
        ValueError: The axes are not those of space, the numbers are not as many as the header says, or not all are positive.
    """
    lines = path.read_text().splitlines()
    atoms = abs(int(lines[2].split()[0]))
    steps = [[float(word) for word in line.split()] for line in lines[3:6]]
    dims = [int(step[0]) for step in steps]
    values = np.array(" ".join(lines[6 + atoms :]).split(), dtype=np.float64)
    if len(values) != np.prod(dims) or values.min() <= 0:
        raise ValueError(f"{path}: expected {np.prod(dims)} positive values, found {len(values)} from {values.min():g} on")
    if any(step[1 + other] for axis, step in enumerate(steps) for other in range(3) if other != axis):
        raise ValueError(f"{path}: expected axes along x, y and z, found {steps}")
    spacing = tuple(step[1 + axis] for axis, step in enumerate(steps))
    return Volume(path.stem, np.log10(values).astype(np.float32).reshape(dims).transpose(2, 1, 0).copy(), spacing)


def _inflate(text: str, header: np.dtype) -> bytes:
    """base64([blocks, block size, size of the last, compressed sizes ...]) + base64(blocks) -> bytes."""
    text = "".join(text.split())
    first = _base64_length(3 * header.itemsize)
    blocks = int(np.frombuffer(base64.b64decode(text[:first]), header, 1)[0])
    start = _base64_length((3 + blocks) * header.itemsize)
    sizes = np.frombuffer(base64.b64decode(text[:start]), header, 3 + blocks)[3:]
    data = base64.b64decode(text[start:])
    ends = np.cumsum(sizes, dtype=np.int64)
    return b"".join(zlib.decompress(data[end - size : end]) for end, size in zip(ends, sizes.astype(np.int64)))


def _base64_length(count: int) -> int:
    return (count + 2) // 3 * 4


def mean_pooled(values: np.ndarray, factor: int) -> np.ndarray:
    """Means of factor^3 values, float32; what does not fill a block at the far borders is cut off."""
    z, y, x = (n // factor * factor for n in values.shape[:3])
    cut = values[:z, :y, :x].astype(np.float32)
    blocks = cut.reshape(z // factor, factor, y // factor, factor, x // factor, factor, *values.shape[3:])
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32)


def windowed_turbulence(size: int = 128, seed: int = 7) -> np.ndarray:
    """[z, y, x] float32: a smooth background with three patches of k^-5/3 noise in Gaussian windows.

    Its detail is in a few places: made to show what adaptive placement can do, and to be read with that in mind.
    """
    generator = np.random.default_rng(seed)
    axis = np.linspace(-1, 1, size)
    values = 0.8 * _noise(generator, size, 1, 3, -3.0)
    patches = (((-0.1, 0.2, -0.35), 0.22, 1.6), ((0.35, -0.4, 0.45), 0.15, 1.3), ((0.6, 0.55, 0.1), 0.12, 1.0))
    for centre, width, strength in patches:  # centre along z, y, x
        bells = [np.exp(-((axis - c) ** 2) / (2 * width**2)) for c in centre]
        window = bells[0][:, None, None] * bells[1][:, None] * bells[2]
        values += strength * window * _noise(generator, size, 4, size * 5 // 16, -5 / 3)
    return values.astype(np.float32)


def _noise(generator: np.random.Generator, size: int, lowest: int, highest: int, slope: float) -> np.ndarray:
    """Periodic random field of standard deviation 1; energy per shell ~ k^slope for lowest <= k <= highest."""
    along, half = np.fft.fftfreq(size, 1 / size), np.fft.rfftfreq(size, 1 / size)
    wave = np.sqrt(along[:, None, None] ** 2 + along[:, None] ** 2 + half**2)
    band = (wave >= lowest) & (wave <= highest)
    amplitude = np.where(band, np.maximum(wave, 1.0) ** ((slope - 2) / 2), 0.0)  # shells grow with k^2
    field = np.fft.irfftn(np.fft.rfftn(generator.standard_normal((size,) * 3)) * amplitude, s=(size,) * 3)
    return field / field.std()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("volumes", nargs="+", metavar="DATA")
    for name in parser.parse_args().volumes:
        volume = load(name)
        values = volume.values
        print(f"{volume.name}: {values.shape[::-1]} {values.dtype} {values.min()} to {values.max()}")


if __name__ == "__main__":
    main()
