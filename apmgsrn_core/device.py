"""Which device computes: found without importing torch, resolved with it."""

from __future__ import annotations

import ctypes
import functools
import importlib
import sys

from .errors import DeviceError


def require_torch():
    """Import and return torch; DeviceError with what to do when it cannot be imported."""
    try:
        return importlib.import_module("torch")
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"torch cannot be imported by this Python ({sys.version.split()[0]}, {sys.prefix}): {error}. "
            "Run `source plugin/env.sh` before starting ParaView, or install torch for this Python."
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
