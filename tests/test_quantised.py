"""Single models whose numbers are rounded without being asked: what that saves and costs, and where it does not happen."""

import numpy as np
import pytest

from apmgsrn_core import ArraySpec, Grid, ModelConfig, NeuralVolume, TrainConfig, psnr, train_volume
from apmgsrn_core.file.model_file import ModelFile
from apmgsrn_core.training.history import psnr_of

MODEL = ModelConfig(24, 1, (6, 6, 6), hidden_width=16, bias=True)
GRID = Grid((33, 30, 27))
QUIET = {"on_progress": lambda state: True, "on_warning": lambda line: None, "device": "cpu"}


def rough(seed: int = 0) -> np.ndarray:
    """[z, y, x]: waves of all lengths, more of them than the network can hold."""
    random = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(0, 2 * np.pi, n) for n in GRID.dims[::-1]), indexing="ij")
    waves = random.normal(0, 3, (60, 3))
    phases = random.uniform(0, 2 * np.pi, 60)
    return sum(np.sin(a * x + b * y + c * z + p) for (a, b, c), p in zip(waves, phases)).astype(np.float32)


def train(values=None, model=MODEL, **settings):
    more = {k: settings.pop(k) for k in ("bricks", "arrays", "initial") if k in settings}
    config = TrainConfig(**{"iterations": 400, "batch_size": 2000, **settings})
    return train_volume(rough() if values is None else values, GRID, model=model, train=config, **more, **QUIET)


def coders(result) -> list[str]:
    return [section["coder"] for section in ModelFile(result.to_bytes()).header.manifest["sections"]]


def section_bytes(result) -> int:
    return sum(section["length"] for section in ModelFile(result.to_bytes()).header.manifest["sections"])


@pytest.fixture(scope="module")
def usual():
    return train()


def test_numbers_take_few_bits_and_cost_little(usual):
    """Against the same training whose numbers are hardly rounded, and one that keeps them."""
    exact, plain = train(rounding=1e-7), train(rounding=0.0)
    quality = [psnr(rough(), result.volume.reconstruct()) for result in (usual, exact, plain)]
    assert coders(usual) == ["rounded"] and coders(plain) == ["none"]
    assert 0.0 < quality[1] - quality[0] < 0.07  # 0.043 dB expected; how the steps are found is a first-order estimate
    assert quality[0] > quality[2] - 0.5  # another training: its features are kept small
    assert section_bytes(usual) < 0.5 * section_bytes(plain)
    assert ModelFile(usual.to_bytes()).header.manifest["training"]["rounding"] == 0.01


def test_files_of_numbers_as_they_are_stay_readable():
    """As every file of a single model was."""
    plain = train(rounding=0.0, iterations=20)
    assert ModelFile(plain.to_bytes()).header.manifest["requires"] == []
    tensors = ModelFile(plain.to_bytes()).read_section()
    assert tensors["features"].dtype == np.float16 and tensors["transforms"].dtype == np.float32
    network = NeuralVolume.from_bytes(plain.to_bytes(), "cpu").networks[0]
    np.testing.assert_array_equal(network.features.numpy(), tensors["features"].astype(np.float32))


def test_float32_and_refined_models_keep_their_numbers(usual):
    whole = train(model=ModelConfig(24, 1, (6, 6, 6), hidden_width=16, bias=True, storage="float32"), iterations=20)
    refined = train(initial=usual.to_bytes(), iterations=20, learning_rate=1e-4)
    assert coders(whole) == coders(refined) == ["none"]
    assert refined.psnr > usual.psnr - 1.0


def test_bricks_arrays_and_holes():
    values = np.stack([rough(), 100 * rough(1)], axis=3)
    values[:4, :5, :6] = np.nan
    arrays = (ArraySpec("a", 1, "float32"), ArraySpec("b", 1, "float32"))
    usual, plain = (train(values, bricks=(2, 1, 1), arrays=arrays, **own) for own in ({}, {"rounding": 0.0}))
    assert coders(usual) == ["rounded"] * 2 and len(usual.to_bytes()) < 0.6 * len(plain.to_bytes())
    for name, column in (("a", 0), ("b", 1)):
        found = NeuralVolume.from_bytes(usual.to_bytes(), "cpu").sample_region(field=name)
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(values[..., column]))
        assert usual.array_psnr[name] > plain.array_psnr[name] - 0.5


def test_a_psnr_that_is_wanted_is_that_of_the_stored_network():
    result = train(iterations=3000, stop_psnr=22.0, rounding=0.2)  # 0.8 dB
    assert result.stop_reason == "psnr reached"
    assert result.psnr > 22.0 - 0.05 and psnr_of(1.2) == pytest.approx(-0.79, abs=0.01)


def test_the_same_training_gives_the_same_bytes(usual):
    assert train().to_bytes() == usual.to_bytes()


def test_the_published_training_is_left_as_it_is():
    """But for what rounding itself does."""
    exact, plain = (train(placement="published", rounding=share, iterations=60, batch_size=1000) for share in (1e-7, 0.0))
    np.testing.assert_allclose(exact.volume.reconstruct(), plain.volume.reconstruct(), atol=1e-2)
    assert exact.history["loss"][-2] == plain.history["loss"][-2]  # the last row is that of the stored network
