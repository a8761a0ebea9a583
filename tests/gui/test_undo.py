"""Undo and Redo in ParaView's window: the panel follows, nothing is trained twice, what was deleted comes back."""

from __future__ import annotations

import re
import shutil

import pytest
from test_walk import N, wave
from test_window import HERE, play, told

from apmgsrn_core import Grid, ModelConfig, TrainConfig, train_volume
from apmgsrn_core.command_line.image_data_file import image_data_text

pytestmark = [
    pytest.mark.gui,
    *(pytest.mark.skipif(not shutil.which(tool), reason=f"{tool} not found") for tool in ("paraview", "xvfb-run")),
]


def test_undo_and_redo(tmp_path):
    grid = Grid((N, N, N), (0, 0, 0), (0.1, 0.1, 0.1))
    data, trained, saved = (tmp_path / name for name in ("wave.vti", "trained.apmgsrn", "saved.apmgsrn"))
    data.write_bytes(image_data_text({"wave": wave(0.0)}, grid))
    model = ModelConfig(number_of_grids=4, grid_resolution=(6, 6, 6), hidden_width=16)
    train = TrainConfig(iterations=60, batch_size=2000)
    train_volume(wave(0.0), grid, name="wave", model=model, train=train, device="cpu").save(saved)

    result = play(HERE / "undo.xml", tmp_path, DATA=str(data), TRAINED=str(trained), MODEL=str(saved))
    assert result.returncode == 0, result.stdout + result.stderr
    assert told(result) == []
    assert re.findall(r"iteration (\d+) of \1,", result.stdout) == ["60", "90"], result.stdout
