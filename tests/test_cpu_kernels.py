"""The native CPU kernels against their readable twin: every path of this processor, every kind of network."""

import copy
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from apmgsrn_core import ConfigError, Grid, LatticeConfig, ModelConfig, TrainConfig
from apmgsrn_core.network.encoding import encode
from apmgsrn_core import kernels
from apmgsrn_core.kernels import choose, cpu, cpu_library
from apmgsrn_core.kernels.readable import TorchKernel
from apmgsrn_core.kernels.threads import share_of_cores
from apmgsrn_core.kernels.torch_tiles import TiledTorchKernel
from apmgsrn_core.network.model import Network
from apmgsrn_core.training.optimizer import adam_step
from apmgsrn_core.training.training_step import stays_on_device

pytestmark = pytest.mark.skipif(cpu_library.load()[0] is None, reason=cpu_library.load()[1] or "built")

CPU = torch.device("cpu")
TWIN = TorchKernel()
SIZES = st.sampled_from([0, 1, 2, 7, 255, 256, 257, 600])


def native(path, precision="full"):
    return choose(CPU, precision, "native", path)


@st.composite
def configs(draw):
    """Any kind of network, small."""
    axis = st.sampled_from([1, 2, 3, 7, 8])
    interpolation = draw(st.sampled_from(["linear", "quadratic"]))
    nodes = axis if interpolation == "linear" else st.sampled_from([1, 3, 8])
    features = st.sampled_from([1, 2, 3, 4, 6, 8, 9])
    lattices = draw(st.lists(st.builds(LatticeConfig, st.tuples(nodes, nodes, nodes), features), max_size=2))
    return ModelConfig(
        number_of_grids=draw(st.sampled_from([0, 1, 5] if lattices else [1, 5])), features_per_grid=draw(features),
        grid_resolution=draw(st.tuples(axis, axis, axis)), interpolation=interpolation, lattices=tuple(lattices),
        hidden_layers=draw(st.integers(0, 3)), hidden_width=draw(st.sampled_from([1, 7, 16, 33, 64])),
        bias=draw(st.booleans()), linear_skip=draw(st.booleans()), output_components=draw(st.integers(1, 3)),
    )  # fmt: skip


def random_network(config, seed):
    """Placed grids that cover a part of the domain, features and biases of order 1."""
    generator = torch.Generator().manual_seed(seed)
    network = Network(config, generator)
    with torch.no_grad():
        network.features.normal_(generator=generator)
        count = network.table.placed_count
        network.transforms.copy_(torch.eye(3, 4) * 1.7 + 0.4 * torch.randn(count, 3, 4, generator=generator))
        for layer in network.layers:
            if layer.bias is not None:
                layer.bias.normal_(generator=generator)
    return network


def random_points(n, seed, reach=1.3):
    return (torch.rand(n, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1) * reach


def off_kinks(network, points):
    """The points at which no hidden neuron is about to switch: where one is, rounding decides about the slope."""
    keep = torch.ones(len(points), dtype=torch.bool)
    with torch.no_grad():
        hidden = encode(network.table, network.features, network.transforms, points)
        for layer in network.layers[:-1]:
            hidden = layer(hidden)
            smallest = 1e-4 * hidden.abs().amax() if hidden.numel() else 0.0
            keep &= ((hidden.abs() > smallest) | (hidden == 0)).all(dim=1)
            hidden = torch.relu(hidden)
    return points[keep]


def exact(network, points):
    """The twin's values, computed in double precision: its own rounding does not count."""
    return TWIN.values(copy.deepcopy(network).double(), points.double()).float()


def assert_close(found, expected, tolerance, floor=1e-3):
    """Within a share of the largest expected number, or of the floor, as sums of numbers of order 1 may cancel."""
    found, expected = found.detach(), expected.detach()
    assert found.shape == expected.shape
    if expected.numel():
        scale = max(float(expected.abs().max()), floor)
        assert float((found - expected).abs().max()) <= tolerance * scale


@pytest.mark.parametrize("path", cpu_library.paths())
@given(config=configs(), n=SIZES, seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_values_are_the_twins(path, config, n, seed):
    network, points = random_network(config, seed), random_points(n, seed)
    assert_close(native(path).values(network, points), exact(network, points), 1e-5, floor=0.1)


@pytest.mark.parametrize("path", cpu_library.paths())
@given(config=configs(), sizes=st.tuples(*[st.sampled_from([1, 2, 5, 16, 17])] * 3), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_a_lattice_is_the_twins_and_its_points(path, config, sizes, seed):
    network = random_network(config, seed)
    axes = [torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in sizes]
    found = native(path).lattice(network, *axes)
    z, y, x = torch.meshgrid(*axes[::-1], indexing="ij")
    points = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
    assert_close(found.reshape(len(points), -1), exact(network, points), 1e-5, floor=0.1)
    assert_close(TWIN.lattice(network, *axes).reshape(len(points), -1), TWIN.values(network, points), 1e-5, floor=0.1)
    assert_close(found.reshape(len(points), -1), native(path).values(network, points), 1e-5, floor=0.1)


@pytest.mark.parametrize("path", cpu_library.paths())
@given(config=configs(), n=SIZES.filter(bool), moving=st.booleans(), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_loss_and_gradients_are_the_twins(path, config, n, moving, seed):
    network = random_network(config, seed)
    points = off_kinks(network, random_points(n, seed))
    n = len(points)
    assume(n)
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randn(n, config.output_components, generator=generator) + 5  # differences far from 0
    weights = torch.rand(n, 1, generator=generator)
    expected_error = TWIN.backward(network, points, targets, weights, moving)
    expected = {name: p.grad for name, p in network.named_parameters()}
    kernel = native(path)
    for way in ("backward", "loss"):
        network.zero_grad()
        if way == "backward":
            error = kernel.backward(network, points, targets, weights, moving)
        else:
            loss, error = kernel.loss(network, points, targets, weights, moving)
            assert_close(loss, (error * weights[:, 0]).mean(), 1e-6)
            (2 * loss).backward()
        assert_close(error, expected_error, 1e-5)
        for name, parameter in network.named_parameters():
            if expected[name] is None:
                assert parameter.grad is None or not parameter.grad.any()
            else:
                assert_close(parameter.grad / (2 if way == "loss" else 1), expected[name], 1e-4)


@pytest.mark.parametrize("path", cpu_library.paths())
@given(config=configs(), n=SIZES.filter(bool), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_derivatives_are_the_twins(path, config, n, seed):
    network = random_network(config, seed)
    points = off_kinks(network, random_points(n, seed, reach=0.95))
    assume(len(points))
    for precision in ("full", "fast"):  # derivatives are exact in both
        values, slopes = native(path, precision).derivatives(network, points)
        _, expected = TWIN.derivatives(network, points)
        assert_close(values, exact(network, points), 1e-5, floor=0.1)
        assert_close(slopes, expected, 1e-4, floor=0.1)


@pytest.mark.parametrize("path", cpu_library.paths())
@given(n=st.sampled_from([65, 255, 256, 257, 600]), m=st.sampled_from([1, 3, 8]), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_the_density_loss_is_the_twins(path, n, m, seed):
    points = random_points(n, seed, reach=1.0)
    error = torch.rand(n, generator=torch.Generator().manual_seed(seed)) + 0.01
    jitter = 0.2 * torch.randn(m, 3, 4, generator=torch.Generator().manual_seed(seed))
    start = torch.eye(3, 4) * 1.5 + jitter
    results = []
    for kernel in (TWIN, native(path)):
        transforms = start.clone().requires_grad_(True)
        loss = kernel.density_loss(transforms, points, error)
        loss.backward()
        results.append((loss, transforms.grad))
    assert_close(results[1][0], results[0][0], 1e-4)
    assert_close(results[1][1], results[0][1], 1e-3)


@pytest.mark.parametrize("path", cpu_library.paths())
def test_points_on_borders_and_nodes(path):
    """Corners of the domain, nodes of the grids, and far outside."""
    for interpolation in ("linear", "quadratic"):
        config = ModelConfig(
            number_of_grids=2, grid_resolution=(3, 5, 9), interpolation=interpolation, output_components=1,
            lattices=(LatticeConfig((3, 5, 9), 2),),
        )  # fmt: skip
        network = random_network(config, 1)
        with torch.no_grad():
            network.transforms.copy_(torch.eye(3, 4).expand(2, 3, 4))
        axis = torch.tensor([-1e9, -2.0, -1.0, -0.75, -0.5, 0.0, 0.5, 1.0, 1.25, 1.5, 1e9])
        points = torch.cartesian_prod(axis, axis, axis)
        assert_close(native(path).values(network, points), exact(network, points), 1e-5, floor=0.1)


@pytest.mark.parametrize("path", cpu_library.paths())
@pytest.mark.parametrize("precision", ["full", "fast"])
def test_the_same_bits_for_any_number_of_threads(path, precision, monkeypatch):
    config = ModelConfig(number_of_grids=9, grid_resolution=(5, 6, 7), lattices=(LatticeConfig((9, 9, 9), 4),), output_components=2)
    network, points = random_network(config, 5), random_points(5001, 5, 1.0)
    targets, weights = torch.randn(5001, 2, generator=torch.Generator().manual_seed(1)), torch.ones(5001, 1)
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(cpu, "thread_count", lambda threads=threads: threads)
        kernel = cpu.NativeKernel(precision, path)
        error = kernel.backward(network, points, targets, weights, True)
        gradients = [p.grad.clone() for p in network.parameters()]
        network.zero_grad()
        results.append([error, kernel.values(network, points), *gradients])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.skipif("amx" not in cpu_library.paths(), reason="this processor or system has no AMX")
@given(layers=st.integers(1, 3), width=st.sampled_from([16, 33, 64]), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_bf16_stays_above_its_noise_floor(layers, width, seed):
    config = ModelConfig(number_of_grids=7, hidden_layers=layers, hidden_width=width, bias=True, output_components=1)
    network, points = random_network(config, seed), random_points(600, seed, reach=1.0)
    exact, fast = native("amx").values(network, points), native("amx", "fast").values(network, points)
    assert not torch.equal(exact, fast)
    assert float((fast - exact).square().mean().sqrt()) < 1e-2 * float(exact.abs().max())


def test_a_trained_network_is_taken_up_when_it_is_frozen():
    """The kernel's own Adam writes past torch, whose versions do not show it."""
    network, points = random_network(ModelConfig(number_of_grids=3, output_components=1), 0), random_points(300, 0)
    kernel = native(None)
    kernel.backward(network, points, torch.ones(300, 1), torch.ones(300, 1), False)
    moments = torch.zeros_like(network.features), torch.zeros_like(network.features)
    kernel.adam(network.features.detach(), network.features.grad, *moments, 1, 0.1, 0.9, 0.99, 1e-14)
    network.requires_grad_(False)
    assert_close(kernel.values(network, points), exact(network, points), 1e-5, floor=0.1)


def test_threads_of_the_program_may_call_together():
    network, points = random_network(ModelConfig(number_of_grids=5, output_components=1), 0), random_points(20000, 0)
    network.requires_grad_(False)
    kernel = native(None)
    expected = kernel.values(network, points)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: kernel.values(network, points), range(20)):
            assert torch.equal(found, expected)


def test_a_forked_child_computes():
    network, points = random_network(ModelConfig(number_of_grids=5, output_components=1), 0), random_points(2000, 0)
    network.requires_grad_(False)
    kernel = native(None)
    expected = kernel.values(network, points)
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(kernel.values(network, points), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


@given(count=st.sampled_from([1, 7, 20000]), step=st.integers(1, 500), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_adam_is_the_twins(count, step, seed):
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(count, generator=generator) for _ in range(4)]
    tensors[3].abs_()
    copies = [t.clone() for t in tensors]
    native(None).adam(*tensors, step, 0.01, 0.9, 0.99, 1e-14)
    adam_step(*copies, step, 0.01, 0.9, 0.99, 1e-14)
    for found, expected in zip(tensors, copies):
        assert_close(found, expected, 1e-5)


def test_a_changed_network_is_taken_up_again():
    network, points = random_network(ModelConfig(number_of_grids=3, output_components=1), 0), random_points(50, 0)
    network.requires_grad_(False)
    kernel = native(None)
    before = kernel.values(network, points)
    with torch.no_grad():
        network.features.mul_(2)
    assert not torch.equal(before, kernel.values(network, points))


def test_denormal_numbers_survive():
    """Nothing sets the processor to flush them to zero."""
    network = random_network(ModelConfig(number_of_grids=2, output_components=1), 0)
    native(None).values(network, random_points(300, 0))
    tiny = np.float32(1e-39)
    assert tiny * np.float32(0.5) > 0


def test_a_forced_path_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="expected one of .*portable.* found 'neon'"):
        cpu.NativeKernel(path="neon")


@pytest.mark.slow
@pytest.mark.parametrize("word, name", [("torch", "torch"), ("native", "native portable")])
def test_the_environment_forces_a_kernel(word, name):
    code = "import torch; from apmgsrn_core.kernels import choose; print(choose(torch.device('cpu')).name)"
    environment = {**os.environ, "APMGSRN_KERNELS": word, "APMGSRN_CPU": "portable"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == name, result.stderr


def test_wrong_words_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="APMGSRN_KERNELS: expected one of torch, native, found 'cuda'"):
        choose(CPU, force="cuda")
    with pytest.raises(ConfigError, match="precision"):
        choose(CPU, precision="half")


def test_a_library_of_other_sources_is_not_loaded(monkeypatch, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libapmgsrn_cpu-0000000000000000.so").write_bytes(b"")
    monkeypatch.setattr(cpu_library, "HERE", tmp_path)
    library, why = cpu_library.load.__wrapped__()
    assert library is None and "of other sources" in why


@pytest.mark.parametrize("ranks, mine, everything, expected", [(1, 2, 2, 2), (2, 2, 2, 1), (4, 2, 2, 1), (2, 1, 2, 1), (2, 8, 16, 8), (4, 16, 16, 4)])
def test_ranks_share_the_cores(monkeypatch, ranks, mine, everything, expected):
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "0")
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", str(ranks))
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(everything if pid else mine)))
    assert share_of_cores.__wrapped__() == expected


def test_a_gpu_without_triton_computes_with_plain_torch():
    """The sorted kernel is for a CPU: it would wait for the device."""
    assert type(choose(torch.device("cuda"), force="torch")) is TorchKernel
    assert type(choose(CPU, force="torch")) is TiledTorchKernel


def test_only_what_reads_no_loss_stays_on_a_gpu():
    grid = Grid((9, 9, 9))
    on_gpu = [stays_on_device(torch.device("cuda"), TrainConfig(**s).resolved(grid)) for s in (
        {}, {"placement": "published"}, {"schedule": "plateau"}, {"placement": "published", "schedule": "cosine"})]  # fmt: skip
    assert on_gpu == [True, False, False, False]


@pytest.mark.parametrize("error", [RuntimeError("Failed to find C compiler"), subprocess.CalledProcessError(1, "gcc"), OSError("no libcuda")])
def test_a_gpu_for_which_triton_cannot_start_is_computed_by_torch(monkeypatch, caplog, error):
    pytest.importorskip("triton")
    monkeypatch.setattr(kernels, "_start_triton", lambda: (_ for _ in ()).throw(error))
    kernels._say.cache_clear()
    kernel, why = kernels._native.__wrapped__("cuda", "full", None)
    assert kernel is None and "triton cannot be used" in why and str(error).split()[0] in why
    assert "computing with torch, several times slower" in caplog.text
