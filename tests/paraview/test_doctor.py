"""Check Installation: the doctor of the core from ParaView, on whichever side computes; nothing before it is asked."""

import os
import socket
import subprocess
import time

import pytest
from conftest import ROOT, info, make_image, simple, smooth_values, train

SCRIPT = [str(ROOT / "tests" / "paraview" / "doctor_script.py"), str(ROOT / "xml" / "apmgsrn.xml")]


def told(output):
    """(what the property said before, its lines after)."""
    before, _, rest = output.partition("AFTER\n")
    return next(line for line in before.splitlines() if line.startswith("BEFORE")), rest.partition("\nEND")[0].splitlines()


def with_path(folder=None, **more):
    """An environment without what MPI has put there for this process."""
    path = [str(folder)] if folder else []
    left = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PMIX_", "PRTE_"))}
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return {**left, **root, "PYTHONPATH": os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")]), **more}


def run(environment, *words):
    done = subprocess.run(["pvpython", *SCRIPT, *words], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_filter_and_a_source_tell_the_same():
    trained, volume = train(make_image(smooth_values((6, 6, 6))), Iterations=3), simple.NeuralVolume()
    for proxy in (trained, volume):
        assert "not looked at yet" in info(proxy, "Installation")
        proxy.SMProxy.InvokeCommand("CheckInstallation")
    lines = info(trained, "Installation").splitlines()
    assert lines[0].startswith("apmgsrn ") and "problem" in lines[0]
    assert any(line.startswith("self-test on cpu: ") and "within" in line for line in lines)
    assert [line.partition(":")[0] for line in lines] == [
        line.partition(":")[0] for line in info(volume, "Installation").splitlines()
    ]


@pytest.mark.slow
def test_nothing_is_looked_at_before_it_is_asked_and_then_what_is_wrong_comes_first(tmp_path):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")")
    before, lines = told(run(with_path(tmp_path, OMP_WAIT_POLICY="ACTIVE", DISPLAY=":48124")))
    assert before == "BEFORE [] not looked at yet (Check Installation)"
    assert "problem" in lines[0]
    wrong = [line.partition(":")[2].partition(":")[0].strip() for line in lines if line.startswith("PROBLEM: ")]
    assert {"torch", "OMP_WAIT_POLICY", "screen"} <= set(wrong)
    assert all(line.startswith("PROBLEM: ") and " -> " in line for line in lines[1 : 1 + len(wrong)])
    torch = next(line for line in lines if line.startswith("PROBLEM: torch"))
    assert "plugin/install.sh" in torch or "plugin/env.sh" in torch or "pip install torch" in torch
    assert any("pvpython" in line for line in lines if line.startswith("ParaView: "))


@pytest.mark.slow
@pytest.mark.mpi
def test_a_server_tells_of_itself(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    log = tmp_path / "server.log"
    command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", "2", "pvserver", f"--server-port={port}"]
    with open(log, "w") as file:
        server = subprocess.Popen(command, env=with_path(OMP_NUM_THREADS="1"), stdout=file, stderr=file)
    try:
        end = time.time() + 60
        while "Accepting connection" not in log.read_text() and server.poll() is None and time.time() < end:
            time.sleep(0.2)
        assert server.poll() is None, log.read_text()
        output = run(with_path(), port)
        server.wait(60)
    finally:
        server.kill()
        server.wait()
    _, lines = told(output)
    assert any(line.endswith(", pvserver") for line in lines if line.startswith("ParaView: ")), lines
    assert "ranks: 2, this is 0" in lines and "CLIENT False" in output
    assert "WARN" not in log.read_text(), log.read_text()


@pytest.mark.slow
@pytest.mark.mpi
def test_a_batch_program_tells_of_itself():
    command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", "2", "pvbatch", *SCRIPT]
    done = subprocess.run(command, env=with_path(OMP_NUM_THREADS="1"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    _, lines = told(done.stdout)
    assert any(line.endswith(", pvbatch") for line in lines if line.startswith("ParaView: ")), lines
    assert "ranks: 2, this is 0" in lines and "WARN" not in done.stdout + done.stderr
