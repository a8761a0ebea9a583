"""The doctor: every problem that it can meet is found, with a command that mends it."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from apmgsrn_core.command_line import main
from apmgsrn_core.diagnosis import (
    computer, examination, finding, kernel_choice, packages, parallel, paraview_program, torch_build,
)  # fmt: skip
from apmgsrn_core.diagnosis.finding import NOTE, OK, PROBLEM, ROOT, Finding, HostProgram
from apmgsrn_core.errors import TorchError

TOLD = {
    "python": "3.11.2", "numpy": "1.24.2", "vtk": "9.2", "points": 64, "paraview": "5.11.0", "plugin": True, "step": "",
    "places": {"numpy": "/own", "vtkmodules": "/own", "paraview": "/own", "torch": "/t", "apmgsrn_core": str(ROOT),
               "apmgsrn_paraview": str(ROOT / "plugin")},
}  # fmt: skip


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    """None of ours, and no launcher."""
    for name in list(os.environ):
        if name.startswith(("APMGSRN_", "OMPI_COMM", "PMI_", "SLURM_")) or name in ("PV_PLUGIN_CONFIG_FILE", "PV_PLUGIN_PATH"):
            monkeypatch.delenv(name)


def problems(found):
    """{name: finding}; each has a fix."""
    bad = {f.name: f for f in found if f.level == PROBLEM}
    assert all(f.fix and f.value for f in bad.values())
    return bad


def doctor(*options, path=None, python=sys.executable, **environment):
    """Run as a user does; without pvpython and mpirun on the path unless it is given."""
    environment = {**os.environ, "PATH": path or "/nowhere", **environment}
    command = [python, "-m", "apmgsrn_core", "doctor", *options]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)


# -- the command ------------------------------------------------------------------------------------


def test_json_has_what_the_text_has():
    done, data = doctor(), json.loads(doctor("--json").stdout)
    for one in data["findings"]:
        assert set(one) == {"area", "name", "value", "level", "fix"} and one["level"] in (OK, NOTE, PROBLEM)
        assert one["name"] in done.stdout and one["area"] in done.stdout
    count = len(problems(Finding(**f) for f in data["findings"]))
    assert done.returncode == (count > 0) and f"{count} problem" in done.stdout.splitlines()[-1]
    assert {"Python", "torch", "kernels", "computer", "ParaView", "MPI"} == {f["area"] for f in data["findings"]}


@pytest.mark.parametrize("text", ["raise ModuleNotFoundError('none', name='torch')", "raise RuntimeError('broken')", "1/0", "x = 1"])
def test_it_runs_without_torch_or_with_a_broken_one(tmp_path, text):
    (tmp_path / "torch.py").write_text(text)
    done = doctor("--json", PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    found = problems(Finding(**f) for f in json.loads(done.stdout)["findings"])
    assert str(tmp_path) in found["torch"].value and "PYTHONPATH" in found["torch"].fix


def test_only_its_own_module_is_imported():
    code = (
        "import sys; from apmgsrn_core.command_line import _parser; _parser(['doctor'])\n"
        "sys.exit(', '.join({'torch', 'numpy', 'apmgsrn_core.command_line.training'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_part_that_fails_is_a_problem_and_the_others_are_told(monkeypatch, capsys):
    def broken():
        raise KeyError("surprise")

    monkeypatch.setattr(examination, "package_findings", broken)
    monkeypatch.setattr(examination, "paraview_findings", lambda host: [])
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "surprise" in shown and "processor" in shown


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pvpython") is None, reason="pvpython not found")
def test_pvpython_is_asked_as_it_starts(tmp_path):
    """With the plugin's variables, without, with a second numpy, and with a vtk that crashes it."""
    there = dict(os.environ, PV_PLUGIN_CONFIG_FILE=str(tmp_path / "apmgsrn.plugins.xml"))
    (tmp_path / "apmgsrn.plugins.xml").write_text(
        f'<Plugins><Plugin name="apmgsrn" filename="{ROOT}/xml/apmgsrn.xml" auto_load="1"/></Plugins>'
    )
    there["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "plugin"), *sys.path[1:]])

    def asked(**more):
        done = doctor("--json", **{"path": os.environ["PATH"], **there, **more})
        return {f["name"]: Finding(**f) for f in json.loads(done.stdout)["findings"] if f["area"] == "ParaView"}

    usual = asked()
    assert usual["plugin"].level == OK and usual["appended data"].value == "read back as written", usual
    bare = asked(PV_PLUGIN_CONFIG_FILE="", PYTHONPATH="")
    assert bare["plugin"].level == NOTE and "env.sh" in bare["plugin"].fix
    for package, text in (("numpy", "__version__ = '9'"), ("vtkmodules", "import os\nos.kill(os.getpid(), 11)")):
        folder = tmp_path / package
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(text)
        found = asked(PYTHONPATH=f"{folder}{os.pathsep}{there['PYTHONPATH']}")
        second = found["second " + packages.OF_PARAVIEW[package]]
        assert second.level == PROBLEM and str(folder) in second.value and str(folder) not in second.fix
    assert "signal 11" in found["pvpython"].value and "importing vtkmodules" in found["pvpython"].value


# -- packages ---------------------------------------------------------------------------------------


def make_package(folder: Path, name: str) -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").touch()
    return folder.resolve()


@pytest.mark.parametrize("package", ["numpy", "vtkmodules", "mpi4py"])
def test_a_package_that_hides_paraviews_own(tmp_path, monkeypatch, package):
    own, other = tmp_path / "own", tmp_path / "other"
    for name in ("paraview", "numpy", "vtkmodules", "mpi4py"):
        make_package(own, name)
    make_package(other, package)
    monkeypatch.setattr(packages, "started_with", lambda name: os.pathsep.join([str(other), "/rest"]))
    monkeypatch.setattr(sys, "path", [str(own), str(other)])
    assert packages.doubled_findings() == []
    monkeypatch.setattr(sys, "path", [str(other), str(own)])
    (found,) = problems(packages.doubled_findings()).values()
    assert str(other) in found.value and str(own) in found.value and found.fix == "export PYTHONPATH=/rest"
    (other / "pyvenv.cfg").touch()  # a virtual environment's is uninstalled there
    make_package(other / "lib", package)
    monkeypatch.setattr(sys, "path", [str(other / "lib"), str(own)])
    (found,) = packages.doubled_findings()
    assert found.fix == f"{other}/bin/python -m pip uninstall {packages.OF_PARAVIEW[package]}"
    monkeypatch.setattr(sys, "path", [str(other)])  # without ParaView there is nothing to hide
    assert packages.doubled_findings() == []


def test_an_unknown_word_and_an_unknown_variable(monkeypatch):
    monkeypatch.setenv("APMGSRN_LOG", "loud")
    monkeypatch.setenv("APMGSRN_KERNEL", "torch")
    found = packages.python_findings()
    assert "debug" in problems(found)["APMGSRN_LOG"].value
    (note,) = (f for f in found if f.level == NOTE)
    assert note.name == "APMGSRN_KERNEL" and note.fix == "unset APMGSRN_KERNEL"


def test_a_version_out_of_its_range(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", SimpleNamespace(__version__="3.9", __file__="/a/tqdm/__init__.py"))
    assert "expected from 4 on" in problems(packages.package_findings())["tqdm"].value


def test_a_package_for_another_python(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "ROOT", tmp_path)
    monkeypatch.setattr(packages, "folders_with", lambda name: [])
    make_package(tmp_path / ".venv/lib/python3.2/site-packages", "torch")
    assert "python3.2" in packages.elsewhere("torch")
    assert "install.sh" in packages.how_to_get("torch")
    make_package(tmp_path / ".venv/lib" / packages.VERSION / "site-packages", "torch")
    assert packages.elsewhere("torch") == "" and packages.how_to_get("torch").startswith("source ")


# -- torch ------------------------------------------------------------------------------------------


def torch_like(version="2.13.0", cuda=None, usable=0):
    device = SimpleNamespace(
        is_available=lambda: usable > 0, device_count=lambda: usable, mem_get_info=lambda i: (1 << 30, 2 << 30),
        get_device_name=lambda i: "GPU",
    )  # fmt: skip
    return SimpleNamespace(
        __version__=version, __file__="/a/torch/__init__.py", version=SimpleNamespace(cuda=cuda, hip=None), cuda=device
    )


@pytest.mark.parametrize(
    "torch, gpus, name, word",
    [
        (torch_like("2.3.1"), 0, "torch", "from 2.4 on"), (torch_like("3.0"), 0, "torch", "below 3"),
        (torch_like(), 1, "GPU", "without CUDA"), (torch_like(cuda="13.0"), 1, "GPU", "driver"),
        (torch_like(cuda="12.8", usable=1), 1, "", ""), (torch_like(), 0, "", ""),
    ],
)  # fmt: skip
def test_torch_that_does_not_fit(monkeypatch, torch, gpus, name, word):
    monkeypatch.setattr(torch_build, "require_torch", lambda: torch)
    monkeypatch.setattr(torch_build, "list_devices", lambda: ["auto", "cpu", *["cuda:0 (GPU)"] * gpus])
    found = problems(torch_build.torch_findings(None))
    assert set(found) == ({name} if name else set()) and all(word in f.value for f in found.values())


def test_paraview_says_itself_how_torch_comes(monkeypatch):
    def missing():
        raise TorchError("no torch", "advice for others")

    monkeypatch.setattr(torch_build, "require_torch", missing)
    (found,) = torch_build.torch_findings(HostProgram("pvpython", "5.11.0", "9.2", torch_advice="Type: this"))
    assert found.level == PROBLEM and found.fix == "Type: this" and "advice for others" not in found.value


# -- kernels ----------------------------------------------------------------------------------------


@pytest.fixture
def library(monkeypatch):
    """Says what the library of the kernels is like."""
    from apmgsrn_core.kernels import cpu_library

    def given(paths, flags, why=""):
        found = None if why else SimpleNamespace(_name="lib/libapmgsrn_cpu-1.so")
        monkeypatch.setattr(cpu_library, "load", lambda: (found, why))
        monkeypatch.setattr(cpu_library, "paths", lambda: paths)
        monkeypatch.setattr(kernel_choice, "processor_flags", lambda: set(flags.split()))
        return kernel_choice._of_cpu()

    return given


ALL_FLAGS = " ".join(kernel_choice.NEEDS["amx"] + kernel_choice.NEEDS["avx2"])


@pytest.mark.parametrize("why", ["the native CPU kernels are not built", "the native CPU kernels are of other sources"])
def test_kernels_that_are_not_there(library, why):
    assert why in problems([library((), "", why)])["CPU"].value


def test_why_no_better_path(library):
    found = library(("avx2", "portable"), "avx2 fma avx512f")
    assert found.level == OK and "no avx512: the processor lacks avx512dq" in found.value and "no amx" in found.value
    found = library(("avx512", "avx2", "portable"), ALL_FLAGS)
    assert found.level == NOTE and "no amx: the library was built without it" in found.value and found.fix
    assert library(("amx", "avx512", "avx2", "portable"), ALL_FLAGS).value == "native amx (libapmgsrn_cpu-1.so)"


@pytest.mark.parametrize(
    "name, value, level",
    [
        ("APMGSRN_KERNELS", "torch", NOTE), ("APMGSRN_KERNELS", "cuda", PROBLEM), ("APMGSRN_CPU", "portable", NOTE),
        ("APMGSRN_CPU", "sse", PROBLEM), ("APMGSRN_CPU", "avx2", OK),
    ],
)  # fmt: skip
def test_variables_that_choose_kernels(library, monkeypatch, name, value, level):
    monkeypatch.setenv(name, value)
    found = library(("avx2", "portable"), "avx2 fma")
    assert found.level == level and bool(found.fix) == (level != OK)
    if level == PROBLEM:
        assert kernel_choice.kernel_findings() == [found], "where nothing can be chosen there is nothing to test"


def test_the_self_test_compares_what_is_in_use(monkeypatch):
    import torch

    from apmgsrn_core import kernels
    from apmgsrn_core.kernels.readable import TorchKernel

    device = torch.device("cpu")
    right = kernel_choice._self_test(device)
    assert right.level == OK and kernels.choose(device).name in right.value

    class Wrong(TorchKernel):
        name = "wrong"

        def lattice(self, network, *axes):
            return super().lattice(network, *axes) * 1.001

    monkeypatch.setattr(kernels, "kernel_for", lambda network: Wrong())
    assert "wrong values, wrong against readable" in problems([kernel_choice._self_test(device)])["self-test on cpu"].value


# -- ParaView ---------------------------------------------------------------------------------------


def told(**changes):
    places = {**TOLD["places"], **changes.pop("places", {})}
    return paraview_program.findings_of("pvpython", {**TOLD, **changes, "places": places}, "")


def test_what_pvpython_tells(monkeypatch):
    monkeypatch.setenv("DISPLAY", "")
    assert problems(told()) == {}
    assert "deb12u5" in problems(told(points=0))["appended data"].value
    assert problems(told(places={"torch": ""}))["torch of pvpython"].fix.startswith(("source", "bash"))
    assert "apmgsrn_paraview" in problems(told(places={"apmgsrn_paraview": ""}))["plugin"].value
    assert problems(told(plugin=False, places={"torch": ""})) == {}, "as of plain Python on a computer with ParaView"
    notes = {f.name: f for f in told(plugin=False) if f.level == NOTE}
    assert "env.sh" in notes["plugin"].fix and "xvfb-run" in notes["screen"].fix
    assert "another" not in str(told()) and "/elsewhere" in str(told(places={"apmgsrn_core": "/elsewhere"}))


def test_a_python_file_in_paraview_5_11(monkeypatch):
    assert paraview_program.old_plugin_door(TOLD) == []
    monkeypatch.setenv("PV_PLUGIN_PATH", str(ROOT / "plugin"))
    assert problems(paraview_program.old_plugin_door(TOLD))["plugin file"].fix.endswith("xml")
    assert paraview_program.old_plugin_door({**TOLD, "paraview": "5.13.2"}) == []


@pytest.mark.parametrize(
    "text, word", [(None, "No such file"), ("<Plugins", "not well-formed|no element|unclosed"), ("<Plugins><Plugin filename='a.xml'/></Plugins>", "a.xml")]
)  # fmt: skip
def test_a_file_of_plugins_that_is_wrong(tmp_path, monkeypatch, text, word):
    path = tmp_path / "p.xml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("PV_PLUGIN_CONFIG_FILE", str(path))
    found = problems(paraview_program.plugin_files())["PV_PLUGIN_CONFIG_FILE"]
    assert any(part in found.value for part in word.split("|"))
    (tmp_path / "a.xml").touch()
    path.write_text("<Plugins><Plugin filename='a.xml'/></Plugins>")
    assert problems(paraview_program.plugin_files()) == {}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sockets of X without a file")
def test_a_screen_that_answers_and_one_that_does_not(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":48123")
    assert "xvfb-run" in problems([computer.screen_finding("5.11.0")])["screen"].fix
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0/tmp/.X11-unix/X48123")
        server.listen()
        assert computer.screen_finding("5.11.0").level == OK
    monkeypatch.setenv("DISPLAY", "nonsense")
    assert computer.screen_finding("5.11.0").level == PROBLEM
    monkeypatch.delenv("DISPLAY")
    assert computer.screen_finding("6.1.1").level == OK and computer.screen_finding("5.13.2").level == NOTE


# -- computer and MPI -------------------------------------------------------------------------------


@pytest.mark.parametrize("value, host, level", [
    ("ACTIVE", False, PROBLEM), (None, False, OK), (None, True, NOTE), ("passive", True, OK), ("ACTIVE", True, PROBLEM),
])  # fmt: skip
def test_threads_that_spin(monkeypatch, value, host, level):
    monkeypatch.setattr(computer, "started_with", lambda name: value)
    found = computer._waiting(HostProgram("paraview", "5.11.0", "9.2") if host else None)
    assert found.level == level and bool(found.fix) == (level != OK)


def test_no_room_for_temporary_files(monkeypatch):
    assert computer._temporary_folder().level == OK or shutil.disk_usage("/tmp").free < computer.LEAST_DISK
    monkeypatch.setattr(computer.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert "TMPDIR" in problems([computer._temporary_folder()])["temporary files"].fix


def test_inside_pvpython_another_python_is_asked(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/usr/lib/vtkpython")
    assert finding.python_path() == f"{sys.base_prefix}/bin/{packages.VERSION}"
    monkeypatch.setattr(parallel, "version_of", lambda name: "4.0")
    monkeypatch.setattr(parallel, "_answer_of", lambda command, environment=None: command[0])
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    assert parallel._library(None) == finding.python_path()


def test_an_mpirun_of_another_mpi(monkeypatch):
    monkeypatch.setattr(parallel.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(parallel, "_answer_of", lambda command, environment=None: "HYDRA build details:")
    assert "Open MPI" in problems([parallel._launcher("Open MPI v4.1.4, package: Debian")])["mpirun"].fix
    assert parallel._launcher("MPICH Version: 4.0").level == OK
    monkeypatch.setattr(parallel, "_answer_of", lambda command, environment=None: "failed: cannot run")
    assert parallel._launcher("").level == NOTE


@pytest.mark.parametrize("program, ranks, level", [("pvserver", 4, OK), ("pvserver", 1, PROBLEM), ("pvpython", 1, PROBLEM)])
def test_ranks_that_work_alone(monkeypatch, program, ranks, level):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    found = parallel._ranks(HostProgram(program, "5.11.0", "9.2", ranks))
    assert found.level == level and bool(found.fix) == (level != OK)


def test_inside_paraview_no_program_is_started(monkeypatch):
    def forbidden(*arguments, **more):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "run", forbidden)
    monkeypatch.setattr(subprocess, "Popen", forbidden)
    found = examination.examine_installation(HostProgram("pvserver", "5.11.0", "9.2.0", 1))
    assert not any("could not be examined" in f.value for f in found)
    assert any(f.value == "5.11.0, pvserver" for f in found)
