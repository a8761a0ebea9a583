"""The library of the CPU kernels: finding it, and its C interface (`cpu/interface.h`) in ctypes.

It is built by CMakeLists.txt into `lib/`, under a name that holds a hash of its sources. One binary has a path for each
instruction set; the environment variable APMGSRN_CPU=amx|avx512|avx2|portable forces one.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_int8, c_uint32, c_void_p
from pathlib import Path

from ..errors import ConfigError

HERE = Path(__file__).parent
SOURCES = HERE / "cpu"


class GridStructure(ctypes.Structure):
    _fields_ = [("resolution", c_int32 * 3), ("features", c_int32), ("quadratic", c_int32), ("transform", c_int32)]


class ModelStructure(ctypes.Structure):
    _fields_ = [
        ("grid_count", c_int32), ("layer_count", c_int32), ("grids", POINTER(GridStructure)), ("widths", POINTER(c_int32)),
        ("features", c_void_p), ("transforms", c_void_p), ("weights", POINTER(c_void_p)), ("biases", POINTER(c_void_p)),
        ("skip", c_void_p),
    ]  # fmt: skip


class GradientsStructure(ctypes.Structure):
    _fields_ = [
        ("features", c_void_p), ("transforms", c_void_p), ("weights", POINTER(c_void_p)),
        ("biases", POINTER(c_void_p)), ("skip", c_void_p),
    ]  # fmt: skip


class LanesStructure(ctypes.Structure):
    _fields_ = [
        ("counts", c_void_p), ("slots", c_void_p), ("states", c_void_p), ("words", c_void_p), ("word_count", c_int64),
        ("word", c_int64), ("plain", c_void_p), ("plain_bits", c_int64), ("bit", c_int64),
    ]  # fmt: skip


class LatticeStructure(ctypes.Structure):
    _fields_ = [("nodes", c_int64 * 3), ("lanes", c_int64), ("weights", c_int8 * 7)]


class BlockStructure(ctypes.Structure):
    _fields_ = [
        ("nodes", c_int64 * 3), ("choices", c_void_p), ("numbers", c_void_p), ("known", c_void_p), ("rows", c_void_p),
    ]  # fmt: skip


def source_hash() -> str:
    """Of everything that the library is built from; the same sum as in `cpu/CMakeLists.txt`."""
    files = sorted(p for p in SOURCES.glob("*") if p.suffix in (".cpp", ".h") or p.name == "CMakeLists.txt")
    lines = "".join(f"{p.name} {hashlib.sha256(p.read_bytes()).hexdigest()}\n" for p in files)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


@functools.cache
def load() -> tuple[ctypes.CDLL | None, str]:
    """(the library, "") or (None, why there is none)."""
    found = sorted((HERE / "lib").glob("libapmgsrn_cpu-*"))
    wanted = source_hash()
    fitting = [p for p in found if p.stem.endswith("-" + wanted)]
    if not fitting:
        state = "of other sources" if found else "not built"
        return None, f"the native CPU kernels are {state} (plugin/install.sh builds them where a C++ compiler is)"
    try:
        library = _declare(ctypes.CDLL(str(fitting[0])))
        if library.apm_source_hash().decode() != wanted:
            return None, f"{fitting[0].name} was built of other sources"
        return library, ""
    except OSError as error:
        return None, f"the native CPU kernels cannot be loaded: {error}"


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    floats, handle, model = c_void_p, c_void_p, POINTER(ModelStructure)
    library.apm_source_hash.restype = c_char_p
    library.apm_paths.restype = c_char_p
    library.apm_prepare.restype = handle
    library.apm_prepare.argtypes = [model, c_char_p, c_int, c_int]
    library.apm_update.argtypes = [handle, model]
    library.apm_release.argtypes = [handle]
    library.apm_release.restype = None
    library.apm_values.argtypes = [handle, floats, c_int64, floats]
    library.apm_lattice.argtypes = [handle, floats, c_int64, floats, c_int64, floats, c_int64, floats]
    library.apm_derivatives.argtypes = [handle, floats, c_int64, floats, floats]
    library.apm_loss.argtypes = [handle, floats, floats, floats, c_int64, POINTER(GradientsStructure), floats]
    library.apm_adam.argtypes = [floats, floats, floats, floats, c_int64, c_int64, *[c_double] * 4, c_int]
    library.apm_adam.restype = None
    library.apm_disturb.argtypes = [floats, floats, c_int64, c_float, POINTER(c_uint32), c_char_p, c_int]
    library.apm_add_bit_slopes.argtypes = [floats, floats, floats, c_int64, c_float, c_float, c_char_p, c_int]
    library.apm_density.argtypes = [
        floats, c_int32, floats, floats, c_int64, c_char_p, c_int, floats, POINTER(c_double)
    ]  # fmt: skip
    library.apm_code_row.argtypes = [POINTER(LanesStructure), c_void_p, c_int64, c_void_p]
    library.apm_code_lattice.argtypes = [POINTER(LanesStructure), POINTER(LatticeStructure), c_void_p]
    library.apm_words_of.argtypes = [c_void_p, c_int64, c_int64, c_void_p, c_void_p]
    library.apm_words_of.restype = c_int64
    library.apm_quantise_block.argtypes = [POINTER(BlockStructure), c_void_p, c_void_p]
    library.apm_quantise_block.restype = None
    library.apm_code_block.argtypes = [POINTER(LanesStructure), c_int64, POINTER(BlockStructure)]
    library.apm_words_of_rows.argtypes = [c_void_p, c_void_p, c_int64, c_void_p, c_void_p]
    library.apm_words_of_rows.restype = c_int64
    return library


@functools.cache
def paths() -> tuple[str, ...]:
    """The paths that this computer can run, best first; () without the library."""
    library, _ = load()
    return tuple(library.apm_paths().decode().split()) if library else ()


def chosen_path(name: str | None = None) -> str:
    """The path of this name, else of APMGSRN_CPU, else the best; ConfigError when it cannot be run here."""
    wanted = name or os.environ.get("APMGSRN_CPU") or paths()[0]
    if wanted not in paths():
        raise ConfigError(f"APMGSRN_CPU: expected one of {', '.join(paths())} on this computer, found {wanted!r}")
    return wanted
