"""The packages that are needed, in which versions; `pyproject.toml` and `plugin/install.sh` say the same."""

from __future__ import annotations

import re

NEEDED = {"torch": ("2.4", "3"), "numpy": ("1.23", "3"), "safetensors": ("0.4", "1"), "tqdm": ("4", "5")}  # from, below
OPTIONAL = {"onnxruntime": ("1.17", "2")}
USES = {"onnxruntime": "only networks in ONNX files need it", "triton": "only the kernels of GPUs need it"}


def numbers_of(version: str) -> tuple[int, ...]:
    """2.13.0+cpu -> (2, 13, 0)."""
    return tuple(int(part) for part in re.match(r"[\d.]*", version)[0].strip(".").split(".") if part)


def specifier(package: str) -> str:
    """As pip takes it: torch>=2.4,<3; the bare name where every version will do."""
    low, high = {**NEEDED, **OPTIONAL}.get(package, ("", ""))
    return f"{package}>={low},<{high}" if low else package


def wrong_version(package: str, version: str) -> str:
    """What is expected when a version is out of its range; "" when it is not."""
    low, high = {**NEEDED, **OPTIONAL}.get(package, ("", ""))
    fits = not low or numbers_of(low) <= numbers_of(version) < numbers_of(high)
    return "" if fits else f"expected from {low} on and below {high}"
