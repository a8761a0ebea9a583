"""When grids stop moving, and how the learning rate falls."""

import pytest
import torch

from apmgsrn_core import Grid, TrainConfig
from apmgsrn_core.density_placement import DensityPlacement
from apmgsrn_core.history import History
from apmgsrn_core.schedule import make_schedule


def resolved(**settings):
    return TrainConfig(**settings).resolved(Grid((32, 32, 32)))


def optimizer():
    return torch.optim.Adam([torch.nn.Parameter(torch.zeros(3))], lr=0.01)


def test_cosine_goes_from_start_to_end():
    adam = optimizer()
    schedule = make_schedule(adam, resolved())
    rates = []
    for progress in (0.0, 0.25, 0.5, 0.75, 1.0):
        schedule.step(progress, torch.tensor(0.0), False)
        rates.append(adam.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.01) and rates[-1] == pytest.approx(1e-4)
    assert rates == sorted(rates, reverse=True) and rates[2] == pytest.approx(0.00505)


def test_a_small_learning_rate_does_not_rise():
    adam = torch.optim.Adam([torch.nn.Parameter(torch.zeros(3))], lr=1e-5)
    schedule = make_schedule(adam, resolved(learning_rate=1e-5))
    schedule.step(0.7, torch.tensor(0.0), False)
    assert adam.param_groups[0]["lr"] == pytest.approx(1e-5)


def test_plateau_acts_only_after_the_grids_converged_and_ends_the_training():
    adam = optimizer()
    schedule = make_schedule(adam, resolved(placement="published"))
    for _ in range(3000):
        schedule.step(0.5, torch.tensor(1.0), False)
    assert adam.param_groups[0]["lr"] == 0.01 and not schedule.finished
    steps = 0
    while not schedule.finished and steps < 5000:
        schedule.step(0.5, torch.tensor(1.0), True)
        steps += 1
    # patience 500, then cooldown 250 + patience 500 twice more: below 1 % after the third
    assert 1500 < steps < 2600


def test_grids_converge_when_two_windows_are_equally_good_twice_in_a_row():
    config = resolved(placement="published", density_window=10)
    density = DensityPlacement(torch.nn.Parameter(torch.eye(3, 4)[None]), config)
    for loss in range(40, 0, -1):
        density.record(float(loss))
        assert not density.converged
    for _ in range(18):
        density.record(1.0)
    assert not density.converged
    for _ in range(4):
        density.record(1.0)
    assert density.converged
    assert not density.active(0.5)


def test_grids_move_between_their_start_and_80_percent():
    density = DensityPlacement(torch.nn.Parameter(torch.eye(3, 4)[None]), resolved(placement="published"))
    moving = [i for i in (0, 500, 501, 7999, 8000, 9999) if density.active(History(10_000).progress(i))]
    assert moving == [501, 7999]


def test_transform_rate_is_halved_within_five_steps():
    transforms = torch.nn.Parameter(torch.eye(3, 4)[None].repeat(2, 1, 1))
    density = DensityPlacement(transforms, resolved(placement="published"))
    from apmgsrn_core.encoding import to_local

    points = torch.rand(64, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    rates = []
    for _ in range(7):
        rates.append(density._optimizer.param_groups[0]["lr"])
        density.step(to_local(transforms, points), torch.linspace(0.1, 1, 64))
    assert rates[0] == pytest.approx(5e-4) and rates[-1] == pytest.approx(2.5e-4)
    assert rates == sorted(rates, reverse=True)


def test_history_measures_progress_by_steps_or_time():
    history = History(100)
    assert history.progress(50) == 0.5
    history = History(10**9, time_budget=1e-9)
    assert history.progress(1) == 1.0
    history.add_loss(0.01)
    history.add_row(1, 0.01, 0.5)
    history.add_row(1, 0.001, 0.5)
    table = history.table()
    assert table["psnr"].tolist() == [30.0] and table["iteration"].tolist() == [1]
    assert "20.0 dB" in history.state(1, 0.5).message
