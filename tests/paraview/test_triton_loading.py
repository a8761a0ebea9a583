"""Triton beside Mesa: both contain an LLVM, and the second one that is loaded must not be bound to the first."""

import importlib.util
import subprocess

import pytest

SCRIPT = """
from paraview import simple
simple.Show(simple.Sphere())
simple.Render()
from apmgsrn_core.device import require_torch
require_torch()
import triton
simple.Render()
print("alive", triton.__version__, flush=True)
"""

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("triton"), reason="triton not found")


def test_triton_after_a_picture(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ended = subprocess.run(["pvpython", script], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0 and "alive" in ended.stdout, ended.stdout + ended.stderr
