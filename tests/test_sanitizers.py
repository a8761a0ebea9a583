"""The CPU kernels' driver (`kernels/driver.cpp`) under the sanitizers of addresses, undefined behaviour and threads, and valgrind."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from apmgsrn_core.kernels import cpu_library

SOURCE = Path(__file__).parent / "kernels"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("cmake") or not shutil.which("c++"), reason="no cmake or C++ compiler"),
]


def build(folder, flags: str) -> Path:
    for command in (
        ["cmake", "-S", SOURCE, "-B", folder, f"-DCMAKE_CXX_FLAGS={flags}"],
        ["cmake", "--build", folder, "--parallel", "2"],
    ):
        environment = {k: v for k, v in os.environ.items() if k not in ("CC", "CXX")}
        result = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
        if result.returncode and re.search("cannot find .*lib(asan|tsan|ubsan)", result.stdout + result.stderr):
            pytest.skip("the compiler has no sanitizer libraries")
        assert result.returncode == 0, result.stdout + result.stderr
    return folder / "driver"


def test_no_access_out_of_bounds_and_no_undefined_behaviour(tmp_path):
    driver = build(tmp_path, "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all")
    result = subprocess.run([driver], capture_output=True, text=True, timeout=500)
    assert result.returncode == 0 and result.stdout.startswith("clean: "), result.stdout + result.stderr


def test_no_data_races(tmp_path):
    """Of the pool and of two callers at once, with the fastest path; the others differ in nothing that threads see."""
    driver = build(tmp_path, "-O1 -g -fsanitize=thread")
    result = subprocess.run([driver, *cpu_library.paths()[:1]], capture_output=True, text=True, timeout=900)
    assert result.returncode == 0 and result.stdout.startswith("clean: "), (result.stdout + result.stderr)[-5000:]


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("valgrind"), reason="no valgrind")
@pytest.mark.parametrize("path", ["portable", "avx2"])
def test_valgrind_finds_nothing(tmp_path, path):
    """valgrind knows no AVX-512 instructions: the paths that it can run."""
    driver = build(tmp_path, "-O2")
    command = ["valgrind", "--error-exitcode=9", "--errors-for-leak-kinds=definite", "--leak-check=full", driver, path]
    result = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert result.returncode == 0 and f"clean: {path}" in result.stdout, result.stderr[-3000:]
