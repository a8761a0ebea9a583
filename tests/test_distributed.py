"""Rank 0 works for all: one result or one error on every rank."""

import os
import shutil
import subprocess
import sys

import pytest

from apmgsrn_core import Communicator

SCRIPT = """
import sys
from mpi4py import MPI
from apmgsrn_core import Communicator, DataError
comm = Communicator(MPI.COMM_WORLD)
ran = []
def work():
    ran.append(comm.rank)
    return {"answer": 42, "bytes": b"x" * 1000000}
result = comm.from_root(work)
assert result["answer"] == 42 and len(result["bytes"]) == 1000000
assert ran == ([0] if comm.rank == 0 else [])
def bad(): raise DataError("array 'rho' is empty")
def worse(): raise ValueError("boom")
for function, text in ((bad, "array 'rho' is empty"), (worse, "boom")):
    try:
        comm.from_root(function)
    except Exception as error:
        assert text in str(error), error
    else:
        raise AssertionError("no error on rank %d" % comm.rank)
sys.stdout.write("rank %d of %d good\\n" % (comm.rank, comm.size))  # one write: the lines of ranks do not mix
"""


def test_a_single_process_just_works():
    communicator = Communicator()
    assert (communicator.rank, communicator.size) == (0, 1)
    assert communicator.from_root(lambda: 3) == 3


@pytest.mark.mpi
@pytest.mark.skipif(shutil.which("mpirun") is None, reason="no mpirun")
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_every_rank_has_the_result_or_the_error(ranks):
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    command = ["mpirun", "--oversubscribe", "-np", str(ranks), sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")[:-1]) == [f"rank {r} of {ranks} good" for r in range(ranks)]
