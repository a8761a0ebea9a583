"""The Triton kernels against the readable torch code: values, lattices, derivatives, losses, gradients.

With a CUDA device they are compiled and run there. Without one Triton's interpreter runs the same code on the CPU: it
shows that the arithmetic is right, not that a GPU runs it. Sizes are tiny and odd, for the interpreter is slow.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are defined, at their import

pytest.importorskip("triton", reason="triton is not installed (it pairs with torch: 3.7.1 with torch 2.13)")

from apmgsrn_core import LatticeConfig, ModelConfig  # noqa: E402
from apmgsrn_core.network.encoding import GridEntry, GridTable, density_loss, encode, feature_density, to_local  # noqa: E402
from apmgsrn_core.errors import ConfigError  # noqa: E402
from apmgsrn_core.kernels.triton import TritonKernel  # noqa: E402
from apmgsrn_core.kernels.triton_encode import encode as read  # noqa: E402
from apmgsrn_core.network.model import Network, evaluate  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = {"full": 1e-5, "fast": 4e-3}  # of the range; half has 11 bits, products of a few dozen
GRADIENT = {"full": 1e-4, "fast": 2e-2}  # of the largest entry


def make(
    resolution=(3, 2, 7), features=2, interpolation="linear", lattices=(((2, 3, 8), 3),), grids=2, outputs=1, **more
):  # fmt: skip
    """A network with features of order 1 and grids that reach out of the domain."""
    config = ModelConfig(
        number_of_grids=grids, features_per_grid=features, grid_resolution=resolution, interpolation=interpolation,
        lattices=tuple(LatticeConfig(*x) for x in lattices), **{"hidden_width": 8, **more},
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    network = Network(config.with_components(outputs), generator)
    with torch.no_grad():
        network.features.copy_(torch.randn(network.features.shape, generator=generator))
        network.transforms[:, :, :3] += torch.randn(grids, 3, 3, generator=generator) * 0.4
        network.transforms[:, :, 3] += torch.randn(grids, 3, generator=generator) * 0.6
        for layer in network.layers:
            if layer.bias is not None:
                layer.bias.normal_(0, 0.3, generator=generator)
    return network.to(DEVICE)


def points_of(n, seed=1):
    """In the domain; random, and so never on a border of a cell."""
    return (torch.rand(n, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1).to(DEVICE)


def targets_of(n, outputs):
    generator = torch.Generator().manual_seed(2)
    return torch.rand(n, outputs, generator=generator).to(DEVICE), torch.rand(n, 1, generator=generator).to(DEVICE) * 2


def assert_near(found, expected, share):
    """Within a share of the largest expected number."""
    assert found.shape == expected.shape
    if expected.numel():
        assert float((found - expected).abs().max()) <= share * float(expected.abs().max()), "too far"


def compare_loss(network, n, precision, transform_gradient=True):
    """The loss, the errors and all gradients."""
    outputs = len(network.layers[-1].weight)
    points, (targets, weights) = points_of(n), targets_of(n, outputs)
    network.zero_grad()
    error = ((network(points, transform_gradient) - targets) ** 2).mean(dim=1)
    loss = (error * weights[:, 0]).mean()
    loss.backward()
    expected = {name: p.grad for name, p in network.named_parameters()}
    network.zero_grad()
    kernel = TritonKernel(precision)
    found_loss, found_error = kernel.loss(network, points, targets, weights, transform_gradient)
    assert not found_error.requires_grad
    (found_loss * 3.0).backward()
    assert_near(found_loss.detach(), loss.detach(), 10 * OUTPUT[precision])
    assert_near(found_error, error.detach(), 10 * OUTPUT[precision])
    for name, parameter in network.named_parameters():
        if name == "transforms" and not (transform_gradient and len(network.transforms)):
            assert parameter.grad is None or not parameter.grad.any()
        else:
            assert_near(parameter.grad / 3.0, expected[name], GRADIENT[precision])
    assert int(kernel.nonfinite) == 0


SHAPES = [
    dict(resolution=(1, 1, 1), features=1, lattices=()),
    dict(resolution=(2, 3, 1), features=3),
    dict(resolution=(8, 7, 2), features=4, lattices=(((1, 2, 1), 1), ((7, 2, 3), 6))),
    dict(resolution=(3, 3, 3), features=8, grids=1),
    dict(grids=0, lattices=(((8, 1, 2), 2),)),
    dict(interpolation="quadratic", resolution=(3, 1, 7), features=2, lattices=(((3, 1, 8), 2),), grids=1),
    dict(interpolation="quadratic", resolution=(2, 2, 1), features=6, lattices=(), grids=1),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_encoding_equals_the_readable_one(shape):
    network = make(**shape)
    outside = torch.tensor([[1.0, -1.0, 1.0], [1.5, -2.0, 0.3], [1e9, 0, 0]], device=DEVICE)
    points = torch.cat([points_of(29), outside])
    found = read(network.table, network.features.detach(), network.transforms.detach(), points)
    expected = encode(network.table, network.features, network.transforms, points).detach()
    assert_near(found.t(), expected, OUTPUT["full"])


def test_a_table_of_entries_that_differ_in_everything():
    quadratic = GridEntry((3, 3, 3), 1, False, "quadratic"), GridEntry((4, 2, 2), 1, True, "quadratic")
    table = GridTable((GridEntry((2, 3, 4), 2, True), *quadratic))
    features = torch.randn(table.feature_count, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    transforms = make().transforms.detach()
    found = read(table, features, transforms, points_of(9))
    assert_near(found.t(), encode(table, features, transforms, points_of(9)), OUTPUT["full"])


@pytest.mark.parametrize("precision", ["full", "fast"])
@pytest.mark.parametrize("n", [0, 1, 7, 65])
def test_values_of_any_number_of_points(n, precision):
    network = make(linear_skip=True, bias=True, outputs=2)
    found = TritonKernel(precision).values(network, points_of(n))
    assert not found.requires_grad
    assert_near(found, network(points_of(n)).detach(), OUTPUT[precision])


DECODERS = [
    dict(hidden_layers=0, linear_skip=True, bias=True),  # decoded by torch
    dict(hidden_layers=1),
    dict(hidden_layers=1, hidden_width=160),  # decoded by torch: too wide
    dict(hidden_layers=2, hidden_width=24, bias=True),
    dict(hidden_layers=3, linear_skip=True, outputs=2),
    dict(hidden_layers=4, bias=True, linear_skip=True),  # not fused
    dict(interpolation="quadratic", lattices=(((3, 3, 3), 17),), linear_skip=True),  # not fused, several tiles
]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["full", "fast"])
@pytest.mark.parametrize("decoder", DECODERS, ids=str)
def test_values_of_any_decoder(decoder, precision):
    network = make(**decoder)
    found = TritonKernel(precision).values(network, points_of(33))
    assert_near(found, network(points_of(33)).detach(), OUTPUT[precision])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["full", "fast"])
@pytest.mark.parametrize("decoder", DECODERS, ids=str)
def test_loss_and_gradients_of_any_decoder(decoder, precision):
    compare_loss(make(**decoder), 65, precision)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loss_and_gradients_of_any_grids(shape):
    compare_loss(make(**shape), 7, "full")


@pytest.mark.parametrize("n", [1, 7])
def test_transforms_get_no_gradient_unless_asked(n):
    compare_loss(make(bias=True), n, "full", transform_gradient=False)


def test_no_points_no_loss():
    network = make()
    loss, error = TritonKernel().loss(network, points_of(0), *targets_of(0, 1), True)
    loss.backward()
    assert float(loss.detach()) == 0 and error.shape == (0,) and not network.features.grad.any()


@pytest.mark.parametrize("precision", ["full", "fast"])
@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[5], dict(outputs=2, bias=True, linear_skip=True)], ids=str)
def test_derivatives_equal_those_of_autograd(shape, precision):
    network = make(**shape)
    values, slopes = TritonKernel(precision).derivatives(network, points_of(9))
    expected = evaluate([network], points_of(9), derivatives=True)
    assert not values.requires_grad and not slopes.requires_grad
    assert_near(values, expected[0], OUTPUT["full"])
    assert_near(slopes, expected[1], GRADIENT["full"])


def test_derivatives_on_and_beyond_the_border_of_a_lattice():
    for interpolation in ("linear", "quadratic"):
        network = make(grids=0, lattices=(((4, 3, 5), 2),), interpolation=interpolation)
        points = torch.tensor([[1.0, 0.1, 0.3], [0.2, -1.0, 0.7], [1.2, 0.1, -1.7]], device=DEVICE)
        _, slopes = TritonKernel().derivatives(network, points)
        points.requires_grad_(True)
        assert_near(slopes[:, 0], torch.autograd.grad(network(points).sum(), points)[0], GRADIENT["full"])


@pytest.mark.parametrize("chunk", [None, 5])
def test_a_lattice_is_its_points_whatever_the_chunk(chunk, monkeypatch):
    network, kernel = make(outputs=2), TritonKernel()
    if chunk:
        monkeypatch.setattr(kernel, "_chunk", lambda network: chunk)
    axes = [torch.linspace(-1, 1, n, device=DEVICE) for n in (4, 3, 2)]
    found = kernel.lattice(network, *axes)
    z, y, x = torch.meshgrid(*axes[::-1], indexing="ij")
    expected = network(torch.stack((x, y, z), dim=-1).reshape(-1, 3)).detach()
    assert found.shape == (2, 3, 4, 2)
    assert_near(found.reshape(-1, 2), expected, OUTPUT["full"])
    assert_near(kernel.values(network, points_of(11)), network(points_of(11)).detach(), OUTPUT["full"])


def test_density_loss_and_its_gradient():
    transforms, points = make(grids=3).transforms, points_of(40)
    error = torch.rand(40, generator=torch.Generator().manual_seed(3)).to(DEVICE)
    expected = density_loss(feature_density(transforms, to_local(transforms, points)), error)
    found = TritonKernel().density_loss(transforms, points, error)
    assert_near(found.detach(), expected.detach(), 1e-5)
    gradients = [torch.autograd.grad(loss, transforms)[0] for loss in (found, expected)]
    assert_near(*gradients, 1e-4)


def test_half_overflow_is_counted_and_does_not_spread():
    network, kernel = make(), TritonKernel("fast")
    points, (targets, weights) = points_of(65), targets_of(65, 1)
    with torch.no_grad():
        network.features.mul_(1e6)
    loss, error = kernel.loss(network, points, targets, weights, True)
    loss.backward()
    assert torch.isfinite(loss.detach()) and torch.isfinite(error).all()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    assert int(kernel.nonfinite) > 0
    network.zero_grad()
    targets[3] = float("nan")
    kernel.loss(network, points, targets, weights, True)[0].backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_what_it_does_not_do_is_said(monkeypatch):
    kernel, network = TritonKernel("fast"), make()
    assert kernel.name == "triton fast" and kernel.supports(network) == ""
    assert "float32" in kernel.supports(make().double())
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert "CUDA" in kernel.supports(make().cpu())
    with pytest.raises(ConfigError, match="precision.*'half'"):
        TritonKernel("half")


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from apmgsrn_core.kernels import triton_decoder, triton_encode, triton_encode_backward, triton_fused, triton_outer

def compile(module, name, floats, halves, shared, **constants):
    kernel = getattr(module, name + "_kernel")
    half = constants["HALF"]
    kind = dict.fromkeys(floats.split(), "*fp32") | dict.fromkeys(halves.split(), "*fp16" if half else "*fp32")
    kind |= {"nonfinite": "*i32", "starts": "*i64", "shapes": "*i32"}
    signature = {n: "constexpr" if n in constants else kind.get(n, "i32") for n in kernel.arg_names}
    options = {"num_warps": 8, "num_stages": 2}
    built = triton.compile(ASTSource(kernel, signature, constants), target=GPUTarget("cuda", 80, 32), options=options)
    assert built.asm["cubin"] and built.metadata.shared <= shared, (name, built.metadata.shared)

weights, mlp = "first hidden last skip", dict(KP=64, KB=32, H=64, CP=16, LAYERS=2, SKIP=True)
for half, block in ((True, 64), (False, 32)):
    grid = dict(F=3, FP=4, PLACED=1, QUADRATIC=False, HALF=half, BLOCK=64)
    tile = dict(mlp, HALF=half, BLOCK=block)
    parts = "features transforms points"
    targets = " scale to_features to_transforms to_points"
    compile(triton_encode, "encode", parts, "encoded", 65536, **grid)
    compile(triton_encode_backward, "encode_backward", parts + targets, "gradient", 65536, FEATURES=True,
            TRANSFORMS=True, POINTS=True, **grid)
    compile(triton_decoder, "decoder", "biases values", weights + " encoded activations", 65536, BIAS=True, STORE=True,
            **tile)
    compile(triton_decoder, "decoder_backward", "to_values", weights + " activations to_hidden to_encoded", 65536,
            **tile)
    compile(triton_outer, "outer", "to_weight to_bias scale", "left right", 65536, BIAS=True, HALF=half, RB=64, CB=64,
            BLOCK=block)
    compile(triton_fused, "network", parts + " biases values", weights, 65536, KT=64, BIAS=True, **dict(tile, KB=16))
"""


@pytest.mark.slow
def test_the_kernels_compile_for_a_gpu(tmp_path):
    """The compiler knows less than the interpreter. It needs no GPU: code for compute capability 8.0."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment.update(TRITON_CACHE_DIR=str(tmp_path), PYTHONPATH=str(ROOT))
    run = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["full", "fast"])
@pytest.mark.parametrize("interpolation", ["linear", "quadratic"])
def test_the_common_size_on_a_gpu(precision, interpolation):
    network = make((8, 8, 8), 2, interpolation, (((16, 16, 16), 4),), 64, hidden_width=64, linear_skip=True)
    expected = network(points_of(5000)).detach()
    assert_near(TritonKernel(precision).values(network, points_of(5000)), expected, OUTPUT[precision])
    compare_loss(network, 5000, precision)
