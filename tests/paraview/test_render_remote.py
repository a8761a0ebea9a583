"""`apmgsrn.show` in a client of a server of two ranks: the picture of one process."""

import socket
import subprocess
import time
from contextlib import contextmanager

import numpy as np
import pytest
from small_models import train_models
from test_parallel import ENVIRONMENT, HERE, MPIRUN, PLUGIN, run
from test_render_neural_volume import png

pytestmark = pytest.mark.mpi


@contextmanager
def server(folder):
    """The port of a server of two ranks, and the file of what it says."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    log = folder / "server.log"
    with open(log, "w") as file:
        process = subprocess.Popen(
            [*MPIRUN, "pvserver", f"--server-port={port}"], env=ENVIRONMENT, stdout=file, stderr=file
        )
    try:
        end = time.time() + 60
        while "Accepting connection" not in log.read_text() and process.poll() is None and time.time() < end:
            time.sleep(0.2)
        assert process.poll() is None, log.read_text()
        yield port, log
        process.wait(60)
    finally:
        process.kill()
        process.wait()


def test_a_client_of_two_ranks_shows_the_picture_of_one_process(tmp_path):
    model = train_models(tmp_path)["bricks"]
    alone, apart = tmp_path / "alone", tmp_path / "apart"
    for folder in (alone, apart):
        folder.mkdir()
    command = ["pvpython", str(HERE / "render_client_script.py"), PLUGIN, model]
    run([*command, str(alone)], alone)
    with server(apart) as (port, log):
        report, errors = run([*command, str(apart), port], apart)
    for name in ("first", "turned"):
        assert report[name][0].split(" of ")[1].startswith("10800 pixels") and report[name][1] == ""
    assert 1 < report["passes"] < 200
    said = errors + log.read_text()
    assert "Traceback" not in said and "ERR|" not in said, said
    first, turned, passes = (png(apart / f"{name}.png") for name in ("first", "turned", "passes"))
    for name, shown in (("first", first), ("turned", turned), ("passes", passes)):
        wanted = png(alone / f"{name}.png")
        assert wanted.max() > 50 and np.quantile(np.abs(shown - wanted), 0.995) <= 2, name
    assert np.quantile(np.abs(first - passes), 0.995) <= 2
    assert (np.abs(first - turned).max(axis=1) > 20).mean() > 0.1
    red = (first[:, 0] > 60) & (first[:, 1:] < 20).all(axis=1)  # of the box
    assert red.sum() > 30
