"""Macrocells: bounds on random values, leaps against a walk from sample to sample, bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from volumes import tiny, trained_wave, wave

from apmgsrn_core import Grid, ModelConfig, ModelFile, ModelFileError, TrainConfig, VolumeRenderer, rendered_array, train_series, train_volume
from apmgsrn_core.brick_layout import BrickLayout
from apmgsrn_core.rendering.camera import Camera
from apmgsrn_core.command_line.image_data_file import read_image_data
from apmgsrn_core.rendering.macrocells import REACH, SLACK, Macrocells, VisibleCells, distances
from apmgsrn_core.rendering.ray_field import NetworkField, RayField, open_field
from apmgsrn_core.rendering.stored_macrocells import SHARE, macrocell_records, pack_macrocells
from apmgsrn_core.rendering.transfer_function import TransferFunction

TURBULENCE = Path(__file__).parent.parent / "examples/data/tgv_re800_t9_vortmag_128.vti"


@pytest.mark.slow
@pytest.mark.parametrize("association, stretched", [("point", False), ("cell", False), ("point", True)])
@pytest.mark.parametrize("counts", [(1, 1, 1), (2, 3, 5), (8, 7, 9), None])
def test_random_values_are_in_the_range_of_their_cell(association, stretched, counts):
    field = open_field(trained_wave(association, stretched))
    cells = Macrocells.of_field(field, counts)
    points = torch.rand(200_000, 3, generator=torch.Generator().manual_seed(3))
    number = VisibleCells(cells, np.ones(cells.low.shape, bool), "cpu").number_of(points).numpy()
    place = np.minimum((points.numpy() * cells.counts).astype(int), np.array(cells.counts) - 1)
    assert (number == np.ravel_multi_index(place.T[::-1], cells.low.shape)).all()
    values = field.values(points).numpy()
    assert (values >= cells.low.ravel()[number]).all() and (values <= cells.high.ravel()[number]).all()


def test_ranges_are_narrow_where_the_values_are():
    values = np.zeros((9, 9, 9), np.float32)
    values[:4] = 1
    cells = Macrocells.of_lattice(values, Grid((9, 9, 9)), (2, 2, 4))
    assert cells.low.shape == (4, 2, 2)
    assert (cells.low[0] == 1).all() and (cells.high[0] == 1).all()
    assert (cells.low[3] == 0).all() and (cells.high[3] == 0).all()
    assert (cells.low[1] <= 0).all() and (cells.high[1] >= 1).all()


def test_cells_without_values_are_empty_and_never_seen():
    values = np.full((7, 8, 9), np.nan, np.float32)
    values[:, :, 5:] = 0.5
    cells = Macrocells.of_lattice(values, Grid((9, 8, 7)), (8, 2, 2))
    assert (cells.low[:, :, :4] > cells.high[:, :, :4]).all()
    assert (cells.low[:, :, 5:] == 0.5).all()
    function = TransferFunction([0, 1], np.ones((2, 3)), [1, 1])
    least, most = cells.opacities(function, RayField(trained_wave()))
    assert (most[:, :, :4] == 0).all() and (most[:, :, 5:] == 1).all() and (least[:, :, 5:] == 1).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 8, 9), (3, 40, 2)])
def test_distances_are_those_of_a_search(shape):
    visible = np.random.default_rng(1).uniform(size=shape) < 0.02
    visible.flat[0] = True
    cells = np.stack(np.indices(shape), axis=-1).reshape(-1, 3)
    to_all = np.abs(cells[:, None] - np.argwhere(visible)).max(axis=2).min(axis=1)
    assert (distances(visible).ravel() == np.minimum(to_all, REACH)).all()
    assert (distances(np.zeros(shape, bool)) == REACH).all()


def test_a_leap_stops_where_a_walk_does():
    generator = np.random.default_rng(5)
    visible = generator.uniform(size=(7, 8, 9)) < 0.05
    cells = VisibleCells(Macrocells(np.zeros(visible.shape), np.ones(visible.shape)), visible, "cpu")
    start = torch.tensor(generator.uniform(0, 1, (3000, 3)), dtype=torch.float32)
    along = torch.tensor(generator.normal(size=(3000, 3)) * 0.01, dtype=torch.float32)
    along[:500, 0], along[500:700, 1:] = 0, 0
    jump = cells.steps_out(start, along)
    assert ((jump == 0) == cells.visible[cells.number_of(start)]).all()
    for k in range(int(jump[jump < 100].max())):  # rays that stay inside for longer have left the box
        points = start + k * along
        inside = ((points >= 0) & (points <= 1)).all(dim=1) & (k < jump)
        assert not cells.visible[cells.number_of(points)][inside].any()
    far = (jump > 1).float().mean()
    assert far > 0.5, "leaps of one step only skip nothing"


@pytest.mark.parametrize("counts, levels", [((1, 1, 1), 255), ((7, 8, 9), 255), ((7, 8, 9), 15), ((7, 8, 9), 1)])
def test_bytes_give_ranges_that_hold_the_ranges(counts, levels):
    generator = np.random.default_rng(2)
    low = generator.normal(size=counts[::-1]).astype(np.float32)
    cells = Macrocells(low, low + generator.uniform(0, 2, low.shape).astype(np.float32))
    if low.size > 1:
        cells.low[0, 0, 0], cells.high[0, 0, 0] = np.inf, -np.inf
    data = cells.to_bytes(levels)
    found = Macrocells.from_bytes(data, "section")
    level = (cells.high[np.isfinite(cells.high)].max() - cells.low[np.isfinite(cells.low)].min()) / levels * 1.001 + 1e-6
    assert found.counts == counts
    assert (found.low <= cells.low + 1e-6).all() and (found.high >= cells.high - 1e-6).all()
    there = np.isfinite(cells.low)
    assert (np.isfinite(found.low) == there).all()
    assert (cells.low[there] - found.low[there]).max() <= level
    assert (found.high[there] - cells.high[there]).max() <= level


def test_constant_ranges_survive():
    cells = Macrocells(np.full((2, 2, 2), 0.25, np.float32), np.full((2, 2, 2), 0.25, np.float32))
    found = Macrocells.from_bytes(cells.to_bytes(), "section")
    assert (found.low <= 0.25).all() and (found.high >= 0.25).all() and (found.high - found.low <= 1).all()


@pytest.mark.parametrize(
    "damage, named",
    [
        (lambda d: d[:10], "at least 21"), (lambda d: b"\0" * 4 + d[4:], "counts"), (lambda d: d[:21] + b"x" * 9, "damaged"),
        (lambda d: d[:-9], "bytes"), (lambda d: b"\x0a" + d[1:], "expected 1120"), (lambda d: b"\x06" + d[1:], "expected 672"),
        (lambda d: d[:12] + b"\0" + d[13:], "0 levels"),
        (lambda d: d[:13] + np.array([np.nan, 1], "<f4").tobytes() + d[21:], "range"),
    ],
)  # fmt: skip
def test_damaged_bytes_are_named(damage, named):
    data = Macrocells(np.zeros((7, 8, 9), np.float32), np.random.default_rng(0).uniform(0, 1, (7, 8, 9)).astype("f4")).to_bytes()
    with pytest.raises(ModelFileError, match=named) as error:
        Macrocells.from_bytes(damage(data), "section of brick 3")
    assert "section of brick 3" in str(error.value)


def test_the_field_of_a_network_is_that_of_the_volume():
    volume = trained_wave()
    network, twin = open_field(volume), RayField(volume)
    assert isinstance(network, NetworkField)
    points = torch.rand(5000, 3, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(network.values(points), twin.values(points), atol=1e-5)
    slopes, others = network.gradients(points), twin.gradients(points)
    cosine = torch.nn.functional.cosine_similarity(slopes, others, dim=1)
    assert (cosine[others.norm(dim=1) > 1e-3 * others.norm(dim=1).max()] > 0.999).float().mean() > 0.999


@pytest.mark.parametrize("association, stretched", [("point", False), ("cell", False), ("point", True)])
def test_stored_ranges_hold_the_values(association, stretched):
    volume = trained_wave(association, stretched)
    field, network = open_field(volume), volume.network(0)
    data = pack_macrocells(network, volume.grid, volume.arrays, 1 << 20)
    (record,) = macrocell_records(data, 1, "section")
    cells = Macrocells.from_bytes(record, "section")
    points = torch.rand(100_000, 3, generator=torch.Generator().manual_seed(3))
    number = VisibleCells(cells, np.ones(cells.low.shape, bool), "cpu").number_of(points).numpy()
    values = field.values(points).numpy()
    assert (values >= cells.low.ravel()[number] - 1e-6).all() and (values <= cells.high.ravel()[number] + 1e-6).all()
    assert len(data) <= SHARE * (1 << 20) and pack_macrocells(network, volume.grid, volume.arrays, 100) is None


def test_a_model_keeps_its_macrocells_and_a_renderer_takes_them():
    values, grid = wave((33, 32, 31))
    result = train_volume(values, grid, train=tiny(), model=ModelConfig(8, 2, (16, 16, 16)))
    volume = result.volume
    cells = volume.macrocells()
    assert cells is not None and VolumeRenderer(volume).cells.counts == cells.counts
    assert len(ModelFile(result.model).read_section()["macrocells"]) <= SHARE * len(result.model)
    renderer = VolumeRenderer(volume)
    assert not renderer.sharp and renderer.sharpen() and renderer.sharp
    assert renderer.cells is not cells and (renderer.cells.high <= cells.high.max() + 1e-5).all()
    assert np.isfinite(volume.sample_points(np.array([[1.0, 2.0, 3.0]]))).all()


def test_ranges_are_sharpened_in_slices_when_it_pays():
    values, grid = wave((33, 32, 31))
    volume = train_volume(values, grid, train=tiny(), model=ModelConfig(8, 2, (16, 16, 16))).volume
    renderer, camera = VolumeRenderer(volume), Camera.looking_at(grid.bounds, 30, 20, (63, 65))
    fog = TransferFunction([0, 255], np.ones((2, 3)), [0.01, 0.01])
    assert not renderer.worth_sharpening
    first, pictures = renderer.render(camera, fog), 1
    while not renderer.worth_sharpening:
        renderer.render(camera, fog)
        pictures += 1
    assert renderer.samples == pictures * first.samples > 63 * 61 * 65
    slices = 1
    while not renderer.sharpen(1e-4):
        slices += 1
    assert slices > 3 and not renderer.worth_sharpening and renderer.sharpen(0)
    whole = Macrocells.of_field(renderer.field)
    assert np.array_equal(renderer.cells.low, whole.low) and np.array_equal(renderer.cells.high, whole.high)


def values_and_their_cells(volume, cells, count, field=None):
    """Random values, and the lowest and the highest that their cells say."""
    points = torch.rand(count, 3, generator=torch.Generator().manual_seed(3))
    number = VisibleCells(cells, np.ones(cells.low.shape, bool), "cpu").number_of(points).numpy()
    return open_field(volume, field).values(points).numpy(), cells.low.ravel()[number], cells.high.ravel()[number]


@pytest.mark.slow
@pytest.mark.parametrize("association, stretched", [("point", False), ("cell", False), ("point", True)])
@pytest.mark.parametrize("bricks, ghosts", [((2, 1, 1), 0), ((2, 2, 2), 1)])
def test_bricks_keep_their_own_and_make_those_of_the_volume(association, stretched, bricks, ghosts):
    _, grid = wave((25, 23, 21), association=association, spacing=(0.5, 1.0, 0.8), origin=(3, -1, 2))
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in grid.value_dims[::-1]), indexing="ij")
    values = np.exp(-2 * (x**2 + y**2 + z**2)).astype(np.float32)
    if stretched:
        grid = Grid.stretched([np.cumsum(np.linspace(0.3, 0.7, n)).tolist() for n in grid.dims])
    model = ModelConfig(8, 2, (8, 8, 8))
    volume = train_volume(values, grid, train=tiny(), model=model, bricks=BrickLayout(grid.value_dims, bricks, ghosts, ghosts + 1)).volume
    assert volume.layout.count > 1
    cells = volume.macrocells()
    sampled = Macrocells.of_field(open_field(volume))
    assert cells.counts == VolumeRenderer(volume).cells.counts == sampled.counts
    found, low, high = values_and_their_cells(volume, cells, 100_000)
    assert (found >= low - 1e-6).all() and (found <= high + 1e-6).all()
    assert (cells.high - cells.low).mean() < 2 * (sampled.high - sampled.low).mean()


def test_a_blend_of_vectors_can_be_shorter_than_each():
    values, grid = wave((9, 8, 7))
    turned = np.stack([values, values * np.sign(np.arange(9) - 4), 0 * values], axis=3)
    volume = train_volume(turned, grid, train=tiny(), model=ModelConfig(8, 2, (8, 8, 8)), bricks=(2, 1, 1)).volume
    found, low, high = values_and_their_cells(volume, volume.macrocells(), 100_000)
    assert (found >= low - 1e-6).all() and (found <= high + 1e-6).all()


@pytest.mark.long
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("bricks", [(1, 1, 1), (2, 2, 2)])
def test_of_ten_million_values_none_that_can_be_seen_is_skipped(stored, bricks):
    arrays, grid = read_image_data(TURBULENCE)
    values = next(iter(arrays.values()))
    volume = train_volume(values, grid, train=TrainConfig(iterations=500), model=ModelConfig.preset("small"), bricks=bricks).volume
    cells = volume.macrocells() if stored else Macrocells.of_field(open_field(volume))
    missed = 0
    for _ in range(10):
        found, low, high = values_and_their_cells(volume, cells, 1_000_000)
        missed += int(((found < low - SLACK) | (found > high + SLACK)).sum())
    assert missed == 0, f"{missed} of 1e7"


def test_damaged_records_are_named():
    volume = trained_wave()
    data = pack_macrocells(volume.network(0), volume.grid, volume.arrays, 1 << 20)
    for damaged in (data[:3], data[:-5], np.append(data, data)):
        with pytest.raises(ModelFileError, match="macrocells"):
            macrocell_records(damaged, 1, "section")


def test_bricks_may_be_thinner_than_rounding():
    """A stretched axis of which each interval is twice as long as the one before; of four bricks the first ones are nowhere."""
    axes = [np.cumsum(2.0 ** np.arange(41)).tolist(), *(np.arange(n, dtype=float).tolist() for n in (9, 8))]
    values = wave((41, 9, 8))[0]
    volume = train_volume(values, Grid.stretched(axes), train=tiny(), model=ModelConfig(4, 2, (4, 4, 4)), bricks=(4, 1, 1)).volume
    cells = volume.macrocells()
    assert (cells.low <= cells.high).all() and np.isfinite(cells.low).all()


def test_what_is_rendered_has_the_range_of_its_step_and_of_the_magnitude():
    values, grid = wave((9, 8, 7))
    vectors = np.stack([values, -values, 0 * values], axis=3) - 10
    steps = [(0.0, 1e-3 * vectors), (1.0, vectors)]
    for result in train_series(steps, grid, name="v", model=ModelConfig(4, 2, (4, 4, 4)), train=tiny(), on_progress=lambda s: True):
        volume = result.volume
    for time, (_, own) in zip((0.0, 1.0), steps):
        low, high = rendered_array(volume, "v", time).range
        assert low == 0 and np.linalg.norm(own, axis=3).max() <= high <= 2 * np.abs(own).max()
