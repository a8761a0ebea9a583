"""Any PyTorch network as a volume: values, derivatives, trust, and what networks may do wrong."""

import importlib.util
import json
import sys
import types
from pathlib import Path

import foreign_networks as foreign
import numpy as np
import pytest
import torch
from foreign_networks import ARRAYS, GRID, Wave

from apmgsrn_core import (
    ConfigError,
    DataError,
    DeviceError,
    FieldError,
    ForeignVolume,
    Grid,
    ModelFileError,
    NeuralVolume,
    TrustError,
    open_volume,
    register_network,
    save_network,
)
from apmgsrn_core.file.manifest import ArrayInfo
from apmgsrn_core.foreign.network_loading import OnnxNetwork
from apmgsrn_core.foreign.network_source import FIELDS, OWN_CLASSES, NetworkSource

HERE = Path(__file__).resolve().parent
CODE = HERE / "foreign_networks.py"
RUNS_CODE = ("torchscript", "export", "class")
has_onnxruntime = importlib.util.find_spec("onnxruntime") is not None


def saved(tmp_path, kind, **settings):
    extra = {"arguments": {"outputs": 1}, "code": CODE} if kind == "class" else {}
    return save_network(tmp_path / "wave.network.json", Wave(), GRID, ARRAYS, kind, **extra, **settings)


def check_wave(volume, accuracy=1e-5):
    points = foreign.inside(501)
    expected = 10 + 20 * foreign.wave_at(points)
    values, slopes = volume.sample_derivatives(points)
    assert abs(volume.sample_points(points)[:, None] - expected).max() < 1e-4
    assert abs(values - expected).max() < 1e-4
    assert abs(slopes - 20 * foreign.wave_slopes(points)).max() < accuracy * 100


@pytest.mark.parametrize("kind", RUNS_CODE)
def test_files_that_run_code_are_opened_with_trust_only(tmp_path, kind):
    path = saved(tmp_path, kind)
    with pytest.raises(TrustError, match="trust=True.*TrustFile") as raised:
        open_volume(path, "cpu")
    assert str(path) in str(raised.value)
    volume = open_volume(path, "cpu", trust=True)
    assert isinstance(volume, ForeignVolume) and volume.derivatives == "autograd"
    check_wave(volume)


def test_every_kind_of_file_is_refused_until_it_is_trusted_or_is_numbers_alone(tmp_path):
    """A kind that is new must be thought about: only our own classes, and what a script registers, need no trust."""
    for kind, (needed, _) in FIELDS.items():
        entry = {"kind": kind, **dict.fromkeys(needed, "wave")}
        entry.update({"class": "other.Wave"} if kind == "class" else {})
        needs = bool(NetworkSource.of_dict(entry, tmp_path).runs_code)
        assert needs == (kind != "registered"), kind
    own = {"kind": "class", "class": OWN_CLASSES[0], "file": "w"}
    assert not NetworkSource.of_dict(own, tmp_path).runs_code
    assert NetworkSource.of_dict({**own, "code": "mine.py"}, tmp_path).runs_code, "that class is another one"


def test_nothing_of_an_untrusted_class_is_imported(tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    path = foreign.write_description(tmp_path, {"kind": "class", "class": "Evil", "file": "w", "code": "evil.py"})
    with pytest.raises(TrustError):
        open_volume(path, "cpu")
    path = foreign.write_description(tmp_path, {"kind": "class", "class": "antigravity.Evil", "file": "w"})
    with pytest.raises(TrustError):
        open_volume(path, "cpu")
    assert "antigravity" not in sys.modules


def test_a_model_file_is_still_a_neural_volume(tmp_path):
    assert not issubclass(ForeignVolume, NeuralVolume)
    with pytest.raises(ModelFileError):
        open_volume(tmp_path / "none.apmgsrn", "cpu")


@pytest.mark.parametrize("outputs", ["normalised", "unit"])
def test_several_arrays_and_components(outputs):
    grid = Grid((8, 9, 7), (0.5, 0, 0), (-0.5, 1, 2), association="cell")
    arrays = [{"name": "a", "range": [-4, 6]}, {"name": "v", "components": 3, "range": [0, 5], "dtype": "int16"}]

    def network(points):
        return torch.cat([points[:, :1] * 2, torch.sin(points)], dim=1)

    path = register_network("pair", network, {"grid": _plain(grid), "arrays": arrays, "outputs": outputs})
    volume, points = open_volume(path, "cpu"), foreign.inside(200, grid)
    at = grid.index_to_normalised(grid.world_to_index(points)).clip(-1, 1)
    scaled = outputs == "normalised"
    assert abs(volume.sample_points(points, "a") - (at[:, 0] * (20 if scaled else 2) - (4 if scaled else 0))).max() < 1e-4
    expected = np.sin(at) * (5 if scaled else 1)
    assert abs(volume.sample_points(points, "v") - expected).max() < 1e-4
    rounded = volume.sample_region(field="v", dtype="original")
    assert rounded.dtype == np.int16 and rounded.shape == (6, 8, 7, 3)
    assert np.array_equal(rounded, np.rint(volume.sample_region(field="v")))
    values, slopes = volume.sample_derivatives(points, "v")
    assert slopes.shape == (200, 3, 3) and abs(values - expected).max() < 1e-4
    with pytest.raises(FieldError, match="a, v"):
        volume.sample_points(points, "w")


def _plain(grid):
    return {key: value for key, value in grid.to_dict().items() if key not in ("bounds", "axes")}


@pytest.mark.parametrize("scale", [0.5, 1, 1.7])
def test_regions_are_what_points_are(tmp_path, scale):
    volume = open_volume(saved(tmp_path, "torchscript"), "cpu", trust=True)
    lattice = GRID.scaled(scale)
    z, y, x = np.meshgrid(*[np.arange(n) for n in lattice.dims[::-1]], indexing="ij")
    points = lattice.index_to_world(np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1))
    region = volume.sample_region(grid=lattice)
    assert np.allclose(region.ravel(), volume.sample_points(points), rtol=0, atol=1e-5)
    assert volume.valid_region(grid=lattice).all() and volume.valid_points(points).all()
    outside = points + 100.0
    assert np.isnan(volume.sample_points(outside)).all() and not volume.valid_points(outside).any()


@pytest.mark.parametrize("most", [1, 7, 64, 100_000])
def test_small_batches_change_nothing(most):
    calls = []

    def network(points):
        calls.append(len(points))
        return torch.sin(points @ torch.from_numpy(foreign.WEIGHTS[:, :1]))

    where = foreign.description({}, most_points=most)
    path = register_network("batches", network, {k: where[k] for k in ("grid", "arrays", "most_points")})
    volume = open_volume(path, "cpu")
    points = foreign.inside(101)
    assert abs(volume.sample_points(points)[:, None] - (10 + 20 * foreign.wave_at(points))).max() < 1e-4
    assert volume.sample_region().shape == (7, 8, 9)
    assert max(calls) <= max(most, 2)  # two points try it


@pytest.mark.parametrize("dims", [(9, 8, 7), (129, 65, 33), (9, 1, 7)])
def test_differences_stand_in_where_there_is_no_autograd(dims):
    grid, weights = Grid(dims, (0, 0, 0), tuple(4 / max(n - 1, 1) for n in dims)), torch.from_numpy(foreign.WEIGHTS)

    @torch.no_grad()
    def network(points):
        return torch.sin(points @ weights[:, :1])

    where = {"grid": _plain(grid), "arrays": [{"name": "wave", "range": [10, 30]}]}
    volume = open_volume(register_network("detached", network, where), "cpu")
    assert volume.derivatives == "central differences"
    points = foreign.inside(301, grid)
    expected = 20 * foreign.wave_slopes(points, grid) if 1 not in dims else None
    _, slopes = volume.sample_derivatives(points)
    if expected is None:
        assert (slopes[:, :, 1] == 0).all() and (slopes[:, :, 0] != 0).all()
    else:
        inner = (abs(grid.index_to_normalised(grid.world_to_index(points))) < 0.98).all(axis=1)
        assert abs(slopes - expected)[inner].max() < 2e-3 * abs(expected).max()
    with pytest.raises(DataError, match="autograd"):
        open_volume(register_network("detached", network, {**where, "derivatives": "autograd"}), "cpu")


def test_differences_can_be_asked_for(tmp_path):
    volume = open_volume(saved(tmp_path, "torchscript", derivatives="differences"), "cpu", trust=True)
    assert volume.derivatives == "central differences"
    check_wave(volume, accuracy=1e-3)


def test_second_derivatives_and_feature_grids_are_none():
    path = register_network("wave", Wave(), {k: foreign.description({})[k] for k in ("grid", "arrays")})
    volume = open_volume(path)
    assert volume.feature_grids() == [] and volume.times == () and volume.device.type == "cpu"
    with pytest.raises(FieldError, match="foreign"):
        volume.sample_second_derivatives(foreign.inside(3))


@pytest.mark.parametrize(
    ("network", "found"),
    [
        (lambda p: p, r"\(2, 3\)"), (lambda p: p[:, 0], r"\(2,\)"), (lambda p: p[:1, :1], r"\(1, 1\)"),
        (lambda p: p[:, :1].long(), "int64"), (lambda p: p[:, :1].numpy(), "ndarray"), (lambda p: None, "NoneType"),
        (lambda p: 1 / 0, "ZeroDivisionError"), (lambda: 1, "TypeError"),
    ],
)  # fmt: skip
def test_a_network_that_breaks_the_contract_is_told(network, found):
    where = {k: foreign.description({})[k] for k in ("grid", "arrays")}
    with pytest.raises(DataError, match=found) as raised:
        open_volume(register_network("bad", network, where), "cpu")
    assert "registered:bad" in str(raised.value)


@pytest.mark.parametrize("kind", [*RUNS_CODE, "onnx"])
def test_damaged_and_missing_files_are_named(tmp_path, kind):
    entry = {"kind": kind, "file": "wave.bin"}
    if kind == "class":
        entry["class"] = "apmgsrn_core.baselines.siren.Siren"
    path = foreign.write_description(tmp_path, entry)
    with pytest.raises(ModelFileError, match=r"wave\.bin"):
        open_volume(path, "cpu", trust=True)
    (tmp_path / "wave.bin").write_bytes(b"not a network")
    with pytest.raises(ModelFileError, match="onnxruntime" if kind == "onnx" and not has_onnxruntime else r"wave\.bin"):
        open_volume(path, "cpu", trust=True)


def test_a_class_is_found_or_named(tmp_path):
    path = saved(tmp_path, "class")
    data = json.loads(path.read_text())
    assert data["network"] == {
        "kind": "class", "file": "wave.safetensors", "class": "Wave", "arguments": {"outputs": 1},
        "code": "foreign_networks.py",
    }  # fmt: skip
    for changes, found in (
        ({"class": "Missing"}, "Missing"), ({"arguments": {"inputs": 3}}, "inputs"), ({"arguments": {"outputs": 2}}, "size"),
        ({"class": "Path"}, "torch module"),
    ):  # fmt: skip
        arguments = {} if changes.get("class") == "Path" else data["network"]["arguments"]
        broken = {**data, "network": {**data["network"], "arguments": arguments, **changes}}
        path.write_text(json.dumps(broken))
        with pytest.raises(ModelFileError, match=found):
            open_volume(path, "cpu", trust=True)


def test_what_cannot_be_saved_is_told(tmp_path):
    with pytest.raises(ConfigError, match="network.json"):
        save_network(tmp_path / "wave.json", Wave(), GRID, ARRAYS)
    with pytest.raises(ConfigError, match="arguments"):
        save_network(tmp_path / "wave.network.json", Wave(), GRID, ARRAYS)
    with pytest.raises(ConfigError, match="onnx"):
        save_network(tmp_path / "wave.network.json", Wave(), GRID, ARRAYS, "onnx")
    with pytest.raises(ConfigError, match="needs no class"):
        save_network(tmp_path / "wave.network.json", Wave(), GRID, ARRAYS, "export", arguments={})

    class Local(Wave):
        pass

    with pytest.raises(ConfigError, match="imported"):
        save_network(tmp_path / "wave.network.json", Local(), GRID, ARRAYS, arguments={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "grid",
    [
        Grid((7, 9, 8), (1, 2, 3), (-0.5, 1, 2), ((0, -1, 0), (1, 0, 0), (0, 0, 1))),
        Grid.stretched(((0.0, 1.0, 4.0, 5.0), (3.0, 2.0, 0.0), (0.0, 0.1, 1.0))),
        Grid((9, 8, 7), association="cell"),
    ],
)
def test_lattices_survive_saving(tmp_path, grid):
    arrays = (ArrayInfo("wave", grid.association, 1, "uint8", (0.0, 255.0), "K"),)
    path = save_network(tmp_path / "wave.network.json", Wave(), grid, arrays, "torchscript")
    volume = open_volume(path, "cpu", trust=True)
    assert volume.grid == grid and volume.arrays == arrays


def test_a_registered_module_stays_where_it_is():
    network = Wave().train()
    path = register_network("module", network, {k: foreign.description({})[k] for k in ("grid", "arrays")})
    volume = open_volume(path, "cpu")
    assert volume.function is network and network.training
    before = volume.sample_points(foreign.inside(5))
    with torch.no_grad():
        network.weights.mul_(2)
    assert not np.allclose(before, volume.sample_points(foreign.inside(5)))  # it is evaluated as it is now
    with pytest.raises(DeviceError):
        open_volume(path, "cuda:99")


def test_a_foreign_network_is_rendered_as_it_is_sampled(tmp_path):
    from apmgsrn_core.rendering.camera import Camera
    from apmgsrn_core.rendering.render_options import RenderOptions
    from apmgsrn_core.rendering.renderer import VolumeRenderer
    from apmgsrn_core.rendering.transfer_function import TransferFunction

    volume = open_volume(saved(tmp_path, "torchscript"), "cpu", trust=True)
    camera = Camera.looking_at(GRID.bounds, 30, 20, (25, 19))
    colours = [-10.0, 0, 0, 1, 15.0, 0, 1, 0, 30.0, 1, 0, 0]
    function = TransferFunction.from_points(colours, [15.0, 0.0, 0.5, 0.0, 30.0, 1.0, 0.5, 0.0], 1.0)
    renderer = VolumeRenderer(volume)
    picture = renderer.render(camera, function, RenderOptions())
    whole = renderer.render(camera, function, RenderOptions(skip=False, opacity_limit=1.0))
    assert abs(picture.rgba - whole.rgba).max() < 0.02 and picture.samples < whole.samples
    assert 0.2 < picture.rgba[..., 3].max() <= 1 and (picture.rgba[..., 3] == 0).any()
    surface = renderer.render(camera, function, RenderOptions(mode="isosurface", iso_values=(20.0,), shading=True))
    rows, columns = np.nonzero(np.isfinite(surface.depth))
    assert len(rows) > 10
    origins, directions = camera.rays(rows * 25 + columns)
    forward = np.array(camera.focal_point) - np.array(camera.position)
    along = surface.depth[rows, columns] / (directions @ (forward / np.linalg.norm(forward)))
    found = volume.sample_points(origins + along[:, None] * directions)
    inner = np.isfinite(found)
    assert inner.mean() > 0.8 and np.median(abs(found[inner] - 20)) < 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", RUNS_CODE)
def test_each_kind_runs_on_a_gpu(tmp_path, kind):
    path = saved(tmp_path, kind)
    volume = open_volume(path, "cuda", trust=True)
    assert volume.device.type == "cuda" and volume.derivatives == "autograd"
    check_wave(volume)
    points = foreign.inside(501)
    half = open_volume(path, "cuda", trust=True, precision="fast").sample_points(points)
    assert 0 < abs(half - volume.sample_points(points)).max() < 0.1


# -- ONNX ------------------------------------------------------------------------------------------


def test_onnx_without_onnxruntime_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "wave.onnx").write_bytes(foreign.onnx_wave())
    path = foreign.write_description(tmp_path, {"kind": "onnx", "file": "wave.onnx"})
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelFileError, match="pip install onnxruntime"):
        open_volume(path, "cpu", trust=True)


def test_onnx_needs_trust(tmp_path, monkeypatch):
    """It is a program, too; without trust onnxruntime is not even imported."""
    (tmp_path / "wave.onnx").write_bytes(foreign.onnx_wave())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(TrustError, match="onnxruntime.*trust=True.*--trust.*TrustFile"):
        open_volume(foreign.write_description(tmp_path, {"kind": "onnx", "file": "wave.onnx"}), "cpu")


@pytest.mark.skipif(not has_onnxruntime, reason="needs onnxruntime")
def test_onnx_is_evaluated(tmp_path):
    (tmp_path / "wave.onnx").write_bytes(foreign.onnx_wave())
    volume = open_volume(foreign.write_description(tmp_path, {"kind": "onnx", "file": "wave.onnx"}), "cpu", trust=True)
    assert volume.derivatives == "central differences"
    check_wave(volume, accuracy=1e-3)


class Session:
    """What `OnnxNetwork` uses of an InferenceSession."""

    def __init__(self, file, options, providers):
        self.made = file, options.intra_op_num_threads, providers

    def get_inputs(self):
        return [types.SimpleNamespace(name="points")]

    get_outputs = get_inputs

    def run(self, names, inputs):
        assert names is None and inputs["points"].dtype == np.float32
        return [np.sin(inputs["points"] @ foreign.WEIGHTS[:, :1])]


def test_onnx_gets_points_and_gives_tensors(tmp_path):
    runtime = types.SimpleNamespace(
        SessionOptions=types.SimpleNamespace, InferenceSession=Session, get_available_providers=lambda: ["CPUExecutionProvider"]
    )
    network = OnnxNetwork(runtime, tmp_path / "wave.onnx", torch.device("cpu"))
    points = torch.rand(5, 3, requires_grad=True)
    assert torch.allclose(network(points), Wave()(points.detach()), atol=1e-6)
    with pytest.raises(DeviceError, match="CUDA"):
        OnnxNetwork(runtime, tmp_path / "wave.onnx", torch.device("cuda", 0))
    runtime.InferenceSession = type("Two", (Session,), {"get_outputs": lambda self: [1, 2]})
    with pytest.raises(ModelFileError, match="one input and one output"):
        OnnxNetwork(runtime, tmp_path / "wave.onnx", torch.device("cpu"))
