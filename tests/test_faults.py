"""Full disks, folders that cannot be written, reads that fail: the older file stays as it is, and the error names the file."""

import os
import re
import shutil
import subprocess
from contextlib import contextmanager

import numpy as np
import pytest
from volumes import tiny, wave

from apmgsrn_core import ApmgsrnError, ModelConfig, ModelFile, ModelFileError, NeuralVolume, check_writable, train_volume, write_bytes
from apmgsrn_core.command_line import main
from apmgsrn_core.file.model_writer import copy_model
from apmgsrn_core.training.checkpoint import Checkpoint

MODEL = ModelConfig(number_of_grids=8, grid_resolution=(4, 4, 4), hidden_width=16)
QUIET = {"on_progress": lambda state: True, "on_warning": lambda line: None}


@contextmanager
def mounted(folder, *options):
    """A file system of its own in a folder."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path):
    """A disk of 64 kB."""
    if shutil.which("mount") is None:
        pytest.skip("no mount")
    (tmp_path / "disk").mkdir()
    with mounted(tmp_path / "disk", "size=64k") as folder:
        yield folder


@pytest.fixture
def full_disk(disk):
    """A disk with an older model and 4 kB left."""
    (disk / "m.apmgsrn").write_bytes(b"older")
    fill(disk, 4096)
    yield disk


def fill(disk, left):
    """Leave so many bytes."""
    (disk / "filling").unlink(missing_ok=True)
    (disk / "filling").write_bytes(bytes(max(shutil.disk_usage(disk).free - left, 0)))


@pytest.fixture(scope="module")
def model():
    return train(bricks=(2, 2, 1)).to_bytes()


def train(bricks=(1, 1, 1), iterations=60, **more):
    values, grid = wave((17, 16, 15))
    return train_volume(values, grid, model=MODEL, train=tiny(iterations=iterations), bricks=bricks, **{**QUIET, **more})


def content(folder):
    return {name: (folder / name).read_bytes() for name in sorted(os.listdir(folder)) if (folder / name).is_file()}


NO_ROOM = r": cannot be written: No space left on device; expected room for \d+ bytes, found \d+ bytes free"


# -- a full disk ---------------------------------------------------------------------------------


def test_no_room_for_a_file(full_disk, model):
    before = content(full_disk)
    with pytest.raises(ModelFileError, match="m.apmgsrn" + NO_ROOM) as found:
        write_bytes(full_disk / "m.apmgsrn", model)
    expected, free = map(int, re.findall(r"(\d+) bytes", str(found.value)))
    assert (expected, free) == (len(model), 4096)
    with pytest.raises(ModelFileError, match="copy" + NO_ROOM):
        (full_disk.parent / "source").write_bytes(model)
        copy_model(full_disk.parent / "source", full_disk / "copy")
    assert content(full_disk) == before


def test_no_room_for_the_model_of_a_training(disk, model):
    """The bricks are kept, and when there is room the same training takes them from there."""
    (disk / "m.apmgsrn").write_bytes(b"older")
    seen = []

    def fill_late(state):
        seen.append(state.brick)
        if state.finished == 3 and state.fraction == 1:
            fill(disk, 8192)  # enough for the last brick, not for all four
        return True

    with pytest.raises(ModelFileError, match="m.apmgsrn" + NO_ROOM):
        train((2, 2, 1), path=disk / "m.apmgsrn", on_progress=fill_late)
    assert (disk / "m.apmgsrn").read_bytes() == b"older"
    assert sorted(os.listdir(disk)) == ["filling", "m.apmgsrn", "m.apmgsrn.training"] and set(seen) == {0, 1, 2, 3}
    (disk / "filling").unlink()
    seen.clear()
    train((2, 2, 1), path=disk / "m.apmgsrn", on_progress=fill_late)
    assert seen == [] and (disk / "m.apmgsrn").read_bytes() == model
    assert os.listdir(disk) == ["m.apmgsrn"]


def test_no_room_for_a_finished_brick_ends_the_training(full_disk):
    fill(full_disk, 0)
    with pytest.raises(ModelFileError, match="m.apmgsrn.training: expected a folder for checkpoints, found: No space left"):
        train((2, 2, 1), path=full_disk / "m.apmgsrn")
    fill(full_disk, 8192)
    with pytest.raises(ModelFileError, match=r"brick-\d.part" + NO_ROOM):
        train((2, 2, 1), path=full_disk / "m.apmgsrn")
    assert (full_disk / "m.apmgsrn").read_bytes() == b"older"
    assert not [name for name in os.listdir(full_disk / "m.apmgsrn.training") if name.startswith(".")]


def test_no_room_for_a_checkpoint_is_a_warning_and_the_training_goes_on(full_disk, caplog):
    checkpoint = Checkpoint(full_disk / "file", 1.0, "key")
    checkpoint.save({"x": 1})
    before = content(full_disk)
    for _ in range(3):
        checkpoint.save({"x": np.zeros(10_000)})
    (line,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert re.search("checkpoint not written, the training goes on without: .*file" + NO_ROOM, line)
    assert content(full_disk) == before and checkpoint.load() == {"x": 1}


@pytest.mark.parametrize("ending", ["npy", "csv", "png"])
def test_no_room_for_what_a_command_writes(full_disk, model, capsys, ending):
    (full_disk.parent / "m.apmgsrn").write_bytes(model)
    source, target = str(full_disk.parent / "m.apmgsrn"), str(full_disk / f"out.{ending}")
    fill(full_disk, 0)
    before = content(full_disk)
    points = full_disk.parent / "points.csv"
    points.write_text("x,y,z\n" + "".join(f"{i / 100},1,1\n" for i in range(500)))
    commands = {"npy": ["export", source], "csv": ["sample", source, str(points)], "png": ["render", source, "--size", "64", "48"]}
    assert main([*commands[ending], "-o", target]) != 0
    assert re.search(f"out.{ending}" + NO_ROOM, capsys.readouterr().err)
    assert content(full_disk) == before


# -- a folder that cannot be written ---------------------------------------------------------------


def test_a_read_only_folder(tmp_path, model):
    folder = tmp_path / "disk"
    folder.mkdir()
    with mounted(folder, "size=64k"):
        (folder / "m.apmgsrn").write_bytes(model)
        if subprocess.run(["mount", "-o", "remount,ro", str(folder)], capture_output=True).returncode:
            pytest.skip("no file system can be made read-only here")
        trained = []
        for work in (
            lambda: write_bytes(folder / "m.apmgsrn", b"new"), lambda: check_writable(folder / "new"),
            lambda: copy_model(folder / "m.apmgsrn", folder / "copy"),
            lambda: train(path=folder / "m.apmgsrn", on_progress=lambda state: trained.append(state) or True),
        ):  # fmt: skip
            with pytest.raises(ModelFileError, match=f"the folder '{folder}' cannot be written: Read-only file system"):
                work()
        assert not trained  # it is told before anything is trained
        assert content(folder) == {"m.apmgsrn": model}
        np.testing.assert_array_equal(
            NeuralVolume.open(folder / "m.apmgsrn", "cpu").reconstruct(), NeuralVolume.from_bytes(model, "cpu").reconstruct()
        )


def test_a_folder_that_goes_away_while_it_is_trained(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()

    def remove(state):
        shutil.rmtree(folder, ignore_errors=True)
        return True

    with pytest.raises(ModelFileError, match="brick-0.part: the folder .* cannot be written: No such file"):
        train((2, 1, 1), path=folder / "m.apmgsrn", on_progress=remove)


# -- reads -----------------------------------------------------------------------------------------


def test_short_reads_are_read_to_the_end(tmp_path, model, monkeypatch):
    path = tmp_path / "m.apmgsrn"
    path.write_bytes(model)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda handle, count, offset: pread(handle, min(count, 100), offset))
    expected = NeuralVolume.from_bytes(model, "cpu").reconstruct()
    np.testing.assert_array_equal(NeuralVolume.open(path, "cpu").reconstruct(), expected)
    copy_model(path, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == model


@pytest.mark.parametrize("moment", ["preamble", "manifest", "section"])
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), OSError(116, "Stale file handle"), 0])
def test_a_read_that_fails_or_ends_early_is_told(tmp_path, model, monkeypatch, moment, error):
    path, pread = tmp_path / "m.apmgsrn", os.pread
    path.write_bytes(model)
    first = ModelFile(path).sections[1, 0][0]
    end = max(offset + length for offset, length, *_ in ModelFile(path).sections.values())
    broken = {"preamble": range(0, 64), "manifest": range(end, len(model)), "section": range(first, end)}[moment]

    def reading(handle, count, offset):
        if offset not in broken:
            return pread(handle, count, offset)
        if error:
            raise error
        return b""

    monkeypatch.setattr(os, "pread", reading)
    words = f"cannot be read: {error.strerror}" if error else "truncated: expected .* bytes at .*, found 0"
    with pytest.raises(ModelFileError, match=f"m.apmgsrn.*: {words}"):
        NeuralVolume.open(path, "cpu").reconstruct()


def test_a_finished_brick_that_cannot_be_read_any_more(tmp_path):
    path = tmp_path / "m.apmgsrn"
    path.write_bytes(b"older")

    def spoil(state):
        for part in (tmp_path / "m.apmgsrn.training").glob("*.part"):
            part.write_bytes(part.read_bytes()[:-9] + b"123456789")
        return True

    with pytest.raises(ModelFileError, match="section of brick .*: the checksum does not match what was described"):
        train((2, 1, 1), path=path, on_progress=spoil)
    assert path.read_bytes() == b"older"
    train((2, 1, 1), path=path)
    assert os.listdir(tmp_path) == ["m.apmgsrn"]


def test_values_that_cannot_be_read(tmp_path):
    """Of data that is read brick by brick."""
    values, grid = wave((17, 16, 15))
    asked = []

    def read(region):
        asked.append(region)
        if len(asked) == 4:
            raise OSError(5, "Input/output error")
        return values[tuple(slice(a, b) for a, b in zip(region.start, region.stop))[::-1]]

    path = tmp_path / "m.apmgsrn"
    with pytest.raises((OSError, ApmgsrnError), match="Input/output error"):
        train_volume(read, grid, model=MODEL, train=tiny(), bricks=(2, 1, 1), path=path, **QUIET)
    train_volume(read, grid, model=MODEL, train=tiny(), bricks=(2, 1, 1), path=path, **QUIET)
    assert os.listdir(tmp_path) == ["m.apmgsrn"]
