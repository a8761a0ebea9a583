"""What was decoded lately, within a limit of memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class DecodedParts:
    """Data sets by what they were asked for; those that were not used for longest go first."""

    def __init__(self):
        self._parts: OrderedDict[Hashable, object] = OrderedDict()

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def byte_count(self) -> int:
        """Of all of them."""
        return sum(map(_bytes, self._parts.values()))

    def find(self, key: Hashable, output) -> bool:
        """Give a data set the arrays of the one that is kept under a key, if there is one; they are not copied."""
        if key not in self._parts:
            return False
        self._parts.move_to_end(key)
        output.ShallowCopy(self._parts[key])
        return True

    def keep(self, key: Hashable, data, limit: int) -> None:
        """Keep a data set under a key, so that all together take no more bytes than the limit."""
        kept = data.NewInstance()
        kept.ShallowCopy(data)
        self._parts[key] = kept
        self._parts.move_to_end(key)
        while self._parts and self.byte_count > limit:
            self._parts.popitem(last=False)

    def forget(self) -> None:
        self._parts.clear()


def _bytes(data) -> int:
    return 1024 * data.GetActualMemorySize()
