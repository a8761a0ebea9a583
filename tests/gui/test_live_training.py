"""Live training in ParaView's window: pictures change by themselves, the mouse turns them meanwhile, Pause holds and saves."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from test_neural_rendering import LIMIT, STILL, WRONG, Screen, view_in
from test_window import HERE, ROOT, filled_in

from apmgsrn_core import NeuralVolume, Picture, read_header

SAMPLE = ROOT / "examples" / "data" / "tgv_re800_t9_vortmag_128.vti"
WAIT = '  <pqcheck object="@PANEL@/Live/CheckBox" property="checked" arguments="true"/>\n'  # nothing, for a while

pytestmark = [
    pytest.mark.gui,
    *(pytest.mark.skipif(not shutil.which(tool), reason=f"{tool} not found") for tool in ("paraview", "Xvfb", "xdotool")),
]


def save(screen: np.ndarray, path: Path) -> None:
    rgba = np.concatenate([screen[::-1], np.full_like(screen[..., :1], 255)], axis=2).astype(np.float32) / 255
    Picture(rgba, rgba[..., 0], 0).save(path)


def share_of_blue(view: np.ndarray) -> float:
    """Of the slice, whose values are low nearly everywhere: blue, and dark blue in 6.1."""
    red, _, blue = (view[..., c].astype(int) for c in range(3))
    return float(((blue > 80) & (blue > red + 60)).mean())


def background(view: np.ndarray) -> np.ndarray:
    """[h, w] bool: where there is nothing. Training changes the colours of the slice, the mouse its outline."""
    return (view == view[2, 2]).all(axis=2)


class Film:
    """What the view shows, picture by picture as it changes."""

    def __init__(self, screen: Screen):
        self._screen, self.whole, self.changed_at = screen, None, time.time()
        self.view = np.zeros((1, 1, 3), np.uint8)

    def next(self, wait: float) -> bool:
        """Wait for another picture; whether there is one."""
        end = time.time() + wait
        while time.time() < end:
            self.whole = self._screen.look()
            view = view_in(self.whole)
            if view is not None and (view.shape != self.view.shape or (view != self.view).any()):
                self.view, self.changed_at = view, time.time()
                return True
            time.sleep(0.05)
        return False


def watch(film: Film, ready, limit: float = LIMIT) -> None:
    """Until the view is as it should be."""
    end = time.time() + limit
    while not ready(film.view):
        film.next(1.0)
        assert time.time() < end, "not there in time"


@contextmanager
def server_of_two_ranks(folder: Path):
    """Its name; what it says is in server.log."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    log = folder / "server.log"
    own_screen = 'xvfb-run -a -s "-screen 0 800x600x24 -noreset"'
    command = f'source "{ROOT}/plugin/env.sh" && exec {own_screen} mpirun -np 2 pvserver --server-port={port}'
    with open(log, "w") as file:
        process = subprocess.Popen(["bash", "-c", command], stdout=file, stderr=file, start_new_session=True)
    try:
        end = time.time() + LIMIT
        while "Accepting connection" not in log.read_text():
            assert process.poll() is None and time.time() < end, log.read_text()
            time.sleep(0.2)
        yield f"cs://localhost:{port}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(params=["one process", "a server of two ranks"])
def screen(tmp_path, request):
    apart = request.param != "one process"
    if apart and not shutil.which("mpirun"):
        pytest.skip("mpirun not found")
    places = {"SAMPLE": str(SAMPLE), "MODEL": str(tmp_path / "m.apmgsrn"), "WAIT": WAIT * (20 if apart else 40)}
    events = filled_in(HERE / "live_training.xml", tmp_path, **places)
    with server_of_two_ranks(tmp_path) if apart else nullcontext("") as server:
        screen = Screen(tmp_path, events, server)
        yield screen
        screen.close()
    folder = os.environ.get("APMGSRN_SCREENSHOTS")
    for name, taken in screen.photographs.items():
        save(taken, (Path(folder) if folder else tmp_path) / f"{name}{', remote' if apart else ''}.png")


def test_start_turn_and_pause(screen, tmp_path):
    film = Film(screen)
    watch(film, lambda view: share_of_blue(view) > 0.1)
    screen.photographs["live, started"] = film.whole
    changes = sum(film.next(8.0) for _ in range(3))
    assert changes == 3  # by itself
    screen.photographs["live, training"] = film.whole
    before = film.view
    start = time.time()
    screen.drag((700, 500), (100, 40))
    watch(film, lambda view: (background(view) != background(before)).mean() > 0.02, 8.0)
    assert time.time() - start < 9.0  # the drag itself takes half a second
    screen.photographs["live, turned"] = film.whole
    while film.next(4 * STILL):
        pass
    screen.photographs["live, paused"] = film.whole
    log = screen.log.read_text()
    if (tmp_path / "server.log").exists():
        log += (tmp_path / "server.log").read_text()
    assert "Success =  true" in log, log[-3000:]
    assert [line for line in log.splitlines() if any(sign in line for sign in (*WRONG, "TrainNeuralVolume:"))] == []
    assert read_header(tmp_path / "m.apmgsrn").key == ""  # of a training that is not at its end
    assert np.isfinite(NeuralVolume.open(tmp_path / "m.apmgsrn", "cpu").reconstruct()).all()
    assert list((tmp_path / "m.apmgsrn.training").glob("*.state"))
