"""Triton's library is loaded with its own symbols first, beside others that contain LLVM too.

Mesa, which draws ParaView's pictures where there is no display, loads an LLVM for all to see; Triton's own LLVM would be bound
to that one and end the process (segmentation fault) when it is imported after the first picture. torch imports Triton by itself too.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ExtensionFileLoader, PathFinder
from importlib.util import spec_from_file_location

LIBRARY = "triton._C.libtriton"


class OwnSymbolsFirst(ExtensionFileLoader):
    """Loads a library that looks a name up in itself before it does elsewhere."""

    def create_module(self, spec):
        flags = sys.getdlopenflags()
        sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
        try:
            return super().create_module(spec)
        finally:
            sys.setdlopenflags(flags)


class LibraryFinder:
    """Finds Triton's library where Python would, and nothing else."""

    @staticmethod
    def find_spec(name: str, path=None, target=None):
        if name != LIBRARY or not hasattr(os, "RTLD_DEEPBIND"):
            return None
        found = PathFinder.find_spec(name, path, target)
        if found is None or found.origin is None:
            return None
        return spec_from_file_location(name, found.origin, loader=OwnSymbolsFirst(name, found.origin))


if LibraryFinder not in sys.meta_path:
    sys.meta_path.insert(0, LibraryFinder)
