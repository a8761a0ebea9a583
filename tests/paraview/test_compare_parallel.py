"""Sampling and comparing on several ranks: what one process finds, and with a parallel server."""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from small_models import train_models

HERE = Path(__file__).parent
PLUGIN = str(ROOT / "xml" / "apmgsrn.xml")
# pvpython is an MPI process itself; what it put into the environment would stop mpirun.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PMIX_", "PRTE_"))}
ENVIRONMENT |= {"OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
KINDS = ["image", "cells", "slice", "across", "mesh", "spread", "spread cells", "blocks"]

pytestmark = pytest.mark.mpi


def mpirun(ranks):
    return ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks)]


def run(command, folder):
    """The report that a script wrote, and what it printed as errors."""
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "report.json").read_text()), done.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return train_models(tmp_path_factory.mktemp("models"))["wavelet"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, model):
    """{ranks: (report, errors)}"""
    results = {}
    for ranks, start in ((1, []), (2, mpirun(2)), (3, mpirun(3))):
        folder = tmp_path_factory.mktemp(f"ranks{ranks}")
        shutil.copy(model, folder / "m.apmgsrn")
        results[ranks] = run([*start, "pvbatch", str(HERE / "compare_script.py"), PLUGIN, str(folder)], folder)
    return results


def assert_alike(found, expected):
    assert len(found) == len(expected) == 5  # the whole and four bricks
    for row, other in zip(found, expected):
        texts = [{name: value for name, value in r.items() if isinstance(value, str)} for r in (row, other)]
        assert texts[0] == texts[1]
        numbers = {name: value for name, value in row.items() if name not in texts[0]}
        expected_numbers = {name: value for name, value in other.items() if name not in texts[1]}
        assert numbers == pytest.approx(expected_numbers, rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_several_ranks_find_the_figures_of_one(runs, ranks, kind):
    assert_alike(runs[ranks][0]["compared"][kind], runs[1][0]["compared"][kind])
    assert_alike(runs[ranks][0]["again"][kind], runs[1][0]["compared"][kind])
    whole = runs[ranks][0]["compared"][kind][0]
    assert np.isfinite(whole["ssim"]) == (kind in ("image", "cells"))
    assert runs[ranks][0]["told"][kind] == runs[1][0]["told"][kind]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_part_has_its_points_and_the_table_its_rows_once(runs, ranks):
    assert (runs[ranks][0]["part"], runs[ranks][0]["rows"]) == (4 * 4 * 2, 5)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_an_error_is_told_once_and_does_not_hang(runs, ranks):
    report, errors = runs[ranks]
    assert "/no/such/model" in report["error"] and errors.count("/no/such/model") == 1
    assert report["after"].startswith("RTData:")


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_several_ranks_sample_the_same(runs, ranks, kind):
    (one, several) = (runs[n][0] for n in (1, ranks))
    assert several["range"][kind] == pytest.approx(one["range"][kind], rel=1e-5)
    assert several["valid"][kind] >= one["valid"][kind] > 0  # pieces share points


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("kind", ["less", "empty"])
def test_an_array_is_called_the_same_on_all_ranks(runs, ranks, kind):
    """Whatever arrays of the input rank 0 has itself."""
    passed, dropped, again = runs[ranks][0]["names"][kind]
    assert set(passed) - {"RTData", "vtkGhostType"} == {"RTData_reconstruction", "Gradient", "vtkValidPointMask"}
    assert ("RTData" in passed) == (ranks == 1) and again == passed
    assert set(dropped) - {"vtkGhostType"} == {"RTData", "Gradient", "vtkValidPointMask"}


def test_client_and_parallel_server(tmp_path, model):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    log = tmp_path / "server.log"
    shutil.copy(model, tmp_path / "m.apmgsrn")
    with open(log, "w") as file:
        server = subprocess.Popen(
            [*mpirun(2), "pvserver", f"--server-port={port}"], env=ENVIRONMENT, stdout=file, stderr=file
        )
    try:
        end = time.time() + 60
        while "Accepting connection" not in log.read_text() and server.poll() is None and time.time() < end:
            time.sleep(0.2)
        assert server.poll() is None, log.read_text()
        report, errors = run(
            ["pvpython", str(HERE / "compare_client_script.py"), PLUGIN, port, str(tmp_path)], tmp_path
        )
        server.wait(60)
    finally:
        server.kill()
        server.wait()
    told = errors + log.read_text()
    assert report["compared"].startswith("RTData:") and report["rows"] == 5, told
    assert report["sampled"].endswith("points have values on rank 0 of 2") and "RTData_Gradient" not in report["arrays"]
    assert {"RTData", "Gradient", "vtkValidPointMask"} <= set(report["arrays"])
    assert "apmgsrn_model" in report["error"]
    assert "Traceback" not in told
