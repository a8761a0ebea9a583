"""Training for bytes: the size is met, the numbers are those of the rounded features, and it goes on after a break."""

import math
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes import wave

from apmgsrn_core import ConfigError, Grid, LatticeConfig, ModelConfig, NeuralVolume, TrainConfig, train_volume, usual_rate_bytes
from apmgsrn_core.bricks.storage import store_network
from apmgsrn_core.file.model_file import ModelFile
from apmgsrn_core.file.network_reader import read_network
from apmgsrn_core.network.model import Network
from apmgsrn_core.training import rate_term
from apmgsrn_core.training.rate_term import RateTerm
from apmgsrn_core.training.sampler import Batch

QUIET = {"on_progress": lambda state: True, "on_warning": lambda line: None, "device": "cpu"}
RATE = {"batch_size": 2000, "iterations": 500}


def rough(dims=(25, 24, 23), seed=0):
    """Values with structure of several sizes, and noise."""
    values, grid = wave(dims)
    z, y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in values.shape), indexing="ij")
    fine = 20 * np.sin(25 * x + 9 * y) * np.sin(17 * z) + np.random.default_rng(seed).normal(0, 2, values.shape)
    return (values + fine).astype(np.float32), grid


def train(values, grid, size, **settings):
    config = {**RATE, **{k: settings.pop(k) for k in list(settings) if k in TrainConfig.__dataclass_fields__}}
    return train_volume(values, grid, train=TrainConfig(rate_bytes=size, **config), **QUIET, **settings)


def coded_bytes(data: bytes) -> int:
    """Of the numbers of all bricks."""
    file = ModelFile(data)
    return sum(len(file.read_section(brick)["coded"]) for brick in range(file.header.layout.count))


# ---- the network --------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.integers(4000, 2_000_000), st.tuples(*[st.integers(64, 400)] * 3), st.integers(1, 20))
def test_lattices_for_bytes_are_about_as_fine_on_all_axes(size, dims, components):
    model = ModelConfig.of_bytes(size, dims, components)
    assert [x.features for x in model.lattices] == [min(components, 8) * n for n in (1, 2, 3, 6)][: len(model.lattices)]
    finest = model.lattices[0].resolution
    assert all(3 <= r <= n for r, n in zip(finest, dims)) and len(set(x.resolution for x in model.lattices)) == len(model.lattices)
    unbounded = [n / r for r, n in zip(finest, dims) if 6 <= r < n]
    assert max(unbounded, default=1) <= 1.2 * min(unbounded, default=1)
    if all(12 <= r < n for r, n in zip(finest, dims)):
        assert model.feature_parameters == pytest.approx(10.6 * (size - 2000), rel=0.25)


def test_lattices_of_flat_data():
    model = ModelConfig.of_bytes(5000, (400, 1, 301))
    assert all(x.resolution[1] == 1 for x in model.lattices)
    assert math.prod(model.lattices[0].resolution) == pytest.approx(8 * 3000, rel=0.1)
    assert model.fitted_to(Grid((400, 1, 301))).lattices == model.lattices


def test_a_share_of_the_numbers_makes_coarser_lattices():
    model = ModelConfig.of_bytes(50_000, (128, 128, 128))
    part = model.with_parameters(model.parameter_count() // 8)
    assert part.parameter_count() == pytest.approx(model.parameter_count() / 8, rel=0.15)
    assert [x.features for x in part.lattices] == [x.features for x in model.lattices]


def test_what_does_not_go_together_is_refused():
    for wrong in ({"placement": "published"}, {"rounding": 0}, {"rate_step": 0}, {"rate_noise": 2}, {"rate_bytes": -1}, {"stop_psnr": 30},
                  {"rate_bytes": 0, "rate_psnr": 30}):  # fmt: skip
        with pytest.raises(ConfigError):
            TrainConfig(**{"rate_bytes": 5000, **wrong})


# ---- the term -----------------------------------------------------------------------------------------


class Still:
    """A kernel that only counts."""

    @staticmethod
    def disturbed(features, step, seed):
        return torch.full_like(features, 1.0 if seed is None else 2.0)

    @staticmethod
    def add_bit_slopes(gradient, features, scales, step, weight):
        gradient.add_(features, alpha=weight)


def term(**settings):
    model = ModelConfig(0, lattices=(LatticeConfig((4, 4, 4), 1),), bias=True).with_components(1)
    config = TrainConfig(rate_bytes=3000, **settings).resolved(Grid((8, 8, 8)))
    network = Network(model, torch.Generator().manual_seed(0))
    network.features.grad = torch.zeros_like(network.features)
    return network, RateTerm(network, config, Still(), 100)


def test_the_network_has_its_own_features_again_after_a_step():
    network, rate = term(rate_noise=0.5)
    before = network.features.detach().clone()
    for progress, seen in ((0.1, 2.0), (0.9, 1.0)):
        rate.begin(progress, math.nan)
        assert float(network.features.detach()[0]) == seen
        rate.end()
        assert torch.equal(network.features, before)


def test_slopes_are_taken_where_the_noise_was_and_else_at_the_features():
    for progress, at in ((0.1, 2.0), (0.9, None)):
        network, rate = term(rate_noise=0.5)
        rate.begin(progress, math.nan)
        rate.end()
        expected = torch.full_like(network.features, at) if at else network.features.detach()
        torch.testing.assert_close(network.features.grad, expected * rate.price / 100)


@pytest.mark.parametrize("bits, rises", [(1e6, True), (1e2, False)])
def test_the_price_rises_while_the_network_is_too_large(bits, rises, monkeypatch):
    network, rate = term()
    monkeypatch.setattr(rate, "_expected_bits", lambda: bits)
    monkeypatch.setattr(rate, "_measure", lambda loss: None)
    monkeypatch.setattr(rate, "_other_bits", 0.0)
    prices = []
    for progress in np.linspace(0, 0.9, 60):
        rate.begin(float(progress), 0.01)
        rate.end()
        prices.append(rate.price)
    assert len(set(prices[:4])) == 1  # quiet at first
    assert (np.diff(prices) >= 0).all() if rises else (np.diff(prices) <= 0).all()
    assert prices[-1] > 1.3 * prices[0] if rises else prices[-1] < prices[0] / 1.3


def test_a_restored_term_goes_on_alike():
    network, rate = term()
    for progress in np.linspace(0, 0.5, 43):
        rate.begin(float(progress), 0.01)
        rate.end()
    other_network, other = term()
    other_network.load_state_dict(network.state_dict())
    other.restore(rate.state())
    for one in (rate, other):
        one.begin(0.6, 0.01)
    assert (rate.price, rate.bits) == (other.price, other.bits) and torch.equal(rate._scales, other._scales)


# ---- whole trainings ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("dims, size, iterations", [((33, 30, 31), 5000, 1200), ((40, 40, 40), 8000, 1000)])
def test_a_network_has_the_bytes_that_are_wanted(dims, size, iterations):
    values, grid = rough(dims)
    result = train(values, grid, size, iterations=iterations)
    assert coded_bytes(result.to_bytes()) == pytest.approx(size, rel=0.03)


@pytest.mark.slow
def test_it_is_better_than_placed_grids_of_the_same_file_size():
    values, grid = rough((40, 40, 40))
    compact = train(values, grid, 8000, iterations=1000)
    size = len(compact.to_bytes())
    model = ModelConfig.of_size(2000)
    while len(pack(model.with_parameters(model.parameter_count() + 300))) < size:
        model = model.with_parameters(model.parameter_count() + 300)
    placed = train_volume(values, grid, model=model, train=TrainConfig(iterations=1000, rounding=0), **QUIET)
    assert len(placed.to_bytes()) > 0.9 * size
    assert compact.psnr > placed.psnr + 1.0


def pack(model: ModelConfig) -> bytes:
    values, grid = wave((40, 40, 40))
    return train_volume(values, grid, model=model, train=TrainConfig(iterations=1, rounding=0), **QUIET).to_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("bricks", [(1, 1, 1), (2, 1, 1)])
def test_a_psnr_takes_no_more_bytes_than_it_needs(bricks):
    values, grid = rough((40, 40, 40))
    found = [train(values, grid, 24_000, rate_psnr=psnr, iterations=1200, bricks=bricks) for psnr in (24, 30, 0)]
    assert [r.psnr for r in found[:2]] == pytest.approx([24, 30], abs=0.8)
    sizes = [len(r.to_bytes()) for r in found]
    assert sizes[0] < 0.9 * sizes[1] and sizes[1] < 0.5 * sizes[2], (sizes, [r.psnr for r in found])
    assert NeuralVolume.from_bytes(found[0].to_bytes()).header.manifest["training"]["rate_psnr"] == 24


@pytest.mark.slow
def test_a_psnr_that_the_bytes_do_not_give_takes_them_all():
    values, grid = rough((40, 40, 40))
    found = [train(values, grid, 8000, rate_psnr=psnr, iterations=600) for psnr in (90, 0)]
    assert len(found[0].to_bytes()) == pytest.approx(len(found[1].to_bytes()), rel=0.02)


@pytest.mark.slow
def test_bricks_share_the_bytes():
    values, grid = rough((48, 24, 24))
    result = train(values, grid, 9000, bricks=(2, 1, 1), iterations=700)
    assert coded_bytes(result.to_bytes()) == pytest.approx(9000, rel=0.05)
    assert result.psnr > 30


@pytest.mark.parametrize("dims", [(8, 8, 8), (16, 15, 1)])
def test_tiny_data_is_learned_all_the_same(dims):
    values, grid = wave(dims)
    assert train(values, grid, usual_rate_bytes(values.nbytes, 1), iterations=300).psnr > 30
    with pytest.raises(ConfigError, match="size: expected at least 4000 bytes"):
        train(values, grid, 3000)


def test_without_a_size_each_brick_has_its_bytes_and_the_data_bounds_them():
    assert usual_rate_bytes(0, 1) == usual_rate_bytes(10**9, 1) == 160_000
    assert usual_rate_bytes(10**9, 64) == 64 * 160_000 and usual_rate_bytes(10**6, 2) == 125_000
    assert usual_rate_bytes(1000, 3) == 12_000


def test_time_steps_have_the_bytes_and_start_from_the_one_before():
    values, grid = rough((30, 28, 26))
    base, sizes = None, []
    for step in range(3):
        result = train(values + 3 * step, grid, 5000, iterations=700, series=True, time=float(step), append=base)
        base = result.to_bytes()
        sizes.append(len(ModelFile(base).read_section(0, step)["coded"]))
    assert [ModelFile(base).coder(0, step) for step in range(3)] == ["rounded", "delta", "delta"]
    assert sizes[0] == pytest.approx(5000, rel=0.08) and max(sizes[1:]) < 1.05 * sizes[0]


def test_features_are_whole_steps_in_the_file():
    values, grid = rough((16, 15, 14))
    result = train(values, grid, 4200, iterations=60)
    network = read_network(ModelFile(result.to_bytes()), 0, 1)
    numbers = network.features.detach().numpy() / TrainConfig().rate_step
    np.testing.assert_array_equal(numbers, np.rint(numbers))
    assert NeuralVolume.from_bytes(result.to_bytes(), "cpu").reconstruct().shape == values.shape


def test_it_is_trained_without_native_code_too(monkeypatch):
    monkeypatch.setenv("APMGSRN_KERNELS", "torch")
    values, grid = rough((16, 15, 14))
    result = train(values, grid, 4200, iterations=150)
    assert result.psnr > 22 and coded_bytes(result.to_bytes()) < 1.3 * 4200


def test_rounding_becomes_finer_where_bytes_are_left():
    z, y, x = np.meshgrid(*[np.linspace(0, 1, 20)] * 3, indexing="ij")
    smooth, grid = (np.sin(3 * x) * np.cos(2 * y) + z).astype(np.float32), Grid((20, 20, 20))
    fine, coarse = (train(smooth, grid, 12_000, iterations=500, rate_step=step) for step in (1 / 16, 4))
    for result, most in ((fine, 1 / 16), (coarse, 4)):
        network = read_network(ModelFile(result.to_bytes()), 0, 1)
        numbers = network.features.detach().numpy().astype(np.float64)
        steps = [most / 2**k for k in range(12) if (numbers % (most / 2**k) == 0).all()]
        assert steps and steps[0] < most and coded_bytes(result.to_bytes()) <= 1.03 * 12_000
    assert coarse.psnr > 40


def test_the_same_training_gives_the_same_bytes():
    values, grid = rough((16, 15, 14))
    one, two = (train(values, grid, 4200, iterations=50).to_bytes() for _ in range(2))
    assert one == two != train(values, grid, 4200, iterations=50, seed=1).to_bytes()


def test_a_checkpoint_goes_on_bit_for_bit(tmp_path, monkeypatch):
    values, grid = rough((16, 15, 14))
    path = tmp_path / "m.apmgsrn"
    whole = train(values, grid, 4200, iterations=90).to_bytes()
    begun = RateTerm.begin

    def failing(self, progress, loss):
        if progress > 0.6:
            raise KeyboardInterrupt
        begun(self, progress, loss)

    monkeypatch.setattr(RateTerm, "begin", failing)
    with pytest.raises(KeyboardInterrupt):
        train(values, grid, 4200, iterations=90, path=path, checkpoint_interval=1e-9)
    assert list((tmp_path / "m.apmgsrn.training").glob("*.state"))
    monkeypatch.setattr(RateTerm, "begin", begun)
    first = []
    monkeypatch.setattr(RateTerm, "begin", lambda self, progress, loss: (first.append(progress), begun(self, progress, loss)))
    assert train(values, grid, 4200, iterations=90, path=path, checkpoint_interval=1e-9).to_bytes() == whole
    assert 0.5 < first[0] <= 0.62


def test_a_fine_network_of_placed_grids_can_be_trained_for_bytes_too():
    values, grid = rough((16, 15, 14))
    model = replace(ModelConfig.of_size(6000), lattices=(LatticeConfig((9, 9, 9), 1),))
    result = train(values, grid, 4000, iterations=300, model=model)
    assert len(result.to_bytes()) < 8000 and result.psnr > 20


def test_the_coder_is_asked_as_often_as_is_said(monkeypatch):
    asked = []
    monkeypatch.setattr(rate_term.RateTerm, "_measure", lambda self, loss: asked.append(loss))
    values, grid = rough((12, 12, 12))
    train(values, grid, 4200, iterations=100)
    assert len(asked) == len(rate_term.MEASURED_AT)


@pytest.mark.parametrize("share", [0.99, 0.95, 0.85])
def test_features_are_left_out_where_there_are_too_many_bytes(share):
    """As few as it takes, so that the bytes are met within three per cent."""
    network = Network(replace(ModelConfig.of_bytes(8000, (32, 31, 30)), output_components=1), torch.Generator().manual_seed(0))
    network.feature_step = 1 / 32
    with torch.no_grad():
        network.features.copy_(torch.randn(network.features.shape, generator=torch.Generator().manual_seed(1)) * network.feature_step)
    batch = Batch(torch.rand(500, 3) * 2 - 1, torch.zeros(500, 1), torch.ones(500, 1), np.zeros(500, dtype=np.int64))

    def stored(most: int) -> tuple[int, np.ndarray]:
        found = store_network(network, batch, 0.05, None, None, feature_step=network.feature_step, most_bytes=most)
        return len(safetensors.numpy.load(found.section)["coded"]), found.network.features.numpy()

    size, features = stored(0)
    fewer, left = stored(round(share * size))
    assert (fewer == size) if share > 0.98 else 0.97 * share * size <= fewer <= 1.03 * share * size
    kept = left != 0
    assert (left[kept] == features[kept]).all() and np.abs(features[~kept]).max() <= 2 * network.feature_step


def test_threads_of_torch_change_nothing():
    """They add up in as many parts as there are threads, in another order."""
    values, grid = wave((40, 40, 40))
    files = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            files.append(train(values, grid, 12_000, iterations=120).to_bytes())
    finally:
        torch.set_num_threads(threads)
    assert files[0] == files[1]
