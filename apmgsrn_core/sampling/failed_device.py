"""What sampling does when its device fails: on the CPU where the device was chosen automatically, otherwise an error."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

from ..errors import DeviceError, one_line
from ..kernels.memory import is_of_accelerator, is_short, shortage

logger = logging.getLogger(__name__)


def guarded(method: Callable) -> Callable:
    """A method of a `SampledVolume` that begins anew on the CPU when a GPU is lost or has no memory left.

    Raises:
        DeviceError: The GPU was asked for by name. MemoryShortage: that of the computer does not suffice.
    """

    @functools.wraps(method)
    def working(volume, *arguments, **settings):
        before = volume.warnings
        try:
            return method(volume, *arguments, **settings)
        except Exception as error:
            if not (is_short(error) or is_of_accelerator(error)):
                raise
            if volume.warnings is before:  # otherwise another thread has met it too
                replace_device(volume, error)
        return method(volume, *arguments, **settings)

    return working


def replace_device(volume, error: Exception, work: str = "sampling") -> None:
    """Move a volume to the CPU after a device or memory has failed some work, or raise what stands in the way.

    Raises:
        DeviceError, MemoryShortage: As `guarded`.
    """
    if not is_of_accelerator(error):
        raise shortage(error, f"{work}: expected memory for it")
    names, found = ", ".join(map(str, volume.devices)), one_line(error.__cause__ or error)
    if not volume.move_to_cpu():
        advice = "; with auto the CPU would do so" if volume.movable else ""
        raise DeviceError(f"device {names}: expected it to go on, found {found}{advice}") from error
    line = f"device {names} has failed, the CPU goes on: {found}"
    volume.warnings = (*volume.warnings, line)
    logger.warning("%s", line)
