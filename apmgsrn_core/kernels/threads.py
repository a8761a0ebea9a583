"""How many threads a kernel may use: what torch may, within this rank's share of the cores."""

from __future__ import annotations

import functools
import os

import torch

from ..device import place_from_environment


def thread_count() -> int:
    """At least 1."""
    return max(1, min(torch.get_num_threads(), share_of_cores()))


@functools.cache
def share_of_cores() -> int:
    """Cores that this process may run on, divided by the ranks of this computer that share them; looked at once.

    Ranks that are pinned to cores of their own share nothing; ranks without a pin share all cores, which are those of the
    process that started them. In between, as with a pin to a socket, each core is taken to serve as many ranks as the
    average.
    """
    try:
        mine = len(os.sched_getaffinity(0))
        everything = max(mine, len(os.sched_getaffinity(os.getppid())))
    except (AttributeError, OSError):  # not Linux, or the parent has ended
        mine = everything = os.cpu_count() or 1
    ranks = place_from_environment()[1]
    sharing = max(1, round(ranks * mine / everything))
    return max(1, mine // sharing)
