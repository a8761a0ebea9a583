"""A training that was cut off goes on bit for bit; nothing that happens to the file ends it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes import wave

from apmgsrn_core import ConfigError, ModelConfig, ModelFileError, TrainConfig
from apmgsrn_core.bricks import training as brick_training
from apmgsrn_core.bricks.training import train_brick
from apmgsrn_core.training.checkpoint import Checkpoint, pack_state, unpack_state
from apmgsrn_core.training.device_sampler import DeviceSampler
from apmgsrn_core.data.field_data import FieldData
from apmgsrn_core.training.graph_step import GraphStep
from apmgsrn_core.kernels import kernel_for
from apmgsrn_core.kernels.readable import TorchKernel
from apmgsrn_core.network.model import Network
from apmgsrn_core.training.optimizer import Adam, ParameterGroup
from apmgsrn_core.training.sampler import Sampler
from apmgsrn_core.training.schedule import PlateauSchedule
from apmgsrn_core.training.training_step import DeviceStep

DIMS = (20, 17, 15)
STREAMED = 9000  # bytes: less than half of DIMS in float32
MODEL = ModelConfig(number_of_grids=3, grid_resolution=(4, 4, 4), hidden_width=16).with_components(1)
NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


# ---- bytes of a state --------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
DTYPES = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]


@st.composite
def arrays(draw):
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    array = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 255, (*shape, dtype.itemsize), dtype=np.uint8)
    array = (array % 2).astype(bool) if dtype == bool else array.view(dtype)  # NaN among them
    array = array.reshape(shape).T
    return torch.from_numpy(array) if draw(st.booleans()) else array


STATES = st.recursive(
    st.dictionaries(st.text(max_size=4), JSON | arrays(), max_size=4),
    lambda inner: st.dictionaries(st.text(max_size=4), inner | JSON | arrays(), max_size=3),
    max_leaves=4,
)


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert_same(a.numpy(), b.numpy())
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    else:
        assert repr(a) == repr(b)  # NaN, and the sign of zero


@settings(max_examples=60, deadline=None)
@given(STATES)
def test_a_state_survives_as_bytes(state):
    assert_same(state, unpack_state(pack_state(state)))


def test_what_is_packed_is_a_copy_and_what_is_unpacked_can_be_changed():
    whole = torch.arange(6.0)
    views = {"a": whole[:3], "b": whole[3:], "c": whole.expand(2, 6), "big": np.arange(3, dtype=">i4")}
    data = pack_state(views)
    whole.zero_()
    state = unpack_state(data)
    assert state["a"].tolist() == [0, 1, 2] and state["b"].tolist() == [3, 4, 5] and state["c"].shape == (2, 6)
    assert state["big"].tolist() == [0, 1, 2]
    state["a"].add_(1)
    state["big"] += 1


def test_a_leaf_of_another_kind_is_an_error():
    with pytest.raises(TypeError):
        pack_state({"a": {"b": object()}})


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_other_bytes_are_refused(data):
    good = pack_state({"a": torch.zeros(3), "b": {"c": [1, 2.5]}})
    cut = data.draw(st.integers(0, len(good) - 1))
    for bad in (good[:cut], data.draw(st.binary(max_size=40)), good[:8] + b"{}" + good[10:]):
        with pytest.raises(ModelFileError, match="not a packed state"):
            unpack_state(bad)


# ---- a training that is cut off ------------------------------------------------------------------------


class Every(Checkpoint):
    """Due after so many steps, whatever the time."""

    def __init__(self, path, steps, key="key"):
        super().__init__(path, 1.0, key)
        self.steps, self.asked, self.saved = steps, 0, []

    def due(self, seconds):
        self.asked += 1
        return self.asked % self.steps == 0

    def save(self, state):
        self.saved.append(state["iteration"])
        super().save(state)


class Cut(Exception):
    """What ends a training here."""


class Training:
    """What is trained, made anew for each run."""

    def __init__(self, budget=None, on_device=False, model=MODEL, **more):
        values, grid = wave(DIMS)
        self.data, self.model, self.budget, self.on_device = FieldData(values, grid), model, budget, on_device
        common = dict(iterations=60, batch_size=128, importance_start=8, importance_refresh=4, importance_blocks=4)
        self.config = TrainConfig(**{**common, **more}).resolved(grid)

    def sampler(self):
        if self.on_device:
            return DeviceSampler(self.data, self.config, 5, "cpu", self.budget)
        return Sampler(self.data, self.config, torch.Generator().manual_seed(5))

    def run(self, checkpoint=None, cut=None, seed=0):
        """(parameters, table without the seconds, stop reason); `cut`: the step in which an exception ends it."""
        network, sampler = Network(self.model, torch.Generator().manual_seed(seed)), self.sampler()
        report = sampler.report

        def reporting(iteration, batch, squared_error):
            if iteration == cut:
                raise Cut
            report(iteration, batch, squared_error)

        sampler.report = reporting
        reason, history = train_brick(network, sampler, self.config, lambda state: True, checkpoint=checkpoint)
        table = history.table()
        assert (np.diff(table.pop("seconds")) >= 0).all()
        return {n: p.detach() for n, p in network.named_parameters()}, table, reason

    def cut_and_resumed(self, path, steps=7, cuts=(39,), last_save=35):
        """The same of a training that ended in each of the steps, each time started anew with another network."""
        for seed, cut in enumerate(cuts):
            checkpoint = Every(path, steps)
            with pytest.raises(Cut):
                self.run(checkpoint, cut, seed)
        assert checkpoint.saved[-1] == last_save
        return self.run(Every(path, 10**9), seed=99)


@pytest.fixture
def device_steps(monkeypatch):
    """The steps of a GPU, on the CPU."""

    def make(network, config, values):
        step = DeviceStep.__new__(DeviceStep)
        step._step = GraphStep(network, kernel_for(network), config)
        step.groups, step.loss = step._step.groups, step._step.loss
        return step

    monkeypatch.setattr(brick_training, "make_step", make)


def assert_equal(first, second):
    assert_same(first[0], second[0])
    assert_same(first[1], second[1])
    assert first[2] == second[2]


PUBLISHED = dict(placement="published", transform_start=0.1, transform_stop=0.9, density_window=5)


@pytest.mark.parametrize(
    "settings",
    [
        dict(placement="kdtree"),
        dict(placement="kdtree", positions="continuous", schedule="plateau", precision="full"),
        dict(placement="random", importance_fraction=0.0),
        dict(**PUBLISHED, density_tolerance=0.0),
        dict(**PUBLISHED, density_tolerance=1.0),
    ],
    ids=["kdtree", "kdtree, plateau", "random", "published", "published, converged early"],
)
def test_a_training_that_was_cut_off_goes_on_bit_for_bit(settings, tmp_path):
    training = Training(**settings)
    whole = training.run()
    assert whole[1]["iteration"][-1] == 60
    assert_equal(whole, training.run(Every(tmp_path / "beside", 7)))  # saving changes nothing
    assert_equal(whole, training.cut_and_resumed(tmp_path / "one"))
    assert_equal(whole, training.cut_and_resumed(tmp_path / "two", cuts=(18, 33, 50), last_save=49))


def test_the_plateau_rule_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(PlateauSchedule, "WINDOW", 10)
    monkeypatch.setattr(PlateauSchedule, "PATIENCE", 2)
    monkeypatch.setattr(PlateauSchedule, "COOLDOWN", 20)
    monkeypatch.setattr(PlateauSchedule, "THRESHOLD", 0.2)
    training = Training(**PUBLISHED, density_tolerance=1.0, iterations=200)
    whole = training.run()
    rates = whole[1]["learning_rate"]
    assert whole[2] == "converged" and len(np.unique(rates)) == 3
    changes = whole[1]["iteration"][np.flatnonzero(np.diff(rates)) + 1]
    for name, cut in zip("ab", changes + 2):  # bad steps, cooldown and losses are under way
        with pytest.raises(Cut):
            training.run(Every(tmp_path / name, 1), int(cut))
        assert_equal(whole, training.run(Every(tmp_path / name, 10**9), seed=9))


def test_the_plateau_rule_goes_on_from_every_step(monkeypatch):
    for name, value in (("WINDOW", 10), ("PATIENCE", 5), ("COOLDOWN", 7)):
        monkeypatch.setattr(PlateauSchedule, name, value)
    config = Training(**PUBLISHED).config

    def make(rate=config.learning_rate):
        groups = [ParameterGroup([], rate)]
        return groups, PlateauSchedule(Adam(groups, config, None), config)

    (groups, whole), (twins, resumed) = make(), make()
    for loss in (1 + np.random.default_rng(0).random(300) / np.arange(1, 301)).tolist():
        whole.step(0.5, loss, True)
        resumed.step(0.5, loss, True)
        assert (groups[0].rate, whole.finished) == (twins[0].rate, resumed.finished)
        assert_same(whole.state(), resumed.state())
        state = unpack_state(pack_state(resumed.state()))
        twins, resumed = make(twins[0].rate)
        resumed.restore(state)
    assert whole.finished


@pytest.mark.slow
@pytest.mark.parametrize("budget", [None, STREAMED])
@pytest.mark.parametrize("placement", ["kdtree", "random"])
def test_the_steps_of_a_device_go_on_bit_for_bit(placement, budget, device_steps, tmp_path):
    training = Training(budget, on_device=True, placement=placement)
    bricks = training.sampler().bricks
    assert (bricks.count > 1) == bool(budget)
    whole = training.run()
    assert_equal(whole, training.run(Every(tmp_path / "beside", 7)))
    assert_equal(whole, training.cut_and_resumed(tmp_path / "one"))
    sampler = Every(tmp_path / "one", 1).load()["sampler"]
    assert sampler["importance"] and (sampler["ahead"] if budget is None else sampler["bricks"]["step"] == 35)
    assert (sampler["bricks"]["bricks"] != bricks.state()["bricks"]) == bool(budget)
    assert_equal(whole, training.cut_and_resumed(tmp_path / "two", steps=1, cuts=(18, 33, 50), last_save=50))


@pytest.mark.parametrize("saved, found", [(STREAMED, None), (None, STREAMED), (STREAMED, 12000), (12000, STREAMED)])
def test_a_device_with_other_memory_takes_the_bricks_of_the_checkpoint(saved, found):
    source, target = Training(saved, on_device=True).sampler(), Training(found, on_device=True).sampler()
    for iteration in range(40):
        batch = source.draw()
        source.report(iteration, batch, batch.points[:, 0] ** 2)
    target.restore(unpack_state(pack_state(source.state())))
    for iteration in range(40, 80):
        batches = [sampler.draw() for sampler in (source, target)]
        assert_same(*(dict(vars(batch)) for batch in batches))
        for sampler, batch in zip((source, target), batches):
            sampler.report(iteration, batch, batch.points[:, 0] ** 2)
    assert source.bricks.state() == target.bricks.state() and source.bricks.parts == target.bricks.parts


def graph_steps(step, numbers, device="cpu"):
    """Steps of a batch each that depends on its number only; both placements."""
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        parts = [torch.rand(64, n, generator=generator).to(device) for n in (3, 1, 1)]
        step.groups[0].rate, step.density_group.rate = 0.01 / (number + 1), 1e-3 / (number + 1)
        step.run(type("Batch", (), dict(zip(("points", "targets", "weights"), parts))), placement=number % 2 == 0)


@pytest.mark.parametrize("device, tolerance", [("cpu", 0.0), pytest.param("cuda", 1e-3, marks=NO_CUDA)])
def test_a_restored_graph_step_goes_on_and_can_be_restored_again(device, tolerance):
    """Also to a state with fewer moments than there are; on a GPU after the capture."""
    config = Training(**PUBLISHED).config
    make = lambda: Network(MODEL, torch.Generator().manual_seed(0)).to(device)  # noqa: E731
    if device == "cuda":
        from apmgsrn_core.kernels.triton import TritonKernel as Kernel
    else:
        Kernel = TorchKernel
    network = make()
    step = GraphStep(network, Kernel(), config)
    saved, expected, losses = {}, {}, {}
    for first, last in ((0, 1), (1, 8), (8, 16)):
        saved[first] = pack_state({"step": step.state(), "network": dict(network.named_parameters())})
        graph_steps(step, range(first, last), device)
        expected[last], losses[last] = [p.detach().clone() for p in network.parameters()], step.loss()
    other = make()
    again = GraphStep(other, Kernel(), config)
    for first, last in ((8, 16), (1, 8), (0, 1)):  # backwards
        state = unpack_state(saved[first])
        again.restore(state["step"])
        with torch.no_grad():
            for name, parameter in other.named_parameters():
                parameter.copy_(state["network"][name])
        graph_steps(again, range(first, last), device)
        for a, b in zip(expected[last], other.parameters()):
            torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)
        assert again.loss() == pytest.approx(losses[last], rel=tolerance)


def test_time_goes_on_where_it_was(tmp_path):
    training = Training(time_budget=1000.0, iterations=20)
    checkpoint = Every(tmp_path / "file", 5)
    with pytest.raises(Cut):
        training.run(checkpoint, 12)
    state = checkpoint.load()
    state["history"]["seconds"] = 1500.0
    checkpoint.save(state)
    network = Network(MODEL, torch.Generator().manual_seed(0))
    reason, history = train_brick(network, training.sampler(), training.config, lambda s: True, checkpoint=checkpoint)
    table = history.table()
    assert reason == "time budget" and table["iteration"].tolist() == [*range(1, 12)]
    assert table["seconds"][9] < 100 and 1500 < table["seconds"][10] < 1600
    assert not (history.seconds < 1500)


# ---- the file ------------------------------------------------------------------------------------------


def warnings_in(caplog):
    return [r.getMessage() for r in caplog.records if r.levelname == "WARNING" and "checkpoint" in r.getMessage()]


def test_a_missing_or_foreign_file_is_none_without_a_word(tmp_path, caplog):
    path = tmp_path / "file"
    checkpoint = Checkpoint(path, 1.0, "a")
    assert checkpoint.load() is None
    checkpoint.save({"x": 1})
    assert Checkpoint(path, 1.0, "b").load() is None and checkpoint.load() == {"x": 1}
    checkpoint.remove()
    checkpoint.remove()
    assert not list(tmp_path.iterdir()) and not warnings_in(caplog)


def test_a_damaged_file_is_one_warning_and_a_training_anew(tmp_path, caplog):
    path = tmp_path / "file"
    training = Training(iterations=10)
    whole = training.run()
    with pytest.raises(Cut):
        training.run(Every(path, 3), 8)
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[-5] ^= 1
    for bad in (b"", good[:-1], good[:20], bytes(flipped), b"something else", good + b"0"):
        caplog.clear()
        path.write_bytes(bad)
        assert_equal(whole, training.run(Every(path, 10**9)))
        (line,) = warnings_in(caplog)
        assert str(path) in line and "starts anew" in line and "\n" not in line
    caplog.clear()
    path.unlink()
    path.mkdir()
    assert Checkpoint(path, 1.0, "key").load() is None and len(warnings_in(caplog)) == 1
    Checkpoint(path, 1.0, "key").remove()
    assert len(warnings_in(caplog)) == 2


def test_a_state_of_another_kind_of_training_is_one_warning_and_a_training_anew(tmp_path, caplog, device_steps):
    on_device = Training(on_device=True, iterations=10)
    with pytest.raises(Cut):
        on_device.run(Every(tmp_path / "file", 3), 8)
    on_host = Training(iterations=10)
    assert_equal(on_host.run(), on_host.run(Every(tmp_path / "file", 10**9)))
    (line,) = warnings_in(caplog)
    assert "DeviceSampler" in line and "starts anew" in line


def test_a_folder_that_cannot_be_written_is_one_warning_and_no_end(tmp_path, caplog):
    training = Training(iterations=10)
    for path in (tmp_path / "none" / "file", tmp_path):
        caplog.clear()
        checkpoint = Every(path, 1)
        assert_equal(training.run(), training.run(checkpoint))
        assert len(checkpoint.saved) == 9 and len([w for w in warnings_in(caplog) if "not written" in w]) == 1


def test_a_full_disk_keeps_the_older_file(tmp_path, caplog, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "file", 1.0, "a")
    checkpoint.save({"x": 1})

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        checkpoint.save({"x": 2})
        checkpoint.save({"x": 3})
    (line,) = warnings_in(caplog)
    assert "No space left" in line and checkpoint.load() == {"x": 1}
    checkpoint.save({"x": 4})
    assert checkpoint.load() == {"x": 4} and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_save_is_due_an_interval_after_the_last_one(tmp_path):
    checkpoint = Checkpoint(tmp_path / "file", 10.0, "a")
    assert [checkpoint.due(s) for s in (500.0, 509.0, 510.0, 511.0)] == [False, False, True, True]
    checkpoint.save({})
    assert [checkpoint.due(s) for s in (511.5, 520.9, 521.0)] == [False, False, True]
    never = Checkpoint(tmp_path / "file", 0.0, "a")
    assert not any(never.due(s) for s in (0.0, 1e9))
    for bad in (-1.0, float("nan")):
        with pytest.raises(ConfigError, match="interval of checkpoints"):
            Checkpoint(tmp_path / "file", bad, "a")


KILLED = """
import os, signal, sys
sys.path[:0] = [{tests!r}, {root!r}]
import test_checkpoint as t
flush, flushed = os.fsync, []
def fsync(handle):
    flushed.append(handle)
    if len(flushed) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    flush(handle)
os.fsync = fsync
t.Training().run(t.Every(sys.argv[1], 11))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_a_training_killed_while_it_saves_goes_on_from_the_older_file(tmp_path):
    tests = Path(__file__).resolve().parent
    code, path = KILLED.format(tests=str(tests), root=str(tests.parent)), tmp_path / "file"
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120)
    assert run.returncode == -signal.SIGKILL, run.stderr
    checkpoint = Every(path, 10**9)
    assert checkpoint.load()["iteration"] == 22
    training = Training()
    assert_equal(training.run(), training.run(checkpoint, seed=3))
