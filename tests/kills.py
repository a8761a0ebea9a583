"""Trainings that are killed at random moments and started again, for `test_kills.py` and `bench/kills.py`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from kill_script import BRICKS, DIMS, MODEL
from volumes import tiny, wave

from apmgsrn_core import ModelFile, NeuralVolume, psnr, train_volume

HERE = Path(__file__).resolve().parent
LIMIT = 180  # seconds until a training hangs
ENVIRONMENT = {
    **os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
}  # fmt: skip


@dataclass
class Kill:
    """One training that was killed and taken up again.

    Attributes:
        moment: Seconds after the training had begun.
        found: What lay there after the kill.
        psnr: In dB, of the model that the second run left.
        same: Whether that is the one of a training without interruption, byte for byte.
    """

    moment: float
    found: str
    psnr: float
    same: bool


class KilledTraining:
    """Runs the training of `kill_script.py` in a folder of its own.

    Args:
        folder: Empty.
        ranks: 1: without mpirun.
    """

    def __init__(self, folder: Path, ranks: int = 1):
        self._folder, self._ranks = folder, ranks
        self.model, self._begun = folder / "models" / "m.apmgsrn", folder / "begun"
        self.model.parent.mkdir()
        begin = time.time()
        self.run()
        self.seconds = time.time() - max(self._begun.stat().st_mtime, begin)
        self.whole = self.model.read_bytes()
        self.psnr = self._measured()

    def run(self) -> None:
        """To the end; nothing but the model is left. AssertionError when that fails."""
        process = self._start()
        _, told = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, told
        assert os.listdir(self.model.parent) == [self.model.name], os.listdir(self.model.parent)

    def killed(self, moment: float, older: bytes = b"") -> Kill | None:
        """Kill it so many seconds after its begin, and start it again; None: it was over before.

        Args:
            older: What the file holds before; b"": there is none.
        """
        self._prepare(older)
        process = self._start()
        end = time.time() + LIMIT
        while not self._begun.exists() and time.time() < end:
            time.sleep(0.002)
        time.sleep(max(self._begun.stat().st_mtime + moment - time.time(), 0))
        over = process.poll() is not None
        _end_session(process)
        return None if over else self._resumed(moment, older)

    def killed_before(self, call: int, older: bytes = b"") -> Kill | None:
        """The same where the training kills itself before a change of a file, see `kill_script.py`."""
        self._prepare(older)
        process = self._start(str(call))
        process.communicate(timeout=LIMIT)
        _end_session(process)
        return None if process.returncode == 0 else self._resumed(float(call), older)

    def _prepare(self, older: bytes) -> None:
        self._begun.unlink(missing_ok=True)
        self.model.unlink(missing_ok=True)
        if older:
            self.model.write_bytes(older)

    def _resumed(self, moment: float, older: bytes) -> Kill:
        found = self._found(older)
        self.run()
        return Kill(moment, found, self._measured(), self.model.read_bytes() == self.whole)

    def _found(self, older: bytes) -> str:
        """What a kill has left. AssertionError: something else than the older file, none, or the whole new one."""
        folder = Path(f"{self.model}.training")
        names = os.listdir(folder) if folder.exists() else []
        kinds = {ending: sum(name.endswith(ending) for name in names) for ending in (".part", ".state")}
        found = f"{kinds['.part']} bricks, {kinds['.state']} checkpoints"
        if not self.model.exists():
            assert not older
            return found
        data = self.model.read_bytes()
        assert data in (older, self.whole)
        ModelFile(self.model).check_sections()
        return f"{found}, {'the older model' if data == older else 'the model'}"

    def _measured(self) -> float:
        return psnr(wave(DIMS)[0], NeuralVolume.open(self.model, "cpu").reconstruct())

    def _start(self, *more: str) -> subprocess.Popen:
        """In a session of its own, so that all its processes are known."""
        command = [sys.executable, "-m", "mpi4py", str(HERE / "kill_script.py"), str(self.model), str(self._begun), *more]
        if self._ranks > 1:
            command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(self._ranks), *command]
        return subprocess.Popen(
            command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )


def _end_session(process: subprocess.Popen) -> None:
    """kill -9 to all processes of the session that it leads, and wait until they are gone."""
    end = time.time() + LIMIT
    while (members := _members(process.pid)) and time.time() < end:
        for member in members:
            try:
                os.kill(member, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.poll()
        time.sleep(0.01)
    assert not members
    process.communicate(timeout=LIMIT)


def _members(session: int) -> list[int]:
    """The processes of a session that live."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


def older_model() -> bytes:
    """Another model, which lies there before a training."""
    values, grid = wave(DIMS)
    result = train_volume(values, grid, model=MODEL, train=tiny(), bricks=BRICKS, key="older", on_progress=lambda state: True)
    return result.to_bytes()


def kill_at_random(folder: Path, ranks: int, count: int, seed: int) -> tuple[KilledTraining, list[Kill]]:
    """Kill a training at so many random moments, each time anew; every second time an older model lies there."""
    training, moments, older = KilledTraining(folder, ranks), random.Random(seed), older_model()
    kills: list[Kill] = []
    while len(kills) < count:
        kill = training.killed(moments.uniform(0, training.seconds), older if len(kills) % 2 else b"")
        if kill is not None:
            kills.append(kill)
            print(len(kills), kill, flush=True)  # a long run shows how far it is
    return training, kills


def kill_in_last_writes(folder: Path, every: int = 1) -> tuple[KilledTraining, list[Kill]]:
    """Kill a training before each of its last changes of files (or each so many-th), see `kill_script.py`."""
    training, older = KilledTraining(folder), older_model()
    kills: list[Kill] = []
    while (kill := training.killed_before(1 + every * len(kills), older)) is not None:
        kills.append(kill)
    return training, kills
