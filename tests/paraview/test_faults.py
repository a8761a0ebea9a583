"""Files that change, disks that are full, several sources on one file: ParaView lives on, and the next Apply works."""

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import info, make_image, output, smooth_values, train, values_of
from paraview import simple
from test_bad_input import assert_one_line, failing

DIMS = (12, 11, 10)
BRICKS = dict(Bricks=[2, 2, 1])


@pytest.fixture
def disk(tmp_path):
    """A disk of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with mounted(folder):
        yield folder


@contextmanager
def mounted(folder):
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def models(folder):
    """Two model files of the same lattice with other values, and their bytes."""
    paths = [folder / "a.apmgsrn", folder / "b.apmgsrn"]
    for path, high in zip(paths, (100.0, 300.0)):
        values = smooth_values(DIMS, high=high)
        filter_ = train(make_image(values if high == 100 else values[::-1].copy()), ModelFile=str(path), **BRICKS)
        simple.Delete(filter_)
    return [path.read_bytes() for path in paths]


def sampled(path, **settings):
    source = simple.NeuralVolume(FileName=str(path), Device="cpu", **settings)
    source.UpdatePipeline()
    return source


def values(source):
    return values_of(output(source)).copy()


def update_again(source):
    """As when the user has touched it."""
    source.GetClientSideObject().Modified()
    source.SMProxy.MarkDirty(None)
    source.UpdatePipeline()


# -- the file of a source ----------------------------------------------------------------------------


def test_a_file_that_is_deleted_or_replaced_while_it_is_open(vtk_errors, tmp_path):
    first, second = models(tmp_path)
    path = tmp_path / "m.apmgsrn"
    path.write_bytes(first)
    source = sampled(path)
    old = values(source)
    path.unlink()
    source.Scale = 2.0
    source.UpdatePipeline()
    assert_one_line(vtk_errors, source, str(path), "No such file")
    assert output(source).GetPointData().GetNumberOfArrays() == 0
    (tmp_path / "new").write_bytes(second)
    os.replace(tmp_path / "new", path)
    source.Scale = 1.0
    source.UpdatePipeline()
    new = values(source)
    np.testing.assert_array_equal(new, values(sampled(tmp_path / "b.apmgsrn")))
    assert info(source, "LastError") == "" and not np.array_equal(old, new)


@pytest.mark.parametrize("change", ["cut", "emptied", "written over"])
def test_a_file_that_is_changed_in_place_is_an_error_until_it_is_whole(vtk_errors, tmp_path, change):
    first, second = models(tmp_path)
    path = tmp_path / "m.apmgsrn"
    path.write_bytes(first)
    source = sampled(path, UseRegionOfInterest=1, RegionOfInterest=[0, 2, 0, 2, 0, 2])  # one brick is read
    content = {"cut": first[: len(first) // 2], "emptied": b"", "written over": first[:500] + bytes(len(first) - 500)}[change]
    with open(path, "r+b") as file:
        file.truncate(0)
        file.write(content)
    source.UseRegionOfInterest = 0
    source.UpdatePipeline()
    assert_one_line(vtk_errors, source, str(path))
    with open(path, "r+b") as file:
        file.truncate(0)
        file.write(second)
    source.Scale = 2.0
    source.UpdatePipeline()
    source.Scale = 1.0
    source.UpdatePipeline()
    np.testing.assert_array_equal(values(source), values(sampled(tmp_path / "b.apmgsrn")))


def test_several_sources_on_one_file(tmp_path):
    """With other settings each, in any order, also when one of them is deleted."""
    models(tmp_path)
    path = tmp_path / "a.apmgsrn"
    settings = [{}, {"Scale": 2.0}, {"UseRegionOfInterest": 1, "RegionOfInterest": [2, 6, 2, 6, 2, 6]}, {"OutputKind": "Adaptive"}]
    alone = []
    for chosen in settings[:3]:
        source = sampled(path, **chosen)
        alone.append((output(source).GetExtent(), values(source)))
        simple.Delete(source)
    together = [simple.NeuralVolume(FileName=str(path), Device="cpu", **chosen) for chosen in settings]
    for source in together[::-1]:
        source.UpdatePipeline()
    simple.Delete(together.pop())
    for source, (extent, expected) in zip(together, alone):
        update_again(source)
        assert output(source).GetExtent() == extent
        np.testing.assert_array_equal(values(source), expected)


WRITER = """
import os, sys
from pathlib import Path
from apmgsrn_core import write_bytes
versions = [Path(source).read_bytes() for source in sys.argv[2:]]
print("begun", flush=True)
number = 0
while os.getppid() == {parent}:
    write_bytes(sys.argv[1], versions[number % 2])
    number += 1
"""


def test_a_file_that_is_written_anew_again_and_again(tmp_path):
    """What a source shows is of one version each time."""
    first, _ = models(tmp_path)
    sources = [tmp_path / name for name in ("a.apmgsrn", "b.apmgsrn")]
    expected = [values(sampled(path)) for path in sources]
    path = tmp_path / "m.apmgsrn"
    path.write_bytes(first)
    code = WRITER.format(parent=os.getpid())
    writer = subprocess.Popen(["pvpython", "-c", code, str(path), *map(str, sources)], stdout=subprocess.PIPE)
    seen = []
    source = simple.NeuralVolume(FileName=str(path), Device="cpu")
    try:
        while writer.stdout.readline() != b"begun\n":
            assert writer.poll() is None
        while len(seen) < 30 or (len(set(seen)) < 2 and len(seen) < 2000):
            update_again(source)
            found = values(source)
            seen.append(next(i for i, version in enumerate(expected) if np.array_equal(found, version)))
    finally:
        writer.kill()
        writer.communicate()
    assert set(seen) == {0, 1}, (len(seen), path.read_bytes() == first, writer.returncode)


# -- the file of a training ----------------------------------------------------------------------------


def test_a_full_disk_is_told_and_the_next_apply_works(vtk_errors, disk):
    path = disk / "m.apmgsrn"
    path.write_bytes(b"")
    (disk / "filling").write_bytes(bytes(64 * 1024 - 8192))
    filter_ = failing(make_image(smooth_values(DIMS)), ModelFile=str(path), **BRICKS)
    assert_one_line(vtk_errors, filter_, "m.apmgsrn", "No space left on device", "bytes free")
    assert path.read_bytes() == b"" and output(filter_).GetPointData().GetNumberOfArrays() == 0
    (disk / "filling").unlink()
    filter_.Seed = 1
    filter_.UpdatePipeline()
    assert info(filter_, "LastError") == "" and path.stat().st_size > 1000
    assert os.listdir(disk) == ["m.apmgsrn"]
    simple.Delete(filter_)


def test_a_read_only_folder_is_told_before_anything_is_trained(vtk_errors, disk, trainings):
    path = disk / "m.apmgsrn"
    path.write_bytes(b"")
    if subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True).returncode:
        pytest.skip("no file system can be made read-only here")
    filter_ = failing(make_image(smooth_values(DIMS)), ModelFile=str(path))
    assert_one_line(vtk_errors, filter_, "m.apmgsrn", "cannot be written", "Read-only file system")
    assert trainings == []
    filter_.ModelFile = str(disk.parent / "m.apmgsrn")
    filter_.UpdatePipeline()
    assert info(filter_, "LastError") == "" and (disk.parent / "m.apmgsrn").exists()


TRAINER = """
import sys
from paraview import simple
simple.LoadPlugin(sys.argv[1], remote=False, ns=vars(simple))
filter_ = simple.TrainNeuralVolume(
    Input=simple.Wavelet(), ModelFile=sys.argv[2], ReportProgress=0.01, Preset="Custom", NumberOfGrids=8, GridResolution=[4, 4, 4],
    HiddenWidth=16, Iterations=10**6, BatchSize=500, Device="cpu", Bricks=[2, 1, 1],
)
filter_.UpdatePipeline()
"""


def test_a_model_that_another_paraview_trains_is_left_to_it(vtk_errors, tmp_path):
    path, plugin = tmp_path / "m.apmgsrn", Path(__file__).resolve().parents[2] / "xml" / "apmgsrn.xml"
    other = subprocess.Popen(["pvpython", "-c", TRAINER, str(plugin), str(path)], stdout=subprocess.PIPE)
    try:
        while not other.stdout.readline().startswith(b"rank 0: brick"):
            assert other.poll() is None
        filter_ = failing(make_image(smooth_values(DIMS)), ModelFile=str(path))
        assert_one_line(vtk_errors, filter_, "m.apmgsrn", "expected nobody else to train it", f"process {other.pid} on")
    finally:
        other.kill()
        other.communicate()
    filter_.Seed = 1
    filter_.UpdatePipeline()
    assert info(filter_, "LastError") == "" and os.listdir(tmp_path) == ["m.apmgsrn"]


# -- a training that does not go straight ------------------------------------------------------------------


def test_a_training_that_diverges_says_so(monkeypatch, caplog):
    from apmgsrn_core.training.optimizer import Adam

    step, calls = Adam.step, []

    def poison(adam):
        calls.append(1)
        if len(calls) == 10:
            adam.groups[0].parameters[0].grad.view(-1)[3] = float("nan")
        step(adam)

    monkeypatch.setattr(Adam, "step", poison)
    filter_ = train(make_image(smooth_values(DIMS)))
    assert "diverged at iteration" in info(filter_, "Status") and np.isfinite(values_of(output(filter_))).all()
    assert "training diverged" in caplog.text


def test_a_source_whose_device_fails_goes_on_on_the_cpu_and_says_so(monkeypatch, tmp_path, caplog):
    from apmgsrn_core.bricks.sampling import BrickSampler

    models(tmp_path)
    expected, on_box, calls = values(sampled(tmp_path / "a.apmgsrn")), BrickSampler._on_box, []

    def lost(sampler, *arguments):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("CUDA error: unspecified launch failure")
        return on_box(sampler, *arguments)

    monkeypatch.setattr(BrickSampler, "_on_box", lost)
    source = simple.NeuralVolume(FileName=str(tmp_path / "a.apmgsrn"))
    source.UpdatePipeline()
    np.testing.assert_array_equal(values(source), expected)
    assert "has failed, the CPU goes on" in info(source, "Status")
    assert "unspecified launch failure" in caplog.text
