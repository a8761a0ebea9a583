"""Many bricks in one training: the same model for any number of ranks and devices, and after any interruption."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes import tiny, wave

from apmgsrn_core import (
    ApmgsrnError, BrickLayout, ConfigError, DataError, ModelConfig, ModelFile, Region, psnr, read_header, train_volume,
)  # fmt: skip

from apmgsrn_core.data.pieces import owners_of

HERE = Path(__file__).parent
MODEL = ModelConfig(number_of_grids=8, grid_resolution=(4, 4, 4), hidden_width=16)
QUIET = {"on_progress": lambda state: True, "on_warning": lambda line: None}
ENVIRONMENT = {
    **os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
}  # fmt: skip
needs_mpi = pytest.mark.skipif(shutil.which("mpirun") is None, reason="no mpirun")


def train(values, grid, bricks=(2, 2, 1), settings=None, **more):
    return train_volume(values, grid, model=MODEL, train=settings or tiny(), bricks=bricks, **{**QUIET, **more})


def mpirun(ranks, *arguments, timeout=120):
    command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks), sys.executable, "-m", "mpi4py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=ENVIRONMENT)


# -- one process ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("association", ["point", "cell"])
@pytest.mark.parametrize("dims, bricks", [((19, 17, 16), (2, 2, 2)), ((31, 7, 1), (5, 1, 1)), ((9, 8, 13), (1, 1, 3))])
def test_a_smooth_volume_is_learned_in_bricks(association, dims, bricks):
    values, grid = wave(dims, association=association)
    result = train(values, grid, bricks, tiny(iterations=200))
    assert result.layout.counts == bricks and result.volume.layout == result.layout
    measured = psnr(values, result.volume.reconstruct())
    assert measured > 28 and abs(measured - result.psnr) < 1.5
    assert sorted(set(result.history["brick"])) == list(range(result.layout.count))
    assert result.stop_reason == "iterations"


def test_values_may_be_a_function_and_are_asked_for_brick_by_brick():
    values, grid = wave((17, 16, 15))
    asked = []

    def read(region):
        asked.append(region)
        return values[tuple(slice(a, b) for a, b in zip(region.start, region.stop))[::-1]]

    assert train(read, grid).to_bytes() == train(values, grid).to_bytes()
    layout = BrickLayout(grid.value_dims, (2, 2, 1))
    assert set(asked[1:]) == {layout.trained(b) for b in range(4)} and len(asked) == 9  # a corner, a look, a training


def test_no_more_values_are_held_than_those_of_one_brick():
    values, grid = wave((17, 16, 15))
    given, alive = [], []

    def read(region):
        alive.append(sum(reference() is not None for reference in given))
        part = values[tuple(slice(a, b) for a, b in zip(region.start, region.stop))[::-1]].copy()
        given.append(weakref.ref(part))
        return part

    train(read, grid, (2, 2, 2))
    assert len(alive) == 17 and max(alive) == 0


@pytest.mark.parametrize(
    "choice, words",
    [
        ({"parameters": -5}, "parameters: expected a whole number from 0"), ({"bricks": (2, 2)}, "bricks: expected three"),
        ({"bricks": BrickLayout((9, 9, 9), (2, 1, 1))}, "bricks: expected a layout of"),
        ({"checkpoint_interval": -1}, "checkpoint_interval"), ({"region": Region((0, 0, 0), (17, 16, 15))}, "a function"),
    ],
)  # fmt: skip
def test_choices_that_cannot_be_are_told(choice, words):
    values, grid = wave((17, 16, 15))
    with pytest.raises(ApmgsrnError, match=words):
        train(lambda region: values[:2, :2, :2], grid, **{"bricks": (1, 1, 1), **choice})


def test_a_function_that_fails_or_gives_too_little_is_told():
    _, grid = wave((17, 16, 15))
    with pytest.raises(DataError, match="expected shape"):
        train(lambda region: np.zeros((2, 2, 2), "float32"), grid)

    def broken(region):
        if region.stop[0] > 10:
            raise DataError("tape 7 is torn")
        return np.random.default_rng(0).random(region.shape_zyx)

    with pytest.raises(DataError, match="tape 7"):
        train(broken, grid)


def test_constant_bricks_are_exact_and_cost_almost_nothing():
    values, grid = wave((33, 16, 15))
    values[:, :, :20] = values.mean()
    result = train(values, grid, (4, 1, 1), tiny(iterations=200, rounding=0.0))
    lengths = [s["length"] for s in read_header(result.to_bytes()).manifest["sections"]]
    assert max(lengths[:2]) < 700 and min(lengths[2:]) > 2000
    np.testing.assert_allclose(result.volume.reconstruct()[:, :, :16], values[:, :, :16], rtol=1e-6)
    assert psnr(values, result.volume.reconstruct()) > 25


def test_a_brick_without_finite_values_is_no_obstacle():
    values, grid = wave((17, 16, 15))
    values[:, :, :10] = np.nan
    result = train(values, grid, (2, 1, 1), tiny(iterations=200))
    assert result.missing == np.isnan(values).sum() and not np.isfinite(result.volume.reconstruct()[:, :, :10]).any()
    assert psnr(values, result.volume.reconstruct()) > 25
    with pytest.raises(DataError, match="expected finite values"):
        train(np.full_like(values, np.nan), grid, (2, 1, 1))


def test_constant_data_is_exact_in_bricks():
    values = np.full((9, 8, 7), -2.5)
    result = train(values, wave((7, 8, 9))[1])
    assert result.stop_reason == "constant data"
    np.testing.assert_array_equal(result.volume.reconstruct(), values)


def test_parameters_are_shared_out_by_need():
    random = np.random.default_rng(0)
    values, grid = wave((33, 32, 31))
    values[:, :, 17:] += 30 * random.standard_normal((31, 32, 16)).astype("float32")
    result = train_volume(
        values, grid, model=ModelConfig.preset("small"), train=tiny(rounding=0.0), bricks=(2, 1, 1), parameters=20_000, **QUIET
    )
    file = ModelFile(result.to_bytes())
    lengths = [e["length"] for e in file.header.manifest["sections"]]
    smooth, rough = (length - file.read_section(brick)["macrocells"].nbytes for brick, length in enumerate(lengths))
    assert rough > 1.5 * smooth
    assert 0.8 * 20_000 < (smooth + rough) / 2 < 1.1 * 20_000  # about 2 bytes a number


@pytest.mark.parametrize("bricks", [(1, 1, 1), (2, 1, 1)])
def test_a_network_that_dies_is_trained_with_another_seed(monkeypatch, bricks):
    from apmgsrn_core.bricks.worker import BrickWorker

    values, grid = wave((17, 16, 15))
    start, begun = BrickWorker._start, []

    def dying(worker, data, plan, *more):
        network, before = start(worker, data, plan, *more)
        begun.append(plan.brick)
        if len(begun) in deaths:
            for layer in network.layers[:-1]:  # no neuron gives or takes anything
                layer.weight.data.zero_()
        return network, before

    monkeypatch.setattr(BrickWorker, "_start", dying)
    deaths = {1, 2}
    result = train(values, grid, bricks, tiny(iterations=200))
    assert len(begun) == len(set(begun)) + 2 and psnr(values, result.volume.reconstruct()) > 25
    deaths, begun[:] = range(100), []
    result = train(values, grid, bricks, tiny(iterations=200))  # the last attempt stays
    assert len(begun) == 4 * len(set(begun)) and np.ptp(result.volume.reconstruct()[:, :, :7]) < 1e-3


def test_automatic_bricks_follow_the_parameters():
    values, grid = wave((17, 16, 15))
    few = train(values, grid, (0, 0, 0))
    many = train(values, grid, (0, 0, 0), parameters=3 * MODEL.parameter_count())
    assert few.layout.count == 1 and many.layout.count == 4


def test_impossible_bricks_are_told():
    values, grid = wave((9, 8, 7))
    with pytest.raises(ConfigError, match="bricks: expected at most 6 along z for 7 values, found 7"):
        train(values, grid, (1, 1, 7))


@pytest.mark.slow
@pytest.mark.parametrize("devices", ["cpu,cpu", "cpu,cpu,cpu"])
def test_several_devices_give_the_same_model(devices):
    values, grid = wave((17, 16, 15))
    seen = []
    result = train(values, grid, (2, 2, 1), tiny(iterations=400), device=devices, on_progress=lambda s: seen.append(s) or True)
    assert result.to_bytes() == train(values, grid, (2, 2, 1), tiny(iterations=400), device="cpu").to_bytes()
    assert all(0 <= s.fraction <= 1 and s.bricks == 4 for s in seen)


def test_progress_tells_of_the_whole():
    values, grid = wave((17, 16, 15))
    states = []
    train(values, grid, on_progress=lambda state: states.append(state) or True)
    assert [s.finished for s in states] == sorted(s.finished for s in states)
    assert {s.brick for s in states} == set(range(4)) and states[-1].finished == 3
    assert (np.diff([s.fraction for s in states]) >= 0).all() and states[-1].fraction == 1
    assert "of 4 done" in states[-1].message


@pytest.mark.slow
def test_a_time_budget_is_for_all_bricks():
    values, grid = wave((17, 16, 15))
    start = time.perf_counter()
    result = train(values, grid, settings=tiny(iterations=10**6, time_budget=2.0))
    assert result.stop_reason == "time budget" and time.perf_counter() - start < 60
    last = dict(zip(result.history["brick"], result.history["seconds"]))
    assert sum(last.values()) < 10


def test_a_refined_model_keeps_its_bricks(tmp_path):
    values, grid = wave((17, 16, 15))
    train(values, grid, parameters=2 * MODEL.parameter_count(), settings=tiny(iterations=200)).save(tmp_path / "a.apmgsrn")
    more = dict(parameters=2 * MODEL.parameter_count(), initial=tmp_path / "a.apmgsrn")
    fresh, again = train(values, grid, settings=tiny(iterations=20)), train(values, grid, settings=tiny(iterations=20), **more)
    assert again.psnr > fresh.psnr + 3
    with pytest.raises(ConfigError, match="other bricks"):
        train(values, grid, (1, 2, 2), **more)


@pytest.mark.parametrize("model", [MODEL, replace(MODEL, bias=True, linear_skip=True)])
def test_refining_where_a_brick_becomes_constant_or_is_no_more(model):
    values, grid = wave((17, 16, 15))
    half = values.copy()
    half[:, :, :9] = 100
    settings = dict(model=model, train=tiny(), bricks=(2, 1, 1), **QUIET)
    whole, partly = (train_volume(v, grid, **settings).to_bytes() for v in (values, half))
    refined = train_volume(half, grid, initial=whole, **settings)
    np.testing.assert_allclose(refined.volume.reconstruct()[:, :, :8], 100, rtol=1e-5)
    with pytest.raises(ConfigError, match="its brick 0 is of one value, which it is no more"):
        train_volume(values, grid, initial=partly, **settings)


def test_a_key_of_ones_own_does_not_mix_checkpoints(tmp_path):
    values, grid = wave((17, 16, 15))
    path = tmp_path / "m.apmgsrn"
    with pytest.raises(ApmgsrnError, match="stopped"):
        train(values, grid, path=path, key="mine", on_progress=lambda s: s.finished < 2)
    result = train(200 - values, grid, path=path, key="mine")
    assert result.key == "mine" and psnr(200 - values, result.volume.reconstruct()) > 15


def test_one_device_that_fails_ends_the_others():
    values, grid = wave((17, 16, 15))

    def fail(state):
        raise RuntimeError("no more screen")

    with pytest.raises(RuntimeError, match="no more screen"):
        train(values, grid, (2, 1, 1), tiny(iterations=10**7), device="cpu,cpu", on_progress=fail)


# -- interruptions --------------------------------------------------------------------------------


def test_stopped_by_user_keeps_the_finished_bricks_and_goes_on(tmp_path):
    values, grid = wave((17, 16, 15))
    path, settings = tmp_path / "m.apmgsrn", tiny(iterations=300)
    whole = train(values, grid, settings=settings).to_bytes()
    path.write_bytes(b"")
    with pytest.raises(ApmgsrnError, match="stopped by user before all 4 bricks"):
        train(values, grid, settings=settings, path=path, on_progress=lambda s: s.finished < 2)
    kept = len(list(tmp_path.glob("m.apmgsrn.training/brick-*.part")))
    assert path.read_bytes() == b"" and kept in (2, 3)  # a short training may be over before it hears of it
    bricks = set()
    train(values, grid, settings=settings, path=path, on_progress=lambda s: bricks.add(s.brick) or True)
    assert path.read_bytes() == whole and len(bricks) == 4 - kept
    assert os.listdir(tmp_path) == ["m.apmgsrn"]


def test_another_training_does_not_take_up_what_is_there(tmp_path):
    values, grid = wave((17, 16, 15))
    path = tmp_path / "m.apmgsrn"
    with pytest.raises(ApmgsrnError, match="stopped"):
        train(values, grid, path=path, on_progress=lambda s: s.finished < 2)
    result = train(values + 1, grid, path=path)
    assert result.to_bytes() == train(values + 1, grid).to_bytes()


def test_a_damaged_part_is_trained_again(tmp_path, caplog):
    values, grid = wave((17, 16, 15))
    path = tmp_path / "m.apmgsrn"
    with pytest.raises(ApmgsrnError, match="stopped"):
        train(values, grid, path=path, on_progress=lambda s: s.finished < 2)
    part = sorted(tmp_path.glob("m.apmgsrn.training/*.part"))[0]
    part.write_bytes(part.read_bytes()[:-7] + b"1234567")
    assert train(values, grid, path=path).to_bytes() == train(values, grid).to_bytes()
    assert "damaged" in caplog.text


def test_strange_files_in_the_folder_stay(tmp_path):
    values, grid = wave((9, 8, 7))
    folder = tmp_path / "m.apmgsrn.training"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    train(values, grid, path=tmp_path / "m.apmgsrn")
    assert os.listdir(folder) == ["notes.txt"]


@pytest.mark.slow
@pytest.mark.parametrize("bricks", [(1, 1, 1), (2, 2, 1)])
def test_killed_at_any_moment_and_started_again(tmp_path, bricks):
    """kill -9 once and again; in the end the model is the one of a training without interruption."""
    path, report = tmp_path / "m.apmgsrn", tmp_path / "report.json"
    command = [sys.executable, str(HERE / "brick_script.py"), "resume", str(path), json.dumps(bricks), str(report)]
    folder = tmp_path / "m.apmgsrn.training"
    for pause in (0.0, 0.03, 0.11):
        begin = time.time()
        process = subprocess.Popen(command, env=ENVIRONMENT)
        while process.poll() is None and not _changed_since(folder, begin):
            time.sleep(0.005)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not path.exists()
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    report = json.loads(report.read_text())
    assert 0 < report["steps"] < report["all"]  # went on, did not begin again
    again = tmp_path / "whole.apmgsrn"
    subprocess.run([*command[:3], str(again), *command[4:]], env=ENVIRONMENT, check=True, timeout=120)
    assert path.read_bytes() == again.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["m.apmgsrn", "report.json", "whole.apmgsrn"]


def _changed_since(folder: Path, begin: float) -> bool:
    """Whether a checkpoint was written."""
    return any(path.stat().st_mtime > begin for path in folder.glob("*.state"))


# -- ranks ----------------------------------------------------------------------------------------


@pytest.mark.mpi
@needs_mpi
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_any_number_of_ranks_gives_the_same_model(tmp_path, ranks):
    """Whole data on each rank, and pieces; in memory and to a file; fewer, as many and more bricks than ranks."""
    done = mpirun(ranks, HERE / "brick_script.py", "ranks", tmp_path)
    assert done.returncode == 0, done.stderr
    cases = json.loads((tmp_path / "cases.json").read_text())
    assert len(cases) >= 6
    for case in cases:
        values, grid = wave(tuple(case["dims"]), association=case["association"])
        expected = train(values, grid, tuple(case["bricks"])).to_bytes()
        for name in ("memory", "file", "pieces"):
            assert (tmp_path / f"{case['name']}-{name}.apmgsrn").read_bytes() == expected, (case, name)
    assert not list(tmp_path.glob("*.training"))


@pytest.mark.mpi
@needs_mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_an_error_on_one_rank_reaches_all(ranks, tmp_path):
    done = mpirun(ranks, HERE / "brick_script.py", "errors", tmp_path)
    assert done.returncode == 0, done.stderr
    lines = sorted(done.stdout.splitlines())
    assert len(lines) == 7 * ranks and all(line.endswith("good") for line in lines), done.stdout


@pytest.mark.mpi
@needs_mpi
def test_a_stop_on_one_rank_stops_all(tmp_path):
    done = mpirun(2, HERE / "brick_script.py", "stop", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("stopped by user before all 8 bricks") == 2


@pytest.mark.mpi
@needs_mpi
def test_kill_of_one_rank_ends_the_others_and_a_restart_goes_on(tmp_path):
    path, report = tmp_path / "m.apmgsrn", tmp_path / "report.json"
    arguments = [HERE / "brick_script.py", "resume", path, "[2, 2, 1]", report]
    command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", "2", sys.executable, "-m", "mpi4py", *map(str, arguments)]
    job = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    pids = tmp_path / "m.apmgsrn.pids"
    end = time.time() + 60
    while time.time() < end and (not pids.exists() or len(pids.read_text().split()) < 2):
        time.sleep(0.05)
    folder = tmp_path / "m.apmgsrn.training"
    while time.time() < end and not list(folder.glob("*.state")):
        time.sleep(0.05)
    victim, other = map(int, pids.read_text().split())
    os.kill(victim, signal.SIGKILL)
    _, told = job.communicate(timeout=10)
    assert job.returncode != 0 and "signal 9" in told
    assert not _alive(other)
    assert not path.exists()
    pids.unlink()
    assert mpirun(2, *arguments).returncode == 0
    told = json.loads(report.read_text())
    assert told["steps"] < told["all"]
    assert subprocess.run([sys.executable, *map(str, arguments[:2]), str(tmp_path / "w.apmgsrn"), *map(str, arguments[3:])],
                          env=ENVIRONMENT, timeout=120).returncode == 0  # fmt: skip
    assert path.read_bytes() == (tmp_path / "w.apmgsrn").read_bytes()


def _alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_brick_belongs_to_the_piece_that_has_most_of_it(data):
    dims = [data.draw(st.integers(2, 15)) for _ in range(3)]
    ghosts = data.draw(st.integers(0, 2))
    layout = BrickLayout(dims, [data.draw(st.integers(1, n - 1)) for n in dims], ghosts, 0)
    starts = [[data.draw(st.integers(0, n - 1)) for n in dims] for _ in range(data.draw(st.integers(1, 5)))]
    pieces = [Region(a, [data.draw(st.integers(x, n)) for x, n in zip(a, dims)]) for a in starts]

    def values(region):
        z, y, x = (range(a, b) for a, b in zip(region.start[::-1], region.stop[::-1]))
        return {(i, j, k) for k in z for j in y for i in x}

    shares = [[len(values(layout.trained(b)) & values(piece)) for b in range(layout.count)] for piece in pieces]
    assert (owners_of(layout, pieces) == np.array(shares).argmax(axis=0)).all()


def test_pieces_know_what_they_have():
    from apmgsrn_core import Communicator, Pieces

    values = np.arange(60).reshape(5, 4, 3)
    pieces = Pieces(values, Region((2, 0, 1), (5, 4, 6)), Communicator())
    part = pieces.fetch(Region((3, 1, 2), (5, 3, 6)))
    assert np.shares_memory(part, values) and (part == values[1:5, 1:3, 1:3]).all()
    assert isinstance(pieces.fetch(Region((0, 0, 0), (2, 2, 2))), DataError)
    assert pieces.fetch(None) is None
    with pytest.raises(DataError, match="piece: expected values of shape"):
        Pieces(values, Region((0, 0, 0), (5, 4, 3)), Communicator())
