"""Too little memory and devices that fail: smaller parts, the CPU where that is allowed, otherwise an error that says where.

There is no GPU here: kernels raise what they raise on one.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from volumes import tiny, wave

from apmgsrn_core import DeviceError, MemoryShortage, ModelConfig, NeuralVolume, train_volume
from apmgsrn_core.kernels import kernel_for, memory
from apmgsrn_core.kernels.memory import is_of_accelerator, is_short

HERE = Path(__file__).resolve().parent
MODEL = ModelConfig(number_of_grids=8, grid_resolution=(4, 4, 4), hidden_width=16)
QUIET = {"on_progress": lambda state: True, "on_warning": lambda line: None}
CPU_SHORT = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000000 "
    "bytes. Error code 12 (Cannot allocate memory)"
)
GPU_SHORT = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB")
LOST = [RuntimeError("CUDA error: an illegal memory access was encountered"), RuntimeError("CUDA driver error: device removed")]
if hasattr(torch, "AcceleratorError"):
    LOST.append(torch.AcceleratorError("CUDA error: unspecified launch failure"))


def train(bricks=(2, 2, 1), **more):
    values, grid = wave((17, 16, 15))
    return train_volume(values, grid, model=MODEL, train=tiny(), bricks=bricks, **{**QUIET, **more})


@pytest.fixture(scope="module")
def model():
    return train().to_bytes()


@pytest.fixture
def kernel():
    """The class of the kernels that are used here."""
    network = NeuralVolume.from_bytes(train((1, 1, 1)).to_bytes(), "cpu").network(0)
    return type(kernel_for(network))


class Short:
    """Makes the kernels raise an error for more than so many points, or in their first calls."""

    def __init__(self, monkeypatch, kernel, error, most=None, calls=0, only=("values", "lattice", "derivatives", "backward")):
        self.sizes, self._error, self._most, self._calls = [], error, most, calls
        for name, count in (
            ("values", lambda points: len(points)), ("lattice", lambda x, y, z: len(x) * len(y) * len(z)),
            ("derivatives", lambda points: len(points)), ("backward", lambda points, *_: len(points)),
        ):  # fmt: skip
            if name not in only:
                continue
            monkeypatch.setattr(kernel, name, self._checked(getattr(kernel, name), count))

    def _checked(self, method, count):
        def call(kernel, network, *arguments):
            self.sizes.append(count(*arguments))
            if self.sizes[-1] > self._most if self._most is not None else len(self.sizes) <= self._calls:
                raise self._error
            return method(kernel, network, *arguments)

        return call


def test_the_errors_of_torch_are_known():
    for error in (CPU_SHORT, GPU_SHORT, MemoryError(), MemoryShortage("x")):
        assert is_short(error), error
    for error in (GPU_SHORT, *LOST):
        assert is_of_accelerator(error), error
    for error in (CPU_SHORT, MemoryError(), ValueError("CUDA error"), RuntimeError("shape mismatch"), DeviceError("CUDA devices")):
        assert not is_of_accelerator(error), error
    assert not is_short(RuntimeError("shape mismatch"))
    for ask in (torch.empty, np.empty):
        with pytest.raises((RuntimeError, MemoryError)) as found:
            ask(1 << 57)
        assert is_short(found.value), found.value


# -- sampling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [CPU_SHORT, MemoryError("no"), GPU_SHORT])
def test_sampling_goes_on_in_smaller_parts_with_the_same_values(monkeypatch, model, kernel, error):
    points = np.random.default_rng(0).uniform(0, 14, (30_000, 3))
    fresh = NeuralVolume.from_bytes(model, "cpu")
    expected = fresh.sample_points(points), fresh.reconstruct(3), fresh.sample_derivatives(points)
    monkeypatch.setattr(memory, "LEAST_POINTS", 64)
    short = Short(monkeypatch, kernel, error, most=700)
    volume = NeuralVolume.from_bytes(model, "cpu")
    found = volume.sample_points(points), volume.reconstruct(3), volume.sample_derivatives(points)
    assert max(short.sizes) > 4000 and volume.warnings == ()
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    for one, other in zip(found[2], expected[2]):
        np.testing.assert_array_equal(one, other)


def test_less_than_the_smallest_part_is_an_error_that_says_where(monkeypatch, model, kernel):
    Short(monkeypatch, kernel, CPU_SHORT, most=100)
    with pytest.raises(MemoryShortage, match=r"brick \d on cpu: expected memory for \d+ points at a time, found .*4000000000 bytes"):
        NeuralVolume.from_bytes(model, "cpu").reconstruct(3)
    with pytest.raises(MemoryShortage, match=r"brick \d on cpu: expected memory for \d+ points"):
        NeuralVolume.from_bytes(model, "cpu").sample_points(np.ones((5000, 3)))


def test_networks_that_are_kept_make_room_for_the_next(monkeypatch, model):
    from apmgsrn_core.bricks.networks import BrickNetworks

    expected, hold = NeuralVolume.from_bytes(model, "cpu").reconstruct(), BrickNetworks._hold

    def narrow(networks, brick, network):
        if len(networks) > 1:
            raise MemoryError("no room for a third one")
        return hold(networks, brick, network)

    monkeypatch.setattr(BrickNetworks, "_hold", narrow)
    np.testing.assert_array_equal(NeuralVolume.from_bytes(model, "cpu").reconstruct(), expected)
    monkeypatch.setattr(BrickNetworks, "_hold", lambda *_: (_ for _ in ()).throw(MemoryError("no room at all")))
    with pytest.raises(MemoryShortage, match="brick 0: expected memory for its network on cpu, found MemoryError: no room at all"):
        NeuralVolume.from_bytes(model, "cpu").reconstruct()


@pytest.mark.parametrize("error", [*LOST, GPU_SHORT])
def test_the_cpu_takes_the_place_of_a_device_that_fails_and_says_so(monkeypatch, model, kernel, error, caplog):
    expected = NeuralVolume.from_bytes(model, "cpu").reconstruct()
    Short(monkeypatch, kernel, error, calls=1)
    volume = NeuralVolume.from_bytes(model, "auto")
    np.testing.assert_array_equal(volume.reconstruct(), expected)
    (warning,) = volume.warnings
    assert re.match("device .* has failed, the CPU goes on: ", warning) and str(error) in warning and warning in caplog.text
    np.testing.assert_array_equal(volume.reconstruct(), expected)
    assert len(volume.warnings) == 1 and volume.device.type == "cpu"


@pytest.mark.parametrize("error", [*LOST, GPU_SHORT])
def test_a_device_that_was_named_is_not_replaced(monkeypatch, model, kernel, error):
    Short(monkeypatch, kernel, error, calls=10**9)
    volume = NeuralVolume.from_bytes(model, "cpu")  # named, as cuda:0 would be
    with pytest.raises(DeviceError, match="device cpu: expected it to go on, found .*; with auto the CPU would do so"):
        volume.reconstruct()
    assert volume.warnings == ()


def test_a_cpu_that_fails_as_well_is_an_error(monkeypatch, model, kernel):
    Short(monkeypatch, kernel, LOST[0], calls=10**9)
    volume = NeuralVolume.from_bytes(model, "auto")
    for _ in range(2):
        with pytest.raises((DeviceError, RuntimeError), match="CUDA error"):
            volume.reconstruct()


LIMITED = """
import resource, sys
import numpy as np
from apmgsrn_core import MemoryShortage, NeuralVolume, Grid
volume = NeuralVolume.open(sys.argv[1], "cpu")
expected = volume.reconstruct(2)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (48 << 20), resource.RLIM_INFINITY))
try:
    volume.reconstruct(40)
    print("no error")
except MemoryShortage as error:
    print("short:", error)
print("same" if np.array_equal(volume.reconstruct(2), expected) else "other")
"""


def test_memory_that_is_short_indeed_is_told_and_what_follows_works(tmp_path, model):
    path = tmp_path / "m.apmgsrn"
    path.write_bytes(model)
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", LIMITED, str(path)], env=environment, capture_output=True, text=True, timeout=120)
    lines = run.stdout.splitlines()
    assert run.returncode == 0 and lines[1:] == ["same"], run.stdout + run.stderr
    assert re.match(r"short: .*expected memory for .*, found .*", lines[0]), lines[0]


# -- training --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [CPU_SHORT, MemoryError("no")])
def test_a_training_that_has_no_memory_stops_and_goes_on_later(monkeypatch, kernel, error, tmp_path):
    """A step with less than its batch would be another training: it is not tried."""
    path = tmp_path / "m.apmgsrn"
    whole = train().to_bytes()
    path.write_bytes(b"older")
    with monkeypatch.context() as patch:
        Short(patch, kernel, error, most=500)  # batches have 512
        with pytest.raises(MemoryShortage, match=r"brick \d: expected a training on cpu, found .*; more bricks or a smaller batch"):
            train(path=path)
    assert path.read_bytes() == b"older"
    assert train(path=path).to_bytes() == whole and os.listdir(tmp_path) == ["m.apmgsrn"]


def test_what_is_measured_in_a_training_is_measured_in_parts(monkeypatch, kernel):
    whole = train().to_bytes()
    short = Short(monkeypatch, kernel, CPU_SHORT, most=5000, only=("values",))
    assert train().to_bytes() == whole and max(short.sizes) > 5000


@pytest.mark.parametrize("error", [LOST[-1], GPU_SHORT])
def test_a_brick_whose_device_fails_is_trained_on_the_cpu_and_it_is_told(monkeypatch, kernel, error, caplog, tmp_path):
    whole = train().to_bytes()
    Short(monkeypatch, kernel, error, calls=1)
    result = train(device="auto", path=tmp_path / "m.apmgsrn")
    assert result.to_bytes() == whole
    (note,) = [line for line in result.warnings if "failed" in line]
    assert re.match(r"brick \d: trained on the CPU, since .* has failed: ", note) and str(error) in note
    assert "is trained on the CPU" in caplog.text


@pytest.mark.parametrize("error, kind", [(LOST[-1], DeviceError), (GPU_SHORT, MemoryShortage)])
def test_a_training_on_a_device_that_was_named_stops(monkeypatch, kernel, error, kind):
    Short(monkeypatch, kernel, error, calls=10**9)
    with pytest.raises(kind, match=r"brick \d: expected a training on cpu, found "):
        train(device="cpu")
