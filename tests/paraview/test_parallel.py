"""The same results on one and on two ranks: pvbatch, and a parallel server with a client."""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, output, values_of
from paraview import simple

HERE = Path(__file__).parent
PLUGIN = str(ROOT / "xml" / "apmgsrn.xml")
MPIRUN = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", "2"]
# pvpython is an MPI process itself; what it put into the environment would stop mpirun.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PMIX_", "PRTE_"))}
ENVIRONMENT |= {"OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
TRAINER_CELLS = 15 * 10 * 10

pytestmark = pytest.mark.mpi


def run(command, folder):
    """The report that a script wrote, and what it printed as errors."""
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "report.json").read_text()), done.stderr


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{ranks: (folder, report, errors)}"""
    results = {}
    for ranks, start in ((1, []), (2, MPIRUN)):
        folder = tmp_path_factory.mktemp(f"ranks{ranks}")
        command = [*start, "pvbatch", str(HERE / "parallel_script.py"), PLUGIN, str(folder)]
        results[ranks] = (folder, *run(command, folder))
    return results


def read(path):
    reader = simple.OpenDataFile(str(path))
    reader.UpdatePipeline()
    image = output(reader)
    return image.GetDimensions(), image.GetBounds(), values_of(image, "RTData")


@pytest.mark.parametrize("name", ["reconstruction", "fine"])
def test_two_ranks_give_the_values_of_one(runs, name):
    one, two = (read(runs[ranks][0] / f"{name}.pvti") for ranks in (1, 2))
    assert len(list(runs[2][0].rglob(f"{name}_*.vti"))) == 2
    assert one[0] == two[0] and one[1] == two[1]
    np.testing.assert_allclose(one[2], two[2], atol=1e-5 * np.ptp(one[2]))


def test_the_models_are_equal(runs):
    one, two = ((runs[ranks][0] / "saved.apmgsrn").read_bytes() for ranks in (1, 2))
    assert one == two


@pytest.mark.parametrize("name", ["trainer", "source"])
def test_contour_slice_and_gradient_downstream(runs, name):
    one, two = (runs[ranks][1][name] for ranks in (1, 2))
    assert one[0] > 100 and one[1] > 90
    np.testing.assert_allclose(one[:2], two[:2], rtol=1e-4)
    assert one[2] <= two[2]  # with ghost cells


@pytest.mark.parametrize("ranks", [1, 2])
def test_trained_once_with_rows_and_boxes_once(runs, ranks):
    report = runs[ranks][1]
    assert report["trainings"] == 2  # two seeds, the first one asked for twice
    assert report["status"].startswith("trained")
    assert report["rows"] == 30
    assert report["boxes"] == 48
    assert report["reader"] == TRAINER_CELLS


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_error_is_told_once_and_does_not_hang(runs, ranks):
    _, report, errors = runs[ranks]
    assert "'abacus'" in report["error"]
    assert errors.count("abacus") == 2  # the script asks twice with different settings
    assert report["cells_after_error"] == TRAINER_CELLS


def test_client_and_parallel_server(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    log = tmp_path / "server.log"
    with open(log, "w") as file:
        server = subprocess.Popen(
            [*MPIRUN, "pvserver", f"--server-port={port}"], env=ENVIRONMENT, stdout=file, stderr=file
        )
    try:
        end = time.time() + 60
        while "Accepting connection" not in log.read_text() and server.poll() is None and time.time() < end:
            time.sleep(0.2)
        assert server.poll() is None, log.read_text()
        report, errors = run(["pvpython", str(HERE / "client_script.py"), PLUGIN, port, str(tmp_path)], tmp_path)
        server.wait(60)
    finally:
        server.kill()
        server.wait()
    told = errors + log.read_text()
    assert report["status"].startswith("trained"), told
    assert report["devices"][:2] == ["auto", "cpu"]
    assert report["cells"] == report["reader"] == TRAINER_CELLS
    assert report["contour"] > 100
    assert report["rows"] == 30
    assert "4 bricks" in report["bricks"] and report["brick_rows"] == 120
    assert "/no/such/folder" in report["error"]
    assert "Traceback" not in told and "/no/such/folder" in told
