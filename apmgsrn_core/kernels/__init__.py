"""Which code evaluates a network: one door.

On the CPU the native library (`cpu.py`) when it is built, on a GPU the Triton kernels (`triton.py`) when triton is
there, torch otherwise (`torch_tiles.py`; `readable.py` is the twin of them all). The environment variable
APMGSRN_KERNELS=torch|native forces one: torch, or what is written for the device.
"""

from __future__ import annotations

import functools
import logging
import os
import subprocess

import torch

from ..errors import ConfigError, one_line
from ..messages import EVERYWHERE
from .readable import TorchKernel
from .torch_tiles import TiledTorchKernel

logger = logging.getLogger(__name__)

PRECISIONS = ("full", "fast")
FORCED = ("torch", "native")


def choose(device: torch.device, precision: str = "full", force: str | None = None, path: str | None = None):
    """The kernel for a device.

    Args:
        device: Where the network is.
        precision: "full": fp32; "fast": half precision in the decoder where the device is faster with it.
        force: "torch" or "native"; None for APMGSRN_KERNELS or the best that is there.
        path: Of the native CPU kernels; None for APMGSRN_CPU or the best.

    Returns:
        A kernel with the methods of `readable.TorchKernel`.

    Raises:
        ConfigError: An unknown word, or what is forced is not there.
    """
    force = force or os.environ.get("APMGSRN_KERNELS") or None
    if force not in (None, *FORCED):
        raise ConfigError(f"APMGSRN_KERNELS: expected one of {', '.join(FORCED)}, found {force!r}")
    if precision not in PRECISIONS:
        raise ConfigError(f"precision: expected one of {PRECISIONS}, found {precision!r}")
    if force == "torch":
        _say(logging.INFO, f"{device.type}: computing with torch, since APMGSRN_KERNELS=torch")
        return _in_torch(device)
    kernel, why = _native(device.type, precision, path or os.environ.get("APMGSRN_CPU") or None)
    if kernel is None and force == "native":
        raise ConfigError(f"APMGSRN_KERNELS=native: {why}")
    return kernel or _in_torch(device)


def kernel_for(network, precision: str = "full"):
    """The kernel for a network: `choose`, or torch for a shape that the chosen one cannot do."""
    kernel = choose(network.features.device, precision)
    if why := kernel.supports(network):
        _say(logging.INFO, f"{network.features.device.type}: computing with torch, since {kernel.name} has no way for {why}")
        return _in_torch(network.features.device)
    return kernel


def _in_torch(device: torch.device) -> TorchKernel:
    """Sorting points pays on a CPU only, and it waits for the device."""
    return TiledTorchKernel() if device.type == "cpu" else TorchKernel()


def native_batches(data, blocks, continuous: bool):
    """What gathers the batches of a FieldData natively (`cpu_batch.NativeBatches`); None where readable code does it."""
    from .cpu_batch import NativeBatches
    from .cpu_library import load

    there = load()[0] is not None and os.environ.get("APMGSRN_KERNELS") != "torch"
    return NativeBatches(data, blocks, continuous) if there and NativeBatches.supports(data) else None


def native_number_coding():
    """The native library, for coding the numbers of a network (`file/native_coding.py`); None where readable code does it."""
    from .cpu_library import load

    return load()[0] if os.environ.get("APMGSRN_KERNELS") != "torch" else None


def native_march(kernel, network, column: int, scale, offset, slopes):
    """What marches rays through an array of a network natively (`cpu_march.NativeMarch`); None: no native kernel."""
    from .cpu_march import NativeMarch

    return NativeMarch(kernel, network, column, scale, offset, slopes) if hasattr(kernel, "prepare") else None


def native_march_of(field):
    """What marches rays through a field on the CPU natively (`cpu_march.FieldMarch`); None where torch does it."""
    from .cpu_library import load
    from .cpu_march import FieldMarch

    there = field.device.type == "cpu" and load()[0] is not None and os.environ.get("APMGSRN_KERNELS") != "torch"
    return FieldMarch(load()[0], field) if there else None


@functools.cache
def _native(device_type: str, precision: str, path: str | None):
    """(a kernel, "") or (None, why there is none)."""
    if device_type == "cpu":
        from .cpu import NativeKernel
        from .cpu_library import load

        library, why = load()
        if library is not None:
            return _told(device_type, NativeKernel(precision, path)), ""
    else:
        try:
            from .triton import TritonKernel

            _start_triton()
            return _told(device_type, TritonKernel(precision)), ""
        except (ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
            why = f"triton cannot be used: {one_line(error)}"
    _say(logging.WARNING, f"{why}; computing with torch, several times slower")
    return None, why


def _start_triton() -> None:
    """Start its driver, which it compiles at the first use: where there is no C compiler or no Python.h, that fails."""
    if torch.cuda.is_available():
        import triton

        triton.runtime.driver.active.get_current_device()


def _told(device_type: str, kernel):
    """The kernel, after the messages have it."""
    _say(logging.INFO, f"{device_type}: computing with {kernel.name} kernels")
    return kernel


@functools.cache
def _say(level: int, line: str) -> None:
    """Each line once; every rank finds the same."""
    logger.log(level, line, extra=EVERYWHERE)
