"""A step as a CUDA graph: equal to the plain loop, without a wait; the same class on the CPU."""

import warnings

import pytest
import torch
from volumes import wave

from apmgsrn_core import LatticeConfig, ModelConfig, TrainConfig
from apmgsrn_core.training.device_sampler import DeviceBatch, DeviceSampler
from apmgsrn_core.errors import ConfigError
from apmgsrn_core.data.field_data import FieldData
from apmgsrn_core.training import graph_step
from apmgsrn_core.training.graph_step import WARM_UP, GraphStep
from apmgsrn_core.training.history import RunningMean
from apmgsrn_core.kernels.readable import TorchKernel
from apmgsrn_core.network.model import Network
from apmgsrn_core.training.optimizer import Adam, ParameterGroup
from apmgsrn_core.training.schedule import CosineSchedule

MODEL = dict(number_of_grids=3, grid_resolution=(4, 4, 4), lattices=(LatticeConfig((3, 4, 5), 1),), hidden_width=16)


def network_of(device="cpu", **more):
    config = ModelConfig(**{**MODEL, **more}).with_components(1)
    return Network(config, torch.Generator().manual_seed(0)).to(device)


def config_of(**settings):
    _, grid = wave()
    return TrainConfig(**{"iterations": 12, "batch_size": 64, **settings}).resolved(grid)


def batches(count, device="cpu"):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        parts = (torch.rand(64, 3, generator=generator) * 2 - 1, *torch.rand(2, 64, 1, generator=generator))
        yield DeviceBatch(*(p.to(device) for p in parts), torch.zeros(64, dtype=torch.int64, device=device))


def plain_loop(network, kernel, config, directs, device="cpu"):
    """What the trainer does, written out."""
    decoder = [p for n, p in network.named_parameters() if n not in ("features", "transforms")]
    groups = [ParameterGroup([network.features], config.learning_rate), ParameterGroup(decoder, config.learning_rate)]
    if config.transform_gradient:
        groups.append(ParameterGroup([network.transforms], config.transform_learning_rate))
    optimizer = Adam(groups, config, kernel)
    schedule, mean = CosineSchedule(optimizer, config), RunningMean()
    for i, (batch, direct) in enumerate(zip(batches(len(directs), device), directs)):
        network.zero_grad()
        loss, _ = kernel.loss(network, batch.points, batch.targets, batch.weights, direct)
        loss.backward()
        optimizer.step()
        schedule.step((i + 1) / config.iterations, 0.0, True)
        mean.add(float(loss.detach()))
    return mean.value


def stepped(network, kernel, config, directs, device="cpu"):
    step = GraphStep(network, kernel, config)
    schedule = CosineSchedule(step, config)
    for i, (batch, direct) in enumerate(zip(batches(len(directs), device), directs)):
        error = step.run(batch, direct=direct)
        assert error.shape == (64,) and not error.requires_grad
        schedule.step((i + 1) / config.iterations, 0.0, True)
    return step


DIRECTS = [False] * 5 + [True] * 5 + [False] * 2


def test_steps_equal_the_plain_loop():
    first, second, config = network_of(), network_of(), config_of()
    expected = plain_loop(first, TorchKernel(), config, DIRECTS)
    step = stepped(second, TorchKernel(), config, DIRECTS)
    assert step.loss() == pytest.approx(expected, rel=1e-5)
    for (name, a), b in zip(first.named_parameters(), second.parameters()):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5, msg=name)
    assert not torch.equal(second.transforms, network_of().transforms)


def test_the_published_placement_moves_the_grids_alone():
    config = config_of(placement="published", batch_size=64)
    network, start = network_of(lattices=()), network_of(lattices=()).transforms.detach()
    step = GraphStep(network, TorchKernel(), config)
    for batch in batches(3):
        step.run(batch)
    assert torch.equal(network.transforms, start) and step.density_loss() != step.density_loss()  # NaN: none so far
    for batch in batches(3):
        step.run(batch, placement=True)
    rate = config.transform_learning_rate
    assert 0 < (network.transforms - start).abs().max() <= 3.5 * rate
    assert abs(step.density_loss()) < 1 and step.density_loss() != step.density_loss()


def test_points_without_weight_are_not_in_the_mean():
    network, config = network_of(), config_of()
    step = GraphStep(network, TorchKernel(), config)
    batch = next(batches(1))
    batch.weights.fill_(0.0)
    step.run(batch)
    assert step.loss() != step.loss()
    batch.weights[:16] = 1.0
    error = step.run(batch)
    assert step.loss() == pytest.approx(float(error[:16].mean()), rel=1e-4)


def test_a_batch_of_another_size_is_an_error():
    step = GraphStep(network_of(), TorchKernel(), config_of())
    step.run(next(batches(1)))
    batch = next(batches(1))
    with pytest.raises(ConfigError, match="batch: expected the shapes"):
        step.run(DeviceBatch(batch.points[:5], batch.targets[:5], batch.weights[:5], batch.blocks[:5]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["full", "fast"])
def test_graphs_equal_the_plain_loop_on_a_gpu(precision):
    from apmgsrn_core.kernels.triton import TritonKernel

    directs = DIRECTS * 2
    config, kernel = config_of(iterations=24), TritonKernel(precision)
    first, second = network_of("cuda"), network_of("cuda")
    expected = plain_loop(first, kernel, config, directs, "cuda")
    step = stepped(second, kernel, config, directs, "cuda")
    assert len(step._graphs) == 2 and directs.count(True) > WARM_UP
    tolerance = 1e-3 if precision == "full" else 2e-2  # the order of atomic additions differs
    assert step.loss() == pytest.approx(expected, rel=tolerance)
    points = next(batches(1, "cuda")).points
    torch.testing.assert_close(first(points), second(points), atol=10 * tolerance, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_no_replay_waits_for_the_device():
    from apmgsrn_core.kernels.triton import TritonKernel

    values, grid = wave((20, 17, 15))
    config = TrainConfig(iterations=50, batch_size=512, placement="published").resolved(grid)
    sampler = DeviceSampler(FieldData(values, grid), config, 0, "cuda", 9000)
    step = GraphStep(network_of("cuda"), TritonKernel("fast"), config)
    for _ in range(WARM_UP + 1):
        step.run(sampler.draw(), placement=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        for iteration in range(10):
            batch = sampler.draw()
            sampler.report(iteration, batch, step.run(batch, placement=True))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert step.loss() > 0 and step.density_loss() == step.density_loss()


def test_a_graph_is_captured_on_the_stream_of_its_own_device_and_one_after_the_other(monkeypatch):
    """torch's default stream for it is of the first device in the process: on another one nothing would be captured."""
    step, seen = GraphStep(network_of(), TorchKernel(), config_of()), []
    step._stream = object()

    class Capture:
        def __init__(self, graph, **settings):
            seen.append(settings)

        def __enter__(self):
            assert graph_step._CAPTURING.locked()

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    monkeypatch.setattr(step, "_work", lambda *kind: seen.append(kind))
    step._captured(True, False)
    assert seen == [{"stream": step._stream, "capture_error_mode": "thread_local"}, (True, False)]
    assert not graph_step._CAPTURING.locked()
