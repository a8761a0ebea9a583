"""Equal input and settings, equal key; anything else, another key."""

import numpy as np
import pytest
from volumes import wave

from apmgsrn_core import ArraySpec, Grid, ModelConfig, ModelFileError, TrainConfig, training_key
from apmgsrn_core.training.fingerprint import content_hash

VALUES, GRID = wave()
BASE = {"values": VALUES, "grid": GRID, "arrays": (ArraySpec("f"),), "model": ModelConfig(), "train": TrainConfig()}


def test_equal_input_equal_key():
    assert training_key(**BASE) == training_key(**{**BASE, "values": VALUES.copy()})
    assert training_key(**BASE) == training_key(**{**BASE, "values": content_hash(VALUES)})
    assert training_key(**BASE) == training_key(**{**BASE, "train": TrainConfig(batch_size=5000)})


@pytest.mark.parametrize(
    "change",
    [
        {"values": VALUES + np.float32(1)}, {"values": VALUES.astype("float64")}, {"arrays": (ArraySpec("g"),)}, {"arrays": (ArraySpec("f", transform="log"),)}, {"time": 1.0},
        {"grid": Grid((9, 8, 7), spacing=(1, 1, 2))}, {"model": ModelConfig(hidden_width=8)},
        {"train": TrainConfig(seed=1)}, {"train": TrainConfig(stop_psnr=30)}, {"initial": b"model"},
    ],
)  # fmt: skip
def test_any_change_changes_the_key(change):
    assert training_key(**{**BASE, **change}) != training_key(**BASE)


def test_slabs_and_strides_do_not_matter(monkeypatch):
    values = np.arange(6000, dtype=np.int32).reshape(20, 15, 20)
    whole = content_hash(values)
    monkeypatch.setattr("apmgsrn_core.training.fingerprint.CHUNK_VALUES", 700)
    assert content_hash(values) == whole
    doubled = np.repeat(values, 2, axis=2)[:, :, ::2]
    assert not doubled.flags.c_contiguous and content_hash(doubled) == whole


def test_a_missing_initial_model_is_named(tmp_path):
    with pytest.raises(ModelFileError, match="gone.apmgsrn"):
        training_key(**BASE, initial=tmp_path / "gone.apmgsrn")
