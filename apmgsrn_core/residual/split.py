"""How many bytes the network has where an error bound is to be held, before the data are known.

What is left for the residual falls while the network grows; the sum of both is flat around its least (within a few per cent at
half and twice the size). Measured on four real volumes, see `tests/bench/README.md`, "Error bounds".
"""

from __future__ import annotations

import math

BOUNDS, BYTES, VALUES = (1e-3, 1e-2, 1e-1), (60_000, 50_000, 12_000), 1 << 21  # bytes that are best for so many values, about
VALUES_POWER = 2 / 3
USUAL_BOUND = 0.01  # relative, where it is not known
LEAST, MOST = 8_000, 160_000  # bytes of a brick


def network_bytes(bound: float, values: int, bricks: int = 1) -> int:
    """`TrainConfig.rate_bytes` beside a residual.

    Args:
        bound: Relative to the range of the array.
        values: Of all bricks together.
    """
    place = min(math.log10(bound / BOUNDS[0]), 2.0)  # below 0 it goes on as from 1 to 0
    low = 1 if place >= 1 else 0
    middle = BYTES[low] * (BYTES[low + 1] / BYTES[low]) ** (place - low)
    each = middle * (values / bricks / VALUES) ** VALUES_POWER
    return bricks * round(min(max(each, LEAST), MOST))
