"""The neural rendering in ParaView's window, as a user sees it: photographed, turned with the mouse, photographed again.

The photographs are read from the virtual screen's own memory. Those of a test that fails are kept in its temporary folder,
and all in the folder APMGSRN_SCREENSHOTS when that is set.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from test_window import HERE, ROOT

from apmgsrn_core import Grid, ModelConfig, Picture, TrainConfig, train_volume

WRONG = ("ERR|", "ERROR:", "critical:", "Traceback", "RenderNeuralVolume:")  # in what ParaView writes
STILL, LIMIT = 1.5, 60.0  # seconds without a change, until a wait is given up
FRAME = 6  # pixels between the blue frame of the active view and what the view shows

pytestmark = [
    pytest.mark.gui,
    *(pytest.mark.skipif(not shutil.which(tool), reason=f"{tool} not found") for tool in ("paraview", "Xvfb", "xdotool")),
]


class Screen:
    """A virtual screen with ParaView on it that plays a file of events (.xml) or runs a script (.py).

    It is a client of a server where one is named.
    """

    def __init__(self, folder: Path, events: Path, server: str = ""):
        self.log, self._memory, self.photographs = folder / "paraview.log", folder / "Xvfb_screen0", {}
        read, write = os.pipe()
        options = ["-screen", "0", "1600x1000x24", "-noreset", "-nolisten", "tcp", "-fbdir", str(folder)]
        self._server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), *options], pass_fds=[write], stderr=subprocess.DEVNULL
        )
        os.close(write)
        with os.fdopen(read) as told:
            self._display = ":" + told.readline().strip()
        settings = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
        self._environment = {**os.environ, **settings, "DISPLAY": self._display}
        script = f"--{'script' if events.suffix == '.py' else 'test-script'}={events}"
        command = f'source "{ROOT}/plugin/env.sh" && exec paraview --dr {server and f"--url={server}"} "{script}"'
        with open(self.log, "w") as file:
            self._program = subprocess.Popen(
                ["bash", "-c", command], env=self._environment, stdout=file, stderr=file, start_new_session=True
            )

    def close(self) -> None:
        """End both."""
        if self._program.poll() is None:
            os.killpg(self._program.pid, signal.SIGKILL)
        self._program.wait()
        self._server.kill()
        self._server.wait()

    def look(self) -> np.ndarray:
        """[h, w, 3] uint8 of the whole screen, the row at the top first.

        Source: XWDFile.h of X11: words of 4 bytes, among them the header's length, width, height, bytes a line, colours.
        """
        data = np.fromfile(self._memory, np.uint8)
        words = data[:100].view(">u4")
        width, height, line = int(words[4]), int(words[5]), int(words[12])
        start = int(words[0]) + 12 * int(words[19])
        rows = data[start : start + line * height].reshape(height, line)
        return rows[:, : 4 * width].reshape(height, width, 4)[..., 2::-1].copy()

    def photograph(self, name: str, ready) -> np.ndarray:
        """[h, w, 3] of the view, once `ready(view)` holds and nothing has changed for a while."""
        end, seen, since = time.time() + LIMIT, None, time.time()
        while time.time() < end and self._program.poll() is None:
            screen = self.look()
            self.photographs[name] = screen
            if seen is None or not (screen == seen).all():
                seen, since = screen, time.time()
            view = view_in(screen)
            if view is not None and ready(view) and time.time() - since > STILL:
                return view
            time.sleep(0.1)
        pytest.fail(f"{name}: not there after {time.time() - end + LIMIT:.0f} s\n{self.log.read_text()[-3000:]}")

    def drag(self, start: tuple, way: tuple) -> None:
        """Press the left button at a place of the screen (x, y) and move the mouse."""
        moves = [f"mousemove_relative -- {way[0] // 10} {way[1] // 10} sleep 0.05" for _ in range(10)]
        self.act(f"mousemove {start[0]} {start[1]} mousedown 1 {' '.join(moves)} mouseup 1")

    def act(self, words: str) -> None:
        """What xdotool does with the mouse and the keys."""
        subprocess.run(["xdotool", *shlex.split(words)], env=self._environment, check=True, timeout=20)


def view_in(screen: np.ndarray) -> np.ndarray | None:
    """What is within the blue frame of the active view; None: there is none."""
    rows, columns = np.nonzero((screen == (0, 0, 255)).all(axis=2))
    if not len(rows) or np.ptp(rows) < 200 or np.ptp(columns) < 200:
        return None
    return screen[rows.min() + FRAME : rows.max() - FRAME, columns.min() + FRAME : columns.max() - FRAME]


def shares(view: np.ndarray) -> dict:
    """Pixels of the volume (white), the slice (blue) and the box (green), and of these two behind thin parts of the volume."""
    red, green, blue = (view[..., c].astype(int) for c in range(3))
    mixed = (red > 40) & (red < 215)
    return {
        "volume": (view.min(axis=2) > 180).sum(),
        "slice": ((red == 0) & (green == 0) & (blue == 255)).sum(),
        "box": ((red == 0) & (green == 255) & (blue == 0)).sum(),
        "slice behind": (mixed & (abs(red - green) < 9) & (blue > red + 40)).sum(),
        "box behind": (mixed & (abs(red - blue) < 9) & (green > red + 40)).sum(),
    }


@pytest.fixture
def screen(tmp_path, request):
    """The screen; the photographs are kept when the test fails."""
    x = np.linspace(-1, 1, 32)
    ball = 100 * np.exp(-4 * (x[:, None, None] ** 2 + x[:, None] ** 2 + x**2))
    model = ModelConfig(number_of_grids=4, grid_resolution=(8, 8, 8), hidden_width=16)
    train = TrainConfig(iterations=150, batch_size=4000)
    grid, path = Grid((32, 32, 32), (-1, -1, -1), (2 / 31,) * 3), tmp_path / "ball.apmgsrn"
    train_volume(ball.astype(np.float32), grid, name="ball", model=model, train=train, device="cpu").save(path)
    text = (HERE / "neural_rendering.xml").read_text()
    macro = ROOT / "plugin" / "macros" / "Show neural rendering.py"
    for name, place in (("MODEL", path), ("SCENE", HERE / "A slice and a box.py"), ("SHOW", macro)):
        text = text.replace(f"@{name}@", str(place))
    events = tmp_path / "events.xml"
    events.write_text(text)
    screen = Screen(tmp_path, events)
    failed = request.session.testsfailed
    yield screen
    screen.close()
    folders = [tmp_path] if request.session.testsfailed > failed else []
    folders += [Path(f) for f in [os.environ.get("APMGSRN_SCREENSHOTS")] if f]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for name, taken in screen.photographs.items():
            rgba = np.concatenate([taken[::-1], np.full_like(taken[..., :1], 255)], axis=2).astype(np.float32) / 255
            Picture(rgba, rgba[..., 0], 0).save(folder / f"{name}.png")


def test_the_macro_shows_the_volume_in_a_slice_and_a_box_and_the_mouse_turns_it(screen):
    before = screen.photograph("before", lambda view: min(shares(view).values()) > 0)
    screen.drag((700, 500), (100, 40))
    after = screen.photograph("after", lambda view: (view != before).any(axis=2).mean() > 0.05)
    for view in (before, after):
        found = shares(view)
        assert min(found["volume"], found["slice"], found["box"]) > 1000, found
        assert min(found["slice behind"], found["box behind"]) > 50, found
    wrong = [line for line in screen.log.read_text().splitlines() if any(sign in line for sign in WRONG)]
    assert wrong == []
