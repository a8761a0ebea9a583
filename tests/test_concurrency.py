"""Several at one file: readers see one version each, one trainer trains, leavings of killed writers go."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from volumes import tiny, wave

from apmgsrn_core import ApmgsrnError, ModelConfig, ModelFile, ModelFileError, NeuralVolume, train_volume, write_bytes
from apmgsrn_core.bricks.folder import BrickFolder
from apmgsrn_core.distributed import Communicator
from apmgsrn_core.file.model_writer import copy_model
from apmgsrn_core.sampling.volume_opening import volume_stamp

HERE = Path(__file__).resolve().parent
MODEL = ModelConfig(number_of_grids=8, grid_resolution=(4, 4, 4), hidden_width=16)
QUIET = {"on_progress": lambda state: True, "on_warning": lambda line: None}
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]), "OMP_NUM_THREADS": "1"}


def train(power=1.0, **more):
    values, grid = wave((17, 16, 15))
    return train_volume(values**power, grid, model=MODEL, train=tiny(), bricks=(2, 2, 1), **{**QUIET, **more})


@pytest.fixture(scope="module")
def versions():
    """Two models whose values differ everywhere, and these values."""
    made = [train(power).to_bytes() for power in (1.0, 2.0)]
    return [(data, NeuralVolume.from_bytes(data, "cpu").reconstruct()) for data in made]


# -- readers -------------------------------------------------------------------------------------


WRITER = """
import os, sys
from pathlib import Path
from apmgsrn_core import write_bytes
path, *sources = sys.argv[1:]
versions = [Path(source).read_bytes() for source in sources]
print("begun", flush=True)
number = 0
while os.getppid() == {parent}:
    write_bytes(path, versions[number % 2])
    number += 1
"""


def test_a_reader_beside_a_writer_sees_one_version_at_a_time(versions, tmp_path):
    path = tmp_path / "m.apmgsrn"
    for number, (data, _) in enumerate(versions):
        (tmp_path / str(number)).write_bytes(data)
    path.write_bytes(versions[0][0])
    code = WRITER.format(parent=os.getpid())
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "0"), str(tmp_path / "1")]
    writer = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE)
    seen = []
    try:
        assert writer.stdout.readline() == b"begun\n"
        while len(seen) < 40 or (len(set(seen)) < 2 and len(seen) < 4000):
            found = NeuralVolume.open(path, "cpu").reconstruct()  # its bricks are read one by one
            seen.append(next(i for i, (_, expected) in enumerate(versions) if np.array_equal(found, expected)))
    finally:
        writer.kill()
        writer.communicate()
    assert set(seen) == {0, 1}
    train(path=path)  # who writes there next removes what the killed writer may have left
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "m.apmgsrn"]


def test_an_open_volume_keeps_its_version_when_another_file_takes_the_name(versions, tmp_path):
    path = tmp_path / "m.apmgsrn"
    path.write_bytes(versions[0][0])
    volume = NeuralVolume.open(path, "cpu")
    write_bytes(path, versions[1][0])
    np.testing.assert_array_equal(volume.reconstruct(), versions[0][1])
    path.unlink()
    assert np.array_equal(NeuralVolume(ModelFile(versions[1][0]), "cpu").reconstruct(), versions[1][1])
    np.testing.assert_array_equal(volume.reconstruct(), versions[0][1])
    with pytest.raises(ModelFileError, match="m.apmgsrn: cannot be opened: No such file"):
        NeuralVolume.open(path, "cpu")


@pytest.mark.parametrize("change", ["rewritten", "cut", "emptied"])
def test_an_open_volume_whose_file_is_written_over_is_an_error_and_never_a_mixture(versions, tmp_path, change):
    path = tmp_path / "m.apmgsrn"
    path.write_bytes(versions[0][0])
    volume = NeuralVolume.open(path, "cpu")
    first = volume.sample_points(np.zeros((1, 3)))  # one brick is in memory now, the others are in the file
    data = {"rewritten": versions[1][0], "cut": versions[0][0][: len(versions[0][0]) // 2], "emptied": b""}[change]
    with open(path, "r+b") as file:  # in place, as no program of this project does
        file.truncate(0)
        file.write(data)
    with pytest.raises(ModelFileError, match="m.apmgsrn: section of brick .*(checksum|truncated)"):
        volume.reconstruct()
    np.testing.assert_array_equal(volume.sample_points(np.zeros((1, 3))), first)


def test_threads_share_a_volume(versions):
    values, grid = wave((17, 16, 15))
    random = np.random.default_rng(0)
    points = [random.uniform(0, 1, (500, 3)) * (np.array(grid.dims) - 1) for _ in range(12)]
    alone = NeuralVolume.from_bytes(versions[0][0], "cpu")
    expected = [alone.sample_points(p) for p in points]
    shared = NeuralVolume.from_bytes(versions[0][0], "cpu")
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(shared.sample_points, points * 5))
    for number, array in enumerate(found):
        np.testing.assert_array_equal(array, expected[number % len(points)])


def test_several_volumes_of_one_file_do_not_disturb_each_other(versions, tmp_path):
    path = tmp_path / "m.apmgsrn"
    path.write_bytes(versions[0][0])
    volumes = [NeuralVolume.open(path, "cpu") for _ in range(3)]
    coarse = volumes[1].reconstruct(0.5)
    np.testing.assert_array_equal(volumes[0].reconstruct(), versions[0][1])
    np.testing.assert_array_equal(NeuralVolume.open(path, "cpu").reconstruct(0.5), coarse)
    np.testing.assert_array_equal(volumes[2].reconstruct(), versions[0][1])


def test_the_stamp_of_a_file_changes_with_the_file_though_time_and_size_are_the_same(versions, tmp_path):
    path = tmp_path / "m.apmgsrn"
    path.write_bytes(versions[0][0])
    before, state = volume_stamp(path), path.stat()
    write_bytes(path, versions[0][0][::-1])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert volume_stamp(path) != before


def test_a_copy_of_a_file_that_is_written_over_meanwhile_is_an_error(versions, tmp_path, monkeypatch):
    source, target = tmp_path / "m.apmgsrn", tmp_path / "copy.apmgsrn"
    source.write_bytes(versions[0][0])
    target.write_bytes(versions[1][0])
    blocks = ModelFile.blocks

    def overtaken(file, offset, length, what):
        if offset == 0:  # the copying
            source.write_bytes(bytes(len(versions[0][0]) // 2) + versions[0][0][len(versions[0][0]) // 2 :])
        return blocks(file, offset, length, what)

    monkeypatch.setattr(ModelFile, "blocks", overtaken)
    with pytest.raises(ModelFileError):
        copy_model(source, target)
    assert target.read_bytes() == versions[1][0] and sorted(os.listdir(tmp_path)) == ["copy.apmgsrn", "m.apmgsrn"]


# -- writers -------------------------------------------------------------------------------------


TRAINER = """
import os, sys
from test_concurrency import train
def wait(state):
    if not told:
        told.append(print("training", os.getpid(), flush=True))
        sys.stdin.readline()
    return True
told = []
train(path=sys.argv[1], on_progress=wait)
"""


@pytest.fixture
def trainer(tmp_path):
    """A process that trains tmp_path/m.apmgsrn and is held in its first brick until it may read a line."""
    command = [sys.executable, "-c", TRAINER, str(tmp_path / "m.apmgsrn")]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"training %d\n" % process.pid
    yield process
    process.kill()
    process.communicate()


def test_of_two_trainers_of_one_file_the_second_stops_and_names_the_first(trainer, tmp_path):
    path = tmp_path / "m.apmgsrn"
    for power in (1.0, 2.0):  # the same training, and another one
        with pytest.raises(ModelFileError, match=f"m.apmgsrn: expected nobody else to train it, found process {trainer.pid} on"):
            train(power, path=path)
    trainer.communicate(b"\n", timeout=120)
    assert trainer.returncode == 0 and path.read_bytes() == train().to_bytes()
    train(2.0, path=path)
    assert os.listdir(tmp_path) == ["m.apmgsrn"]


def test_a_trainer_that_was_killed_stands_in_nobodys_way(trainer, tmp_path):
    trainer.send_signal(signal.SIGKILL)
    trainer.wait()
    train(2.0, path=tmp_path / "m.apmgsrn")
    assert os.listdir(tmp_path) == ["m.apmgsrn"]


def test_the_folder_of_a_training_is_not_removed_by_others(trainer, tmp_path, caplog):
    BrickFolder(str(tmp_path / "m.apmgsrn"), 0.0).remove()
    assert "m.apmgsrn.training stays" in caplog.text and f"process {trainer.pid}" in caplog.text
    trainer.communicate(b"\n", timeout=120)
    assert trainer.returncode == 0 and os.listdir(tmp_path) == ["m.apmgsrn"]


def test_two_trainings_in_one_process_do_not_mix(tmp_path):
    path, errors = tmp_path / "m.apmgsrn", []

    def other(state):
        if not errors:
            with pytest.raises(ModelFileError) as found:
                train(2.0, path=path)
            errors.append(str(found.value))
        return True

    result = train(path=path, on_progress=other)
    assert "found another training in this process" in errors[0]
    assert result.to_bytes() == train().to_bytes() and os.listdir(tmp_path) == ["m.apmgsrn"]


def test_a_time_step_that_another_program_appends_meanwhile_is_not_lost(tmp_path):
    """Both read the first step; the slower one must not replace what the quicker one has added, nor leave it half way."""
    path = tmp_path / "m.apmgsrn"
    train(path=path, time=0.0, series=True)
    first = path.read_bytes()
    quicker = train(path=tmp_path / "q.apmgsrn", time=1.0, append=first).to_bytes()

    def meanwhile(state):
        write_bytes(path, quicker)  # a program of another computer, whose locks this one may not see
        return True

    with pytest.raises(ModelFileError, match="m.apmgsrn: expected the file that was there when its time steps were read"):
        train(path=path, time=2.0, append=path, on_progress=meanwhile)
    assert path.read_bytes() == quicker
    assert train(path=path, time=2.0, append=path).volume.times == (0.0, 1.0, 2.0)
    path.unlink()
    with pytest.raises(ModelFileError, match="expected the file that was there"):
        train(path=path, time=2.0, append=first, on_progress=meanwhile)
    assert sorted(os.listdir(tmp_path)) == ["m.apmgsrn", "m.apmgsrn.training", "q.apmgsrn"]


def test_a_training_that_has_failed_lets_go(tmp_path):
    path = tmp_path / "m.apmgsrn"
    with pytest.raises(ApmgsrnError, match="stopped"):
        train(path=path, on_progress=lambda state: False)
    train(path=path)
    assert os.listdir(tmp_path) == ["m.apmgsrn"]


def test_without_locks_a_training_goes_on(tmp_path, monkeypatch):
    import apmgsrn_core.file.file_lock as file_lock

    monkeypatch.setattr(file_lock, "fcntl", None)
    folder, communicator = BrickFolder(str(tmp_path / "m.apmgsrn"), 0.0), Communicator()
    folder.open("key", communicator)
    assert BrickFolder(str(tmp_path / "m.apmgsrn"), 0.0).open("key", communicator) == set()
    folder.remove()
    train(path=tmp_path / "m.apmgsrn")
    assert os.listdir(tmp_path) == ["m.apmgsrn"]


def test_writers_of_one_file_leave_one_of_their_files_whole(versions, tmp_path):
    path = tmp_path / "m.apmgsrn"

    def write(number):
        for _ in range(20):
            write_bytes(path, versions[number % 2][0])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in [data for data, _ in versions] and os.listdir(tmp_path) == ["m.apmgsrn"]


@pytest.mark.parametrize("order", ["deleted before it is locked here", "deleted afterwards"])
def test_a_new_file_that_another_writer_takes_for_a_left_one_is_not_used(tmp_path, monkeypatch, order):
    import apmgsrn_core.file.whole_file as whole_file

    lock, taken = whole_file.locked, []

    def overtaken(handle):
        if taken:
            return lock(handle)
        (name,) = tmp_path.glob(".apmgsrn-*")
        taken.append(os.open(name, os.O_RDWR))
        assert lock(taken[0])
        if order != "deleted afterwards":
            name.unlink()
            os.close(taken[0])
            return lock(handle)
        found = lock(handle)
        monkeypatch.setattr(os, "fsync", lambda _: name.unlink())  # just before it is renamed
        return found

    monkeypatch.setattr(whole_file, "drop_left", lambda folder: None)
    monkeypatch.setattr(whole_file, "locked", overtaken)
    write_bytes(tmp_path / "m.apmgsrn", b"all of it")
    assert (tmp_path / "m.apmgsrn").read_bytes() == b"all of it" and len(taken) == 1


def test_new_files_have_the_permissions_of_any_other_whichever_thread_asks(tmp_path):
    """The mask of the process is never changed, not even for a moment: other threads make files meanwhile."""
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "m.apmgsrn", b"numbers")
        assert (tmp_path / "m.apmgsrn").stat().st_mode & 0o777 == 0o640
        (tmp_path / "m.apmgsrn").chmod(0o600)
        asked, umask = [], os.umask
        os.umask = lambda mask: asked.append(mask) or umask(mask)
        try:
            write_bytes(tmp_path / "m.apmgsrn", b"others")
        finally:
            os.umask = umask
        assert asked == []
    finally:
        os.umask(before)


LEFT = """
import os, signal, sys
from apmgsrn_core import write_bytes
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
write_bytes(sys.argv[1], b"never")
"""


def test_what_a_killed_writer_leaves_goes_with_the_next_write(tmp_path):
    path = tmp_path / "m.apmgsrn"
    path.write_bytes(b"older")
    killed = subprocess.run([sys.executable, "-c", LEFT, str(path)], env=ENVIRONMENT, timeout=60)
    assert killed.returncode == -signal.SIGKILL and len(os.listdir(tmp_path)) == 2 and path.read_bytes() == b"older"
    write_bytes(path, b"newer")
    assert os.listdir(tmp_path) == ["m.apmgsrn"] and path.read_bytes() == b"newer"
