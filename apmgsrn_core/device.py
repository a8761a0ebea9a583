"""Which device computes: found without importing torch, resolved with it."""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import re
import sys
from pathlib import Path

from .errors import DeviceError, TorchError


def require_torch():
    """Import and return torch; TorchError with what to do when it cannot be imported."""
    try:
        torch = importlib.import_module("torch")
        importlib.import_module("apmgsrn_core.kernels.triton_loading")  # before anything imports Triton
        return torch
    except (ImportError, OSError) as error:
        raise TorchError(
            f"torch cannot be imported by this Python ({sys.version.split()[0]}, {sys.prefix}): {error}",
            "Run `source plugin/env.sh` before starting ParaView, or install torch for this Python.",
        ) from error


@functools.cache
def _cuda_names() -> tuple[str, ...]:
    """Names of the CUDA devices, asked from the driver itself; () without one."""
    for library in ("libcuda.so.1", "nvcuda.dll"):
        try:
            cuda = ctypes.CDLL(library)
            break
        except OSError:
            continue
    else:
        return ()
    count = ctypes.c_int(0)
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    names = []
    for index in range(count.value):
        device, text = ctypes.c_int(0), ctypes.create_string_buffer(128)
        if cuda.cuDeviceGet(ctypes.byref(device), index) == 0:
            cuda.cuDeviceGetName(text, 128, device)
        names.append(text.value.decode(errors="replace") or "CUDA device")
    return tuple(names)


def trains_quickly() -> bool:
    """Whether there are native kernels or a GPU, without loading torch; torch alone is slow on lattices of quadratic splines."""
    built = any((Path(__file__).parent / "kernels" / "lib").glob("libapmgsrn_cpu-*"))
    return (built and os.environ.get("APMGSRN_KERNELS") != "torch") or bool(_cuda_names())


def list_devices() -> list[str]:
    """"auto", "cpu" and each CUDA device with its name, as `resolve_device` takes them."""
    return ["auto", "cpu", *(f"cuda:{i} ({name})" for i, name in enumerate(_cuda_names()))]


def resolve_device(text: str = "auto"):
    """A torch.device from "auto", "cpu", "cuda", "cuda:1" or an entry of `list_devices`.

    "auto" is the first CUDA device that torch can use, the CPU otherwise.

    Raises:
        DeviceError: Unknown, or torch cannot use it; the message lists those there are.
    """
    torch = require_torch()
    word = (text or "auto").split(" ")[0].lower()
    usable = torch.cuda.is_available()
    if word == "auto":
        return torch.device("cuda:0" if usable else "cpu")
    if word == "cpu":
        return torch.device("cpu")
    kind, _, index = word.partition(":")
    if kind == "cuda" and (index or "0").isdigit():
        if usable and int(index or 0) < torch.cuda.device_count():
            return torch.device("cuda", int(index or 0))
        raise DeviceError(
            f"device {text!r}: torch {torch.__version__} can use {torch.cuda.device_count() if usable else 0} CUDA "
            f"devices; available: {', '.join(list_devices())}"
        )
    raise DeviceError(f"device {text!r} is unknown; available: {', '.join(list_devices())}")


LAUNCHERS = (  # what they call the place of a process among those of its computer, and how many those are
    ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ("MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),
    ("SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"),  # the latter as "4(x2),3": that of the first computers counts
)


def place_from_environment() -> tuple[int, int]:
    """(place of this process among those of its computer, how many those are), as the launcher says; (0, 1) without one."""
    return _numbers_of(LAUNCHERS)


def _numbers_of(launchers: tuple) -> tuple[int, int]:
    """The numbers in the first pair of variables that is set, or (0, 1)."""
    for rank, size in launchers:
        place, count = (re.match(r"\d+", os.environ.get(name, "")) for name in (rank, size))
        if place and count:
            return int(place[0]), max(int(count[0]), 1)
    return 0, 1


WORLDS = (  # the same of all processes of a job
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


def world_from_environment() -> tuple[int, int]:
    """(rank of this process, how many there are), as the launcher says; (0, 1) without one."""
    return _numbers_of(WORLDS)


class FoundDevices(list):
    """Devices; `automatic`: nobody has named them, so that the CPU may take the place of one that fails."""

    automatic = False


def devices_of_rank(text: str = "auto", place: tuple[int, int] = (0, 1)) -> FoundDevices:
    """The torch devices that one rank trains bricks on.

    Args:
        text: "auto", one device, or several with commas between ("cuda:0,cuda:1"; "cpu,cpu").
        place: (number of this rank among those of its computer, how many those are), see `Communicator.neighbours`.

    Returns:
        For "auto" every so many of the CUDA devices, so that the ranks of a computer share them: with 4 devices and 2
        ranks two each, with 2 devices and 4 ranks one for two ranks; without CUDA the CPU. Otherwise what `text` names.

    Raises:
        DeviceError: See `resolve_device`.
    """
    torch = require_torch()
    if (text or "auto").lower() != "auto":
        parts = [text] if "(" in text else text.split(",")  # the names in `list_devices` may hold commas
        return FoundDevices(resolve_device(part.strip()) for part in parts)
    found = FoundDevices()
    found.automatic = True
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    rank, ranks = place
    indices = range(rank % count, count, max(ranks, 1) if ranks <= count else count) if count else ()
    found.extend([torch.device("cuda", index) for index in indices] or [torch.device("cpu")])
    return found


def memory_for_values(devices: list) -> int:
    """Bytes that the values of one brick may take: an eighth of the memory of the computer, or of the smallest of the devices.

    How many ranks share them is no matter, so that automatic bricks do not depend on it.
    """
    torch = require_torch()
    of_computer = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 4 << 30
    sizes = [of_computer]
    sizes += [torch.cuda.get_device_properties(d).total_memory for d in devices if d.type == "cuda"]
    return min(sizes) // 8
