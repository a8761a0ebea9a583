"""How many bytes the network has where an error bound is to be held, before the data are known.

What is left for the residual falls while the network grows; the sum of both is flat around its least (within a few per cent at
half and twice the size). Measured on seven real volumes, see `tests/bench/README.md`, "Error bounds".
"""

from __future__ import annotations

MIDDLE, MIDDLE_BOUND, MIDDLE_VALUES = 25_000, 0.01, 1 << 21  # bytes that are best at a bound, relative to the range, and so many values
BOUND_POWER, VALUES_POWER = 0.35, 2 / 3
USUAL_BOUND = 0.01  # relative, where it is not known
LEAST, MOST = 8_000, 160_000  # bytes of a brick


def network_bytes(bound: float, values: int, bricks: int = 1) -> int:
    """`TrainConfig.rate_bytes` beside a residual.

    Args:
        bound: Relative to the range of the array.
        values: Of all bricks together.
    """
    each = MIDDLE * (MIDDLE_BOUND / bound) ** BOUND_POWER * (values / bricks / MIDDLE_VALUES) ** VALUES_POWER
    return bricks * round(min(max(each, LEAST), MOST))
