"""What networks and residuals of a model within error bounds take."""

import numpy as np
import pytest
from apmgsrn_core import ArraySpec, DataError, TrainConfig, open_volume, train_volume
from apmgsrn_core.file.model_file import ModelFile
from apmgsrn_core.residual.shares import Shares
from foreign_networks import write_description
from volumes import tiny, wave


ARRAYS = (ArraySpec("a", 1, "float32"), ArraySpec("b", 1, "float32"))


@pytest.fixture(scope="module")
def half_constant():
    """Two bricks, of which the upper one is of one value; `a` is not bound, so that the lower one keeps its network."""
    values, grid = wave((17, 16, 30), components=2)
    values[14:] = (12.5, 55.0)
    train = tiny(error_bound_mode="absolute", error_bounds=(0.0, 0.5), rounding=0.02)
    return train_volume(values, grid, arrays=ARRAYS, train=train, bricks=(1, 1, 2))


def test_bricks_without_a_network_are_counted(half_constant):
    shares, file = half_constant.shares, ModelFile(half_constant.to_bytes())
    sections = [file.read_section(brick, 0) for brick in range(2)]
    assert (shares.bricks, shares.without_network, shares.bounds) == (2, 1, {"b": 0.5})
    assert shares.residuals == sum(len(section["residual"]) for section in sections)
    assert shares.networks == len(sections[0]["coded"])
    assert shares.networks + shares.residuals < file.size < shares.networks + shares.residuals + 5000
    assert str(shares) == (
        f"{shares.residuals} bytes of residuals, {shares.networks} bytes of networks, 1 of 2 bricks without a network"
    )


def test_noise_has_no_network():
    _, grid = wave((9, 8, 7))
    values = np.random.default_rng(0).uniform(0, 100, (7, 8, 9)).astype("float32")
    shares = train_volume(values, grid, train=tiny(error_bound=1e-3)).shares
    assert (shares.networks, shares.bricks, shares.without_network) == (0, 1, 1) and shares.residuals > values.size
    assert str(shares).endswith("0 bytes of networks, 1 of 1 brick without a network")


def test_models_that_are_not_bound_have_none():
    values, grid = wave((9, 8, 7))
    assert train_volume(values, grid, train=tiny()).shares is None


def test_of_one_time_step_or_of_all():
    values, grid = wave((9, 8, 7))
    first = train_volume(values, grid, train=tiny(error_bound=0.01), time=0.0, series=True)
    both = train_volume(2 * values, grid, train=tiny(error_bound=0.01), time=1.0, append=first.to_bytes())
    whole = Shares.of_file(ModelFile(both.to_bytes()))
    assert whole.residuals == first.shares.residuals + both.shares.residuals
    assert whole.networks == first.shares.networks + both.shares.networks and whole.without_network == 0
    assert whole.bounds == both.shares.bounds and whole.bounds["values"] == pytest.approx(2 * first.shares.bounds["values"])
    plain = train_volume(2 * values, grid, train=TrainConfig(iterations=20), time=1.0, append=first.to_bytes())
    assert plain.shares is None  # of its last step


def test_the_networks_alone_are_opened_of_model_files_only(half_constant, tmp_path):
    path = tmp_path / "m.apmgsrn"
    half_constant.save(path)
    assert open_volume(path, "cpu").bounded and not open_volume(path, "cpu", bounded=False).bounded
    foreign = write_description(tmp_path, {"kind": "torchscript", "file": "wave.pt"})
    with pytest.raises(DataError, match="wave.network.json: expected a model file"):
        open_volume(foreign, "cpu", trust=True, bounded=False)
