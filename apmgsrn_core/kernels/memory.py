"""What short memory and lost devices look like, and evaluating in smaller parts when memory is short."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence

import torch

from ..errors import DeviceError, MemoryShortage, one_line

logger = logging.getLogger(__name__)

LEAST_POINTS = 1 << 10  # of a part; memory that does not suffice for so many is the end
SHORT = re.compile(r"out of memory|not enough memory|can't allocate memory|cannot allocate memory|bad_alloc|ALLOC_FAILED", re.I)
OF_ACCELERATOR = re.compile(r"\b(CUDA|HIP|CUBLAS|CUDNN|CUSPARSE|NVRTC|NVML)\w*\b|no kernel image", re.I)
ACCELERATOR_ERRORS = tuple(  # by class, where this torch has them
    kind for kind in (getattr(torch, "AcceleratorError", None), torch.cuda.OutOfMemoryError) if kind is not None
)


def is_short(error: BaseException) -> bool:
    """Whether memory, of the computer or of a device, was short."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and not isinstance(error, DeviceError) and bool(SHORT.search(str(error)))


def is_of_accelerator(error: BaseException) -> bool:
    """Whether a GPU failed: it is lost, or has not enough memory. Also where that is the cause of one of our errors."""
    if isinstance(error, ACCELERATOR_ERRORS):
        return True
    if isinstance(error, MemoryShortage):
        return error.__cause__ is not None and is_of_accelerator(error.__cause__)
    return isinstance(error, RuntimeError) and not isinstance(error, DeviceError) and bool(OF_ACCELERATOR.search(str(error)))


def in_parts(
    work: Callable, whole, count: int, halved: Callable[[object], Sequence], what: str, kind: str = "points", least: int | None = None
) -> list:
    """Work on a whole, or where memory is short on its halves, one after the other, and theirs.

    Args:
        work: whole or part -> its result.
        whole: Of `count` points.
        halved: part -> [(half, its points), (other half, its points)].
        what: Whose memory it is, for the message.
        kind: What they are, if not points.
        least: That are not halved any more; None: LEAST_POINTS.

    Returns:
        The results in their order; together they are that of the whole.

    Raises:
        MemoryShortage: Less than the least did not fit either.
    """
    try:
        return [work(whole)]
    except Exception as error:
        if not is_short(error):
            raise
        if count // 2 < (LEAST_POINTS if least is None else least):
            raise shortage(error, f"{what}: expected memory for {count} {kind} at a time")
        logger.info("%s: no memory for %d %s at a time, going on with half of them: %s", what, count, kind, one_line(error))
    return [result for part, points in halved(whole) for result in in_parts(work, part, points, halved, what, kind, least)]


def halves(points: torch.Tensor) -> list[tuple[torch.Tensor, int]]:
    """Points (n, 3) as two parts."""
    return [(part, len(part)) for part in points.split(-(-len(points) // 2))]


def shortage(error: BaseException, expected: str) -> MemoryShortage:
    """Our error for memory that was short, with what was expected and with its cause; the error itself when it is ours already."""
    if isinstance(error, MemoryShortage):
        return error
    ours = MemoryShortage(f"{expected}, found {one_line(error)}")
    ours.__cause__ = error
    return ours
