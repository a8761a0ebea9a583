"""Writing model files: in one process and by ranks the same bytes, whole or not at all."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import pack_networks
from volumes import tiny

import apmgsrn_core.file.model_writer as model_writer
from apmgsrn_core import ArrayInfo, BrickLayout, Communicator, DataError, Grid, ModelConfig, ModelFileError
from apmgsrn_core.network.model import Network
from apmgsrn_core.file.model_file import ModelFile
from apmgsrn_core.file.model_writer import StoredBrick, pack_model, write_model
from apmgsrn_core.file.network_reader import read_network
from apmgsrn_core.file.weights import brick_config, describe_brick, describe_model, pack_section

LAYOUT = BrickLayout((7, 8, 9), (3, 2, 2), ghosts=3)
MODEL = ModelConfig(number_of_grids=3, grid_resolution=(3, 4, 5), hidden_width=8, output_components=1)
OTHERS = {
    1: replace(MODEL, number_of_grids=1, storage="float32"),
    4: replace(MODEL, grid_resolution=(4, 3, 3), hidden_layers=1, bias=True),
    11: replace(MODEL, number_of_grids=5),
}
needs_mpi = pytest.mark.skipif(shutil.which("mpirun") is None, reason="no mpirun")

SCRIPT = """
import json, os, sys
from pathlib import Path
from mpi4py import MPI
from apmgsrn_core import Communicator, BrickLayout
from apmgsrn_core.file.model_writer import StoredBrick, write_model
folder, comm = Path(sys.argv[1]), Communicator(MPI.COMM_WORLD)
manifest, described = json.loads((folder / "described.json").read_text())
owner = BrickLayout((7, 8, 9), (3, 2, 2)).ranks(comm.size)
def reading(number):
    return (folder / ("%d.section" % number)).read_bytes
bricks = [StoredBrick(*d[:4], reading(d[0])) for d in described if owner[d[0]] == comm.rank][::-1]
last, target = comm.rank == comm.size - 1, folder / "out" / "m.apmgsrn"
def changed(**new):
    return [StoredBrick(**{**vars(bricks[-1]), **new}), *bricks[:-1]] if last else bricks
def boom(): raise ValueError("boom")
def end(): os.kill(os.getpid(), 9)
def full(handle): raise OSError(28, "No space left on device")
lines = []
for case in sys.argv[2:]:
    fsync = os.fsync
    if case == "full" and last: os.fsync = full
    try:
        write_model(target, manifest, {
            "good": bricks, "full": bricks, "raise": changed(read=boom), "kill": changed(read=end),
            "gone": changed(read=reading(99)), "other": changed(read=lambda: b"x" * bricks[-1].length),
            "short": changed(length=3), "missing": bricks[1:] if last else bricks,
            "twice": bricks + bricks[:1] if last else bricks, "entry": changed(entry={"start": 1, "stop": 2}),
        }[case], comm)
        lines.append("%s: written" % case)
    except Exception as error:
        lines.append("%s: %s: %s" % (case, type(error).__name__, error))
    os.fsync = fsync
sys.stdout.write("".join("%s\\n" % line for line in lines))
"""


@pytest.fixture(scope="module")
def networks() -> list[Network]:
    configs = [OTHERS.get(brick, MODEL) for brick in range(LAYOUT.count)]
    return [Network(c, torch.Generator().manual_seed(b)) for b, c in enumerate(configs)]


@pytest.fixture(scope="module")
def manifest() -> dict:
    info = ArrayInfo("density", "point", 1, "float32", (0.0, 1.0))
    return describe_model(Grid(LAYOUT.dims), LAYOUT, (info,), (None,), MODEL, tiny(), "k" * 64)


@pytest.fixture(scope="module")
def bricks(networks) -> list[StoredBrick]:
    return [
        StoredBrick.of_bytes(b, describe_brick(network, LAYOUT, b, MODEL), pack_section(network))
        for b, network in enumerate(networks)
    ]


@pytest.fixture
def folder(tmp_path, manifest, bricks):
    """What SCRIPT reads: everything but the sections in one file, each section in its own; an older model in out/."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "m.apmgsrn").write_bytes(b"old")
    (tmp_path / "described.json").write_text(json.dumps([manifest, [b.described for b in bricks]]))
    for stored in bricks:
        (tmp_path / f"{stored.brick}.section").write_bytes(stored.read())
    return tmp_path


def run(ranks: int, folder, *cases: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    command = ["mpirun", "--oversubscribe", "-np", str(ranks), sys.executable, "-c", SCRIPT, str(folder), *cases]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def test_bricks_of_different_networks_come_back(networks, manifest, bricks):
    file = ModelFile(pack_model(manifest, bricks))
    assert file.header.layout == LAYOUT
    for brick, network in enumerate(networks):
        assert brick_config(file.header.manifest, brick) == network.config
        found = read_network(file, brick, 1).state_dict()
        for name, tensor in network.state_dict().items():
            half = network.config.storage == "float16" and name != "transforms"
            assert torch.equal(found[name], tensor.half().float() if half else tensor), (brick, name)


def test_an_entry_says_only_what_differs(bricks):
    assert [b.brick for b in bricks if "config" in b.entry] == sorted(OTHERS)
    assert bricks[1].entry["config"] == {"number_of_grids": 1, "storage": "float32"}
    assert (bricks[1].entry["start"], bricks[1].entry["stop"]) == ([2, 0, 0], [5, 4, 5])
    assert bricks[1].entry["grids"][0]["dtype"] == "float32"


def test_networks_are_packed_in_the_same_way(networks, manifest, bricks):
    info = ArrayInfo("density", "point", 1, "float32", (0.0, 1.0))
    packed = pack_networks(networks, Grid(LAYOUT.dims), (info,), (None,), tiny(), "k" * 64, LAYOUT)
    assert packed == pack_model(manifest, bricks[::-1])
    with pytest.raises(DataError, match="expected 12 networks, one a brick, found 11"):
        pack_networks(networks[1:], Grid(LAYOUT.dims), (info,), (None,), tiny(), "", LAYOUT)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_entries_and_sections_follow_the_layout(networks, manifest, data):
    counts = data.draw(st.tuples(*[st.integers(1, 4)] * 3))
    dims = tuple(data.draw(st.integers(c + 1 if c > 1 else 1, 12)) for c in counts)
    association = data.draw(st.sampled_from(["point", "cell"]))
    grid = Grid([n + (association == "cell") for n in dims], association=association)
    layout = BrickLayout(dims, counts, data.draw(st.integers(1, 3)), data.draw(st.integers(0, 1)))
    changed = {**manifest, "grid": grid.to_dict(), "layout": layout.to_dict()}
    changed["arrays"] = [{**changed["arrays"][0], "association": association}]
    sections = {b: bytes([b % 256]) * data.draw(st.integers(0, 9)) for b in range(layout.count)}
    bricks = [
        StoredBrick.of_bytes(b, describe_brick(networks[b % 12], layout, b, MODEL), s) for b, s in sections.items()
    ]
    file = ModelFile(pack_model(changed, data.draw(st.permutations(bricks))))
    assert file.header.layout == layout and file.header.grid == grid
    end = 64
    for brick, entry in enumerate(file.header.manifest["bricks"]):
        core = layout.core(brick)
        assert (tuple(entry["start"]), tuple(entry["stop"])) == (core.start, core.stop)
        assert brick_config(file.header.manifest, brick) == networks[brick % 12].config
        offset, length, _, _ = file.sections[brick, 0]
        assert b"".join(file.blocks(offset, length, "")) == sections[brick] and offset == end
        end += length
    file.check_sections()


def test_one_process_writes_what_it_packs(manifest, bricks, tmp_path):
    path = tmp_path / "m.apmgsrn"
    path.with_name(".m.apmgsrn.partial").write_bytes(b"left by a run that was killed" * 10_000)
    write_model(path, manifest, bricks[::-1], Communicator())
    assert path.read_bytes() == pack_model(manifest, bricks) and os.listdir(tmp_path) == ["m.apmgsrn"]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize(
    "chosen, message",
    [
        ([*range(11)], "brick 11: expected each of 0 to 11 once, found this 0 times"),
        ([*range(12), 3], "brick 3: .* found this 2 times"),
        ([], "brick 0: .* found this 0 times"),
    ],
)
def test_each_brick_must_be_there_once(manifest, bricks, chosen, message, tmp_path):
    with pytest.raises(DataError, match=message):
        pack_model(manifest, [bricks[b] for b in chosen])
    with pytest.raises(DataError, match="m.apmgsrn: .*" + message):
        write_model(tmp_path / "m.apmgsrn", manifest, [bricks[b] for b in chosen], Communicator())
    assert os.listdir(tmp_path) == []


def test_bricks_that_do_not_fit(manifest, bricks):
    with pytest.raises(DataError, match="brick 12: expected each of 0 to 11 once, found this 1 times"):
        pack_model(manifest, [*bricks, replace(bricks[0], brick=12)])
    with pytest.raises(ModelFileError, match="brick 3: expected start"):
        pack_model(manifest, [*bricks[:3], replace(bricks[3], entry=bricks[2].entry), *bricks[4:]])
    with pytest.raises(ModelFileError, match="brick 0: the checksum"):
        pack_model(manifest, [replace(bricks[0], read=lambda: b"x" * bricks[0].length), *bricks[1:]])
    with pytest.raises(DataError, match="brick 0 at time step 1: expected"):
        pack_model({**manifest, "times": [{"value": 0.0}, {"value": 1.0}]}, bricks)


def test_a_write_may_take_several_calls(manifest, bricks, tmp_path, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, data, offset: pwrite(handle, data[:1000], offset))
    write_model(tmp_path / "m.apmgsrn", manifest, bricks, Communicator())
    assert (tmp_path / "m.apmgsrn").read_bytes() == pack_model(manifest, bricks)


def test_the_temporary_file_may_be_seen_late(manifest, bricks, tmp_path, monkeypatch):
    path, waited = tmp_path / "m.apmgsrn", []
    partial = tmp_path / ".m.apmgsrn.partial"

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 3:
            partial.write_bytes(b"")

    monkeypatch.setattr(model_writer.time, "sleep", sleep)
    with model_writer._opened(path, partial) as handle:
        assert os.fstat(handle).st_ino == partial.stat().st_ino and len(waited) == 3
    partial.unlink()
    monkeypatch.setattr(model_writer, "PATIENCE", 0.0)
    with pytest.raises(ModelFileError, match="a folder that all ranks share, found no .m.apmgsrn.partial"):
        with model_writer._opened(path, partial):
            pass


@pytest.mark.mpi
@needs_mpi
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_write_what_one_process_packs(ranks, folder, manifest, bricks):
    done = run(ranks, folder, "good")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == ["good: written"] * ranks
    assert (folder / "out" / "m.apmgsrn").read_bytes() == pack_model(manifest, bricks)
    assert os.listdir(folder / "out") == ["m.apmgsrn"]


@pytest.mark.mpi
@needs_mpi
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_failure_is_one_of_all_ranks_and_leaves_the_older_file(ranks, folder):
    messages = {
        "raise": "boom", "gone": "cannot be read: ", "other": "the checksum", "short": "expected 3 bytes",
        "missing": "found this 0 times", "twice": "found this 2 times", "entry": "expected start",
        "full": "No space left on device",
    }  # fmt: skip
    done = run(ranks, folder, *messages)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")[:-1]
    assert len(lines) == ranks * len(messages), lines
    for case, message in messages.items():
        told = [line for line in lines if line.startswith(case + ": ")]
        assert len(told) == ranks and len(set(told)) == 1 and message in told[0], told
    assert (folder / "out" / "m.apmgsrn").read_bytes() == b"old"
    assert os.listdir(folder / "out") == ["m.apmgsrn"]


@pytest.mark.mpi
@needs_mpi
def test_a_killed_rank_leaves_the_older_file(folder, manifest, bricks):
    path = folder / "out" / "m.apmgsrn"
    path.write_bytes(pack_model({**manifest, "key": "older"}, bricks))
    done = run(2, folder, "kill")
    assert done.returncode != 0 and "written" not in done.stdout
    assert ModelFile(path).header.key == "older"
    ModelFile(path).check_sections()
    with pytest.raises(ModelFileError):  # what was begun is no model
        ModelFile(folder / "out" / ".m.apmgsrn.partial")
    write_model(path, manifest, bricks, Communicator())
    assert path.read_bytes() == pack_model(manifest, bricks) and os.listdir(folder / "out") == ["m.apmgsrn"]
