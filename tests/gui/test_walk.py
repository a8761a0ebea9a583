"""The whole way through ParaView's window by menus and buttons, and a second session that loads its state."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from test_window import HERE, play, told

from apmgsrn_core import Grid, ModelConfig, NeuralVolume, TrainConfig, read_header, train_series
from apmgsrn_core.command_line.image_data_file import image_data_text

WAIT = '  <pqcheck object="@PANEL@/Live/CheckBox" property="checked" arguments="true"/>\n' * 40  # nothing, for some seconds
N = 64

pytestmark = [
    pytest.mark.gui,
    *(pytest.mark.skipif(not shutil.which(tool), reason=f"{tool} not found") for tool in ("paraview", "xvfb-run")),
]


def wave(time: float) -> np.ndarray:
    z, y, x = np.meshgrid(*[np.linspace(0, 3, N)] * 3, indexing="ij")
    return (np.sin(2 * x + time) + np.cos(2 * y) * z).astype(np.float32)


def test_from_data_to_a_state_and_back(tmp_path):
    grid = Grid((N, N, N), (0, 0, 0), (0.1, 0.1, 0.1))
    data, saved, series, state = (tmp_path / name for name in ("wave.vti", "saved.apmgsrn", "series.apmgsrn", "walk.pvsm"))
    data.write_bytes(image_data_text({"wave": wave(0.0)}, grid))
    model = ModelConfig(number_of_grids=4, grid_resolution=(6, 6, 6), hidden_width=16)
    steps = ((time, wave(time)) for time in (0.0, 0.5, 1.0))
    train = TrainConfig(iterations=60, batch_size=2000)
    assert len(list(train_series(steps, grid, name="wave", model=model, train=train, path=series, device="cpu"))) == 3

    for session in ("first", "second"):
        (tmp_path / session).mkdir()
    walk = tmp_path / "walk.xml"
    walk.write_text((HERE / "walk.xml").read_text().replace("@WAIT@\n", WAIT))
    result = play(walk, tmp_path / "first", DATA=str(data), SAVED=str(saved), SERIES=str(series), STATE=str(state))
    assert result.returncode == 0, result.stdout + result.stderr
    assert told(result) == []
    assert read_header(saved).key, "of a training that came to its end"
    errors = NeuralVolume.open(saved, "cpu").reconstruct() - wave(0.0)
    assert np.sqrt((errors**2).mean()) < 0.05 * np.ptp(wave(0.0))

    result = play(HERE / "load_state.xml", tmp_path / "second", STATE=str(state))
    assert result.returncode == 0, result.stdout + result.stderr
    assert told(result) == []
