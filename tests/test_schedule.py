"""When grids stop moving, and how the learning rate falls."""

import pytest
import torch

from apmgsrn_core import Grid, TrainConfig
from apmgsrn_core.training.density_placement import DensityPlacement
from apmgsrn_core.training.history import History
from apmgsrn_core.kernels import choose
from apmgsrn_core.training.optimizer import Adam, ParameterGroup
from apmgsrn_core.training.schedule import make_schedule

KERNEL = choose(torch.device("cpu"))


def resolved(**settings):
    return TrainConfig(**settings).resolved(Grid((32, 32, 32)))


def optimizer(rate=0.01):
    return Adam([ParameterGroup([torch.nn.Parameter(torch.zeros(3))], rate)], resolved(), KERNEL)


def density_placement(transforms=None, **settings):
    transforms = torch.nn.Parameter(torch.eye(3, 4)[None]) if transforms is None else transforms
    return DensityPlacement(transforms, resolved(placement="published", **settings), KERNEL)


def test_cosine_goes_from_start_to_end():
    adam = optimizer()
    schedule = make_schedule(adam, resolved(learning_rate=0.01))
    rates = []
    for progress in (0.0, 0.25, 0.5, 0.75, 1.0):
        schedule.step(progress, 0.0, False)
        rates.append(adam.groups[0].rate)
    assert rates[0] == pytest.approx(0.01) and rates[-1] == pytest.approx(1e-4)
    assert rates == sorted(rates, reverse=True) and rates[2] == pytest.approx(0.00505)


def test_a_small_learning_rate_does_not_rise():
    adam = optimizer(1e-5)
    schedule = make_schedule(adam, resolved(learning_rate=1e-5))
    schedule.step(0.7, 0.0, False)
    assert adam.groups[0].rate == pytest.approx(1e-5)


def test_plateau_acts_only_after_the_grids_converged_and_ends_the_training():
    adam = optimizer()
    schedule = make_schedule(adam, resolved(placement="published"))
    for _ in range(3000):
        schedule.step(0.5, 1.0, False)
    assert adam.groups[0].rate == 0.01 and not schedule.finished
    steps = 0
    while not schedule.finished and steps < 5000:
        schedule.step(0.5, 1.0, True)
        steps += 1
    # patience 500, then cooldown 250 + patience 500 twice more: below 1 % after the third
    assert 1500 < steps < 2600


def test_plateau_is_the_rule_of_torch():
    """The published schedule is torch's ReduceLROnPlateau of the mean of the last 1000 losses."""
    adam = optimizer()
    schedule = make_schedule(adam, resolved(placement="published"))
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    rule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        theirs, mode="min", factor=0.1, patience=500, threshold=1e-4, threshold_mode="rel", cooldown=250
    )
    losses = (torch.rand(6000, generator=torch.Generator().manual_seed(0)) + torch.linspace(3, 0, 6000) ** 3).tolist()
    for i, loss in enumerate(losses):
        schedule.step(0.5, loss, True)
        window = losses[max(i - 999, 0) : i + 1]
        rule.step(sum(window) / len(window))
        assert adam.groups[0].rate == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-9)


def test_adam_is_torchs():
    ours = [torch.nn.Parameter(torch.linspace(-1, 1, n)) for n in (5, 17)]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    adam = Adam([ParameterGroup([ours[0]], 0.01), ParameterGroup([ours[1]], 0.001)], resolved(), KERNEL)
    reference = torch.optim.Adam(
        [{"params": theirs[:1], "lr": 0.01}, {"params": theirs[1:], "lr": 0.001}], betas=(0.9, 0.99), eps=1e-14
    )
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        for a, b in zip(ours, theirs):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        adam.step()
        reference.step()
    for a, b in zip(ours, theirs):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


def test_grids_converge_when_two_windows_are_equally_good_twice_in_a_row():
    density = density_placement(density_window=10)
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
    density = density_placement()
    moving = [i for i in (0, 500, 501, 7999, 8000, 9999) if density.active(History(10_000).progress(i))]
    assert moving == [501, 7999]


def test_transform_rate_is_halved_within_five_steps():
    transforms = torch.nn.Parameter(torch.eye(3, 4)[None].repeat(2, 1, 1))
    density = density_placement(transforms)
    points = torch.rand(64, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    rates = []
    for _ in range(7):
        rates.append(density._group.rate)
        density.step(points, torch.linspace(0.1, 1, 64))
    assert rates[0] == pytest.approx(5e-4) and rates[-1] == pytest.approx(2.5e-4)
    assert rates == sorted(rates, reverse=True)


def test_history_measures_progress_by_steps_or_time():
    history = History(100)
    assert history.progress(50) == 0.5
    history = History(10**9, time_budget=1e-9)
    assert history.progress(1) == 1.0
    history.loss = 0.01
    history.add_row(1, 0.01, 0.5)
    history.add_row(1, 0.001, 0.5)
    table = history.table()
    assert table["psnr"].tolist() == [30.0] and table["iteration"].tolist() == [1]
    assert "20.0 dB" in history.state(1, 0.5).message
