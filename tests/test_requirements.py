"""The ranges of what is needed: the same in pyproject.toml, in plugin/install.sh and for the doctor."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from apmgsrn_core.diagnosis.requirements import NEEDED, OPTIONAL, numbers_of, specifier, wrong_version

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT, INSTALL = (ROOT / "pyproject.toml").read_text(), (ROOT / "plugin" / "install.sh").read_text()


def listed(name: str) -> list[str]:
    """The requirements of one line of pyproject.toml."""
    return re.findall(r'"([^"]+)"', re.search(rf"(?m)^{name} = \[(.*)\]", PYPROJECT)[1])


def test_the_project_needs_what_the_doctor_asks_for():
    assert sorted(listed("dependencies")) == sorted(map(specifier, NEEDED))
    assert listed("onnx") == [specifier("onnxruntime")]


def test_the_installation_takes_the_same():
    assert all(f'"{specifier(name)}"' in INSTALL for name in ("torch", "safetensors", "tqdm"))
    assert all(f'"{one}"' in INSTALL for one in listed("tests"))
    assert all(f'"{one}"' in (ROOT / "tests" / "run.sh").read_text() for one in listed("shuffled"))
    advice = (ROOT / "plugin" / "apmgsrn_paraview" / "torch_advice.py").read_text()
    assert f"""PACKAGES = '"{specifier("torch")}" safetensors tqdm'""" in advice
    low, high = (numbers_of(bound) for bound in NEEDED["torch"])
    assert f"{low} <= tuple" in INSTALL and f"< {(*high, 0)}" in INSTALL, "of a torch that ParaView's Python has already"
    pinned = re.search(r'torch_cpu="([\d.]+)"', INSTALL)[1]
    assert wrong_version("torch", pinned) == ""


def test_all_have_an_upper_bound():
    for requirement in listed("dependencies") + listed("tests") + listed("shuffled") + listed("onnx") + listed("codecs"):
        assert "<" in requirement, requirement


def test_what_is_known_to_be_bad_is_kept_out():
    for line in ("vtk<0", "paraview<0", listed("codecs")[0]):
        assert f'print("{line}' in INSTALL or f"\\n{line}" in INSTALL, line


@pytest.mark.parametrize(
    "package, version, good",
    [
        ("torch", "2.4.0", True), ("torch", "2.13.0+cpu", True), ("torch", "2.3.1", False), ("torch", "3.0.0", False),
        ("torch", "2.14.0a0+git123", True), ("numpy", "1.24.2", True), ("numpy", "2.4.0", True), ("numpy", "1.22.9", False),
        ("safetensors", "0.8.0", True), ("safetensors", "1.0", False), ("onnxruntime", "1.16", False), ("unknown", "0", True),
    ],
)  # fmt: skip
def test_versions_in_and_out_of_the_ranges(package, version, good):
    assert (wrong_version(package, version) == "") == good
    assert package in NEEDED or package in OPTIONAL or good
