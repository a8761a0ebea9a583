"""Rank 0 works for all: one result or one error on every rank."""

import os
import shutil
import subprocess
import sys

import pytest

from apmgsrn_core import Communicator

SCRIPT = """
import sys, time
import numpy as np
from mpi4py import MPI
from apmgsrn_core import Communicator, DataError, TorchError
comm = Communicator(MPI.COMM_WORLD)
ran = []
def work():
    ran.append(comm.rank)
    return {"answer": 42, "bytes": b"x" * 1000000}
result = comm.from_root(work)
assert result["answer"] == 42 and len(result["bytes"]) == 1000000
assert ran == ([0] if comm.rank == 0 else [])
last = comm.size - 1
def bad(): raise DataError("array 'rho' is empty")
def worse(): raise ValueError("boom")
def late():
    if comm.rank == last: raise DataError("array 'rho' is empty")
def told(error): return type(error), str(error)
for call, function, expected in (
    (comm.from_root, bad, (DataError, "array 'rho' is empty")),
    (comm.from_root, worse, None), (comm.together, worse, None),
    (comm.together, late, (DataError, "rank %d: array 'rho' is empty" % last if last else "array 'rho' is empty")),
):
    try:
        call(function)
    except Exception as error:
        assert "boom" in str(error) if expected is None else told(error) == expected, error
    else:
        raise AssertionError("no error on rank %d" % comm.rank)
def torchless():
    if comm.rank == last: raise TorchError("no torch", "advice for others")
try:
    comm.together(torchless)
except TorchError as error:
    assert error.problem == "no torch" and "no torch. advice for others" in str(error), error
else:
    raise AssertionError("no error on rank %d" % comm.rank)
assert comm.together(lambda: comm.rank) == comm.rank
assert comm.everywhere(comm.rank ** 2) == [r ** 2 for r in range(comm.size)]
assert comm.neighbours == (comm.rank, comm.size)

import apmgsrn_core.distributed as distributed
distributed.MESSAGE_BYTES = 100  # several messages an array
out = [[np.arange(37 * (r + 1), dtype=np.int16) + comm.rank, np.full((2, 0, 3), 1.5)] for r in range(comm.size)]
for source, (numbers, empty) in enumerate(comm.exchange(out)):
    assert (numbers == np.arange(37 * (comm.rank + 1)) + source).all() and numbers.dtype == np.int16
    assert empty.shape == (2, 0, 3)
assert comm.bytes_sent == sum(74 * (r + 1) for r in range(comm.size) if r != comm.rank)

if comm.size > 1:
    def room(shape, kind):
        if comm.rank == last: raise MemoryError("no room")
        return empty_array(shape, kind)
    empty_array, np.empty = np.empty, room
    try:
        comm.exchange(out)
    except Exception as error:
        assert "rank %d: MemoryError: no room" % last in str(error), error
    else:
        raise AssertionError("no error on rank %d" % comm.rank)
    np.empty = empty_array

for _ in range(2):
    comm.forget_stop()
    assert not comm.stop_requested()
    comm.everywhere(None)
    if comm.rank == last: comm.request_stop()
    end = time.time() + 20
    while not comm.stop_requested() and time.time() < end: time.sleep(0.001)
    assert comm.stop_requested()
comm.forget_stop()
assert not comm.stop_requested()
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
