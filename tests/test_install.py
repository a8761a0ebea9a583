"""plugin/env.sh, plugin/install.sh and CMakeLists.txt, as a user meets them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHELLS = [pytest.param(s, marks=pytest.mark.skipif(not shutil.which(s), reason=f"no {s}")) for s in ("bash", "zsh")]
needs_pvpython = pytest.mark.skipif(not shutil.which("pvpython"), reason="pvpython not found")
needs_cmake = pytest.mark.skipif(not shutil.which("cmake"), reason="cmake not found")


OWN = ("PYTHONPATH", "PV_PLUGIN_CONFIG_FILE", "PYTEST_ADDOPTS", "APMGSRN_KERNELS", "CC", "CXX")


def run(*command, cwd=None, seconds=120, **environment):
    """Run to the end with this process's environment, less what env.sh sets."""
    inherited = {k: v for k, v in os.environ.items() if k not in OWN}
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True, timeout=seconds,
    )  # fmt: skip


# ---- plugin/env.sh -----------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path):
    """A checkout with a .venv, as env.sh sees it, at a path that is awkward in a shell and in XML."""
    root = tmp_path / "a & 'b' [c]"
    (root / "xml").mkdir(parents=True)
    (root / "xml" / "apmgsrn.xml").write_text("<ServerManagerConfiguration/>")
    (root / "plugin").mkdir()
    shutil.copy(ROOT / "plugin" / "env.sh", root / "plugin")
    (root / ".venv" / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    return root


def sourced(shell, checkout, times=1, **environment):
    lines = ["set -eu", f"cd '{checkout.parent}'"] + ['source "./$1/plugin/env.sh"'] * times
    lines.append('printf "%s\\n" "$PYTHONPATH" "$PV_PLUGIN_CONFIG_FILE"')
    result = run(shell, "-c", "\n".join(lines), shell, checkout.name, **environment)
    assert result.returncode == 0, result.stderr
    python_path, config = result.stdout.splitlines()
    return python_path.split(":"), Path(config)


@pytest.mark.parametrize("shell", SHELLS)
def test_env_sets_both_variables_once(checkout, shell):
    expected = [str(checkout / "plugin"), str(checkout), str(checkout / ".venv/lib/python3.11/site-packages")]
    assert sourced(shell, checkout)[0] == expected
    assert sourced(shell, checkout, times=3)[0] == expected
    # what the user has stays, behind
    assert sourced(shell, checkout, times=2, PYTHONPATH="/x:/y")[0] == expected + ["/x", "/y"]


@pytest.mark.parametrize("shell", SHELLS)
def test_env_names_the_xml_files_absolutely_also_after_a_move(checkout, shell):
    import xml.etree.ElementTree as ElementTree

    for place in ("first", "second place"):
        checkout = checkout.rename(checkout.parent / place)
        config = sourced(shell, checkout)[1]
        plugin = ElementTree.parse(config).getroot().find("Plugin")
        assert plugin.attrib == {"name": "apmgsrn", "filename": str(checkout / "xml/apmgsrn.xml"), "auto_load": "1"}
    assert sorted(p.name for p in (checkout / ".venv").iterdir()) == ["apmgsrn.plugins.xml", "lib"]


def test_env_says_what_to_type_without_venv(checkout):
    shutil.rmtree(checkout / ".venv")
    result = run("bash", "-c", 'source "$1/plugin/env.sh"', "bash", checkout)
    assert result.returncode != 0
    assert f'bash "{checkout}/plugin/install.sh"' in result.stderr


# ---- plugin/install.sh ---------------------------------------------------------------------------------


@needs_pvpython
@pytest.mark.skipif(not (ROOT / ".venv" / ".installed-tests").exists(), reason="plugin/install.sh tests was not run")
@pytest.mark.parametrize("arguments", [[], ["tests"]], ids=["use", "tests"])
def test_a_second_installation_does_nothing(arguments):
    script, stamp = ROOT / "plugin" / "install.sh", (ROOT / ".venv" / ".installed-tests").read_text()
    if not stamp.startswith(run("bash", "-c", f"cksum <'{script}'").stdout.rstrip()):
        pytest.skip("plugin/install.sh has changed since it was run: it would install anew, into the .venv of these tests")
    same = {name: os.environ[name] for name in ("CC", "CXX") if name in os.environ}  # those of the first
    result = run("bash", ROOT / "plugin/install.sh", *arguments, seconds=20, **same)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@needs_pvpython
@pytest.mark.slow
def test_a_failed_installation_is_not_trusted(tmp_path):
    root = tmp_path / "project"
    (root / "plugin").mkdir(parents=True)
    shutil.copy(ROOT / "plugin" / "install.sh", root / "plugin")
    (root / ".venv").mkdir()
    for name in (".made-by-apmgsrn", ".unfinished", "left over"):
        (root / ".venv" / name).touch()

    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    result = run("bash", root / "plugin/install.sh", **nowhere)
    if "torch is there" in result.stdout and result.returncode == 0:
        pytest.skip("the Python of this ParaView has all that is to be installed")
    assert result.returncode != 0
    assert "pip could not install" in result.stderr
    left = {path.name for path in (root / ".venv").iterdir()}
    assert ".unfinished" in left
    assert not {name for name in left if name.startswith(".installed")} and "left over" not in left


@pytest.mark.slow
@needs_pvpython
def test_a_foreign_venv_is_left_alone(tmp_path):
    (tmp_path / "plugin").mkdir()
    shutil.copy(ROOT / "plugin" / "install.sh", tmp_path / "plugin")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to("/usr/bin/python3")
    result = run("bash", tmp_path / "plugin/install.sh")
    assert result.returncode != 0
    assert "was not made by this script" in result.stderr
    assert [path.name for path in (tmp_path / ".venv").iterdir()] == ["bin"]


# ---- CMakeLists.txt ------------------------------------------------------------------------------------


@needs_cmake
@needs_pvpython
@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["", "/no/compiler", "false"])
def test_cmake_installs_a_plugin_that_loads(tmp_path, compiler):
    """With a compiler it has the native kernels; without one, and with CXX=false, it says so and works in torch."""
    if not compiler and not shutil.which("c++"):
        pytest.skip("no C++ compiler")
    build, prefix = tmp_path / "build", tmp_path / "prefix"
    environment = {"CC": compiler, "CXX": compiler} if compiler else {}
    configured = run("cmake", "-S", ROOT, "-B", build, **environment)
    assert configured.returncode == 0, configured.stderr
    assert ("No C++ compiler" in configured.stdout) == bool(compiler)
    built = run("cmake", "--build", build, "--parallel", "2", seconds=500)
    assert built.returncode == 0, built.stdout + built.stderr
    installed = run("cmake", "--install", build, "--prefix", prefix)
    assert installed.returncode == 0, installed.stderr
    prefix = prefix.rename(tmp_path / "moved prefix")

    script = tmp_path / "look.py"
    script.write_text(
        "import apmgsrn_core, apmgsrn_paraview\n"
        "from paraview.simple import NeuralVolume, Sphere\n"
        "import paraview.simple as simple\n"
        "NeuralVolume(); simple.TrainNeuralVolume\n"
        "print('FILES', apmgsrn_core.__file__, apmgsrn_paraview.__file__, sep='|')\n"
        "import sys; sys.path.append(sys.argv[1])\n"
        "import torch; from apmgsrn_core.kernels import choose; print('KERNEL', choose(torch.device('cpu')).name)\n"
    )
    packages = next((ROOT / ".venv/lib").glob("python3*/site-packages"))
    command = f"source '{prefix}/bin/apmgsrn-env.sh' && exec pvpython '{script}' '{packages}'"
    loaded = run("bash", "-c", command, cwd=tmp_path, HOME=str(tmp_path))
    assert loaded.returncode == 0, loaded.stdout + loaded.stderr
    kernel = next(line for line in loaded.stdout.splitlines() if line.startswith("KERNEL"))
    assert (kernel == "KERNEL torch") == bool(compiler), kernel
    files = next(line for line in loaded.stdout.splitlines() if line.startswith("FILES")).split("|")[1:]
    assert len(files) == 2 and all(prefix in Path(name).parents for name in files)


@pytest.fixture
def build(tmp_path):
    """A build without native kernels."""
    environment = {"CC": "false", "CXX": "false"}
    for command in (["cmake", "-S", ROOT, "-B", tmp_path / "build"], ["cmake", "--build", tmp_path / "build"]):
        done = run(*command, **environment)
        assert done.returncode == 0, done.stderr
    return tmp_path / "build"


@needs_cmake
@pytest.mark.slow
@pytest.mark.parametrize("by", ["the build", "its own script"])
def test_uninstall_leaves_nothing(build, tmp_path, by):
    """Neither what was installed nor what came to lie in it; what others have in the same folders stays."""
    prefix, shared = tmp_path / "prefix", tmp_path / "shared"
    (shared / "lib").mkdir(parents=True)
    (shared / "lib" / "other").touch()
    for folder, left in ((prefix, None), (shared, {"lib", "lib/other"})):
        assert run("cmake", "--install", build, "--prefix", folder).returncode == 0
        (plugin,) = folder.glob("lib/paraview*/plugins/APMGSRN")
        (plugin / "plugin" / "__pycache__").mkdir()
        (plugin / ".venv").mkdir()
        assert run("cmake", "--build", build, "--target", "package", seconds=200).returncode == 0  # installs elsewhere
        own = ["cmake", "-P", plugin / "plugin" / "uninstall.cmake"]
        done = run(*(["cmake", "--build", build, "--target", "uninstall"] if by == "the build" else own))
        assert done.returncode == 0, done.stderr
        assert folder.exists() == (left is not None)
        assert left is None or {str(path.relative_to(folder)) for path in folder.rglob("*")} == left


@needs_cmake
def test_uninstall_touches_no_checkout_and_says_when_there_is_nothing(build):
    done = run("cmake", "-P", ROOT / "plugin" / "uninstall.cmake")
    assert done.returncode != 0 and "no" in done.stderr and "apmgsrn.plugins.xml" in done.stderr
    done = run("cmake", "--build", build, "--target", "uninstall")
    assert done.returncode != 0 and "nothing is installed from this build" in done.stderr


@needs_cmake
@needs_pvpython
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_archive_is_a_plugin_wherever_it_is_unpacked(build, tmp_path, kind):
    done = run("cmake", "--build", build, "--target", "package", seconds=200)
    assert done.returncode == 0, done.stderr
    (archive,) = build.glob(f"apmgsrn-paraview-*.{kind}")
    place = tmp_path / "some where"
    place.mkdir()
    assert run("cmake", "-E", "tar", "xf", archive, cwd=place).returncode == 0
    (unpacked,) = place.iterdir()
    script = tmp_path / "look.py"
    script.write_text(
        "import apmgsrn_core\nfrom paraview.simple import NeuralVolume, TrainNeuralVolume\nNeuralVolume()\n"
        "print('FILE', apmgsrn_core.__file__)\n"
    )
    command = f"source '{unpacked}/bin/apmgsrn-env.sh' && exec pvpython '{script}'"
    loaded = run("bash", "-c", command, cwd=tmp_path, HOME=str(tmp_path))
    assert loaded.returncode == 0, loaded.stdout + loaded.stderr
    assert f"FILE {unpacked}/lib/" in loaded.stdout


@needs_cmake
def test_cmake_registers_the_tests_only_where_they_can_run(tmp_path):
    found = ["-DAPMGSRN_PVPYTHON=/usr/bin/true", "-DAPMGSRN_XVFB_RUN=/usr/bin/true"]
    nowhere = ["-DCMAKE_FIND_USE_SYSTEM_ENVIRONMENT_PATH=OFF", "-DCMAKE_IGNORE_PATH=/usr/bin;/bin;/usr/local/bin"]
    nowhere.append(f"-DCMAKE_MAKE_PROGRAM={shutil.which('make')}")
    for name, options, expected in (("with", found, 3), ("without", nowhere, 0)):
        configured = run("cmake", "-S", ROOT, "-B", tmp_path / name, *options)
        assert configured.returncode == 0, configured.stderr
        listed = run("ctest", "--test-dir", tmp_path / name, "--show-only").stdout
        assert f"Total Tests: {expected}" in listed
        assert ("not registered" in configured.stdout) == (expected == 0)


# ---- pyproject.toml ------------------------------------------------------------------------------------


def test_the_core_is_a_package_by_itself(tmp_path):
    """What `pip install .` would bring: the core with its subpackages, nothing of the plugin, no torch imported."""
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(ROOT / "pyproject.toml", source)
    shutil.copytree(ROOT / "apmgsrn_core", source / "apmgsrn_core", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "plugin", source / "plugin", ignore=shutil.ignore_patterns("__pycache__"))
    code = "import setuptools; setuptools.setup(script_args=['-q', 'build', '--build-lib', 'out'])"
    built = run(ROOT / ".venv/bin/python", "-c", code, cwd=source)
    assert built.returncode == 0, built.stderr
    packaged = {str(p.relative_to(source / "out")) for p in (source / "out").rglob("*.py")}
    assert packaged == {str(p.relative_to(ROOT)) for p in (ROOT / "apmgsrn_core").rglob("*.py")}
