"""`python -m apmgsrn_core`, run as its own process."""

import csv
import gzip
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from apmgsrn_core import ArraySpec, Grid, NeuralVolume, TrainConfig, psnr, read_header, save_network, ssim, train_volume
from apmgsrn_core.device import trains_quickly
from apmgsrn_core.rendering.camera import Camera
from apmgsrn_core.command_line import main
from apmgsrn_core.command_line.image_data_file import read_image_data
from apmgsrn_core.command_line.volume_files import write_volume
from apmgsrn_core.file.weights import common_config
from apmgsrn_core.rendering.render_options import RenderOptions
from apmgsrn_core.rendering.renderer import VolumeRenderer
from apmgsrn_core.rendering.transfer_function import TransferFunction
from foreign_networks import ARRAYS, Wave, wave_at
from foreign_networks import GRID as GRID_OF_WAVE
from reference_folders import ReferencePart, lattice
from volumes import wave

ROOT = Path(__file__).resolve().parent.parent
TINY = ("--iterations", "60", "--batch-size", "512", "--device", "cpu", "--quiet")
GRID = {"origin": (5.0, -2.0, 1.0), "spacing": (0.5, 0.25, 2.0)}


def run(*words, status=0, cwd=None):
    """Run the program to the end; its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "apmgsrn_core", *map(str, words)],
        cwd=cwd or ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    if status:
        assert done.stdout == "" and len(done.stderr.splitlines()) == 1, done.stderr
        return done.stderr.strip()
    assert all(line.startswith("apmgsrn train: warning: ") for line in done.stderr.splitlines()), done.stderr
    return done.stdout


@pytest.fixture
def inside(capsys):
    """`run` in this process, which has torch already."""

    def call(*words):
        assert main([str(word) for word in words]) == 0
        return capsys.readouterr().out

    return call


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of a scalar and a vector in bricks at two times, and the data."""
    path = tmp_path_factory.mktemp("model") / "two.apmgsrn"
    values, grid = wave((9, 8, 7), components=4, **GRID)
    arrays = [ArraySpec("t", unit="K"), ArraySpec("v", 3)]
    settings = {"arrays": arrays, "train": TrainConfig(iterations=60, batch_size=512), "device": "cpu", "path": path}
    for moment in (1.0, 2.5):
        train_volume(values * moment, grid, time=moment, series=True, append=path if moment > 1 else None, bricks=(2, 1, 1),
                     on_progress=lambda state: True, **settings)  # fmt: skip
    return path, values, grid


@pytest.fixture(scope="module")
def scalar(tmp_path_factory):
    """A model of one array with good quality, and its data as .npy."""
    folder = tmp_path_factory.mktemp("scalar")
    values, _ = wave((9, 8, 7))
    np.save(folder / "wave.npy", values)
    run("train", folder / "wave.npy", "-o", folder / "wave.apmgsrn", "--iterations", "400", "--device", "cpu", "--quiet")
    return folder / "wave.apmgsrn", values


def vti(path, arrays, grid):
    write_volume(str(path), arrays, grid)
    return path


# -- train and info --------------------------------------------------------------------------------


def told(text):
    return dict(line.split(": ", 1) for line in text.splitlines())


@pytest.mark.slow
def test_training_takes_every_kind_of_file_to_the_same_model(tmp_path):
    values, _ = wave((9, 8, 7), dtype="int16")
    grid = Grid((9, 8, 7), **GRID)
    np.save(tmp_path / "f.npy", values)
    (tmp_path / "f_9x8x7_int16.raw").write_bytes(values.tobytes())
    (tmp_path / "f.bin").write_bytes(b"head" + values.astype(">i2").tobytes())
    vti(tmp_path / "f.vti", {"f": values}, grid)
    head = "NRRD0004\ntype: short\ndimension: 3\nsizes: 9 8 7\nspace: left-posterior-superior\nendian: little\n"
    head += "space directions: (0.5,0,0) (0,0.25,0) (0,0,2)\nspace origin: (5,-2,1)\nencoding: gzip\n\n"
    (tmp_path / "f.nrrd").write_bytes(head.encode() + gzip.compress(values.tobytes()))
    place = ["--spacing", "0.5", "0.25", "2", "--origin", "5", "-2", "1"]
    raw = ["--dims", 9, 8, 7, "--dtype", "int16", "--skip-bytes", 4, "--big-endian"]
    models = set()
    for name, more in {
        "f.npy": place, "f_9x8x7_int16.raw": place, "f.bin": place + raw, "f.vti": [], "f.nrrd": [],
    }.items():  # fmt: skip
        run("train", tmp_path / name, "-o", tmp_path / "m.apmgsrn", *TINY, *more)
        models.add((tmp_path / "m.apmgsrn").read_bytes())
        header = read_header(tmp_path / "m.apmgsrn")
        assert (header.arrays[0].name, header.arrays[0].dtype, header.grid) == ("f", "int16", grid)
        (tmp_path / "m.apmgsrn").unlink()
    assert len(models) == 1


@pytest.mark.slow
def test_options_reach_both_configurations(tmp_path):
    np.save(tmp_path / "f.npy", wave((9, 8, 7))[0])
    words = ["--number-of-grids", 4, "--grid-resolution", 3, 4, 5, "--features-per-grid", 2, "--hidden-width", 16, "--bias"]
    words += ["--lattice", 3, 3, 3, 2, "--storage", "float32", "--unit", "K", "--seed", 3, "--placement", "random", "--array", "g"]
    out = told(run("train", tmp_path / "f.npy", "-o", tmp_path / "m.apmgsrn", *TINY, *words, "--bricks", 2, 1, 1, "--cells"))
    assert out["stopped"] == "iterations" and float(out["psnr_db"]) > 5 and out["model"].endswith("m.apmgsrn")
    found = json.loads(run("info", tmp_path / "m.apmgsrn", "--json"))
    model, training = found["model"], found["training"]
    assert (model["number_of_grids"], model["grid_resolution"], model["bias"]) == (4, [3, 4, 5], True)
    assert model["lattices"] == [{"resolution": [3, 3, 3], "features": 2}] and model["storage"] == "float32"
    assert (training["seed"], training["placement"], training["iterations"]) == (3, "random", 60)
    assert (found["layout"]["counts"], found["arrays"][0]["name"], found["arrays"][0]["unit"]) == ([2, 1, 1], "g", "K")
    assert found["grid"]["dims"] == [10, 9, 8] and found["bytes"] == (tmp_path / "m.apmgsrn").stat().st_size


@pytest.mark.slow
def test_files_are_steps_or_arrays(tmp_path):
    values, _ = wave((9, 8, 7))
    for number in range(3):
        np.save(tmp_path / f"u_{number}.npy", values * (number + 1))
    files = [tmp_path / f"u_{number}.npy" for number in range(3)]
    model = tmp_path / "s.apmgsrn"
    run("train", *files[:2], "-o", model, "--times", 1, 2.5, *TINY)
    run("train", files[2], "-o", model, "--append", model, "--times", 7, "--array", "u", *TINY)
    header = read_header(model)
    assert (header.times, [a.name for a in header.arrays]) == ((1.0, 2.5, 7.0), ["u"])
    again = model.read_bytes()
    out = run("train", *files, "-o", model, "--times", 1, 2.5, 7, *TINY)  # goes on: all is there
    assert model.read_bytes() == again and out.count("stopped: ") == 3
    run("train", *files, "-o", tmp_path / "a.apmgsrn", "--files-are", "arrays", *TINY)
    assert [a.name for a in read_header(tmp_path / "a.apmgsrn").arrays] == ["u_0", "u_1", "u_2"]
    message = run("train", files[0], "-o", tmp_path / "b.apmgsrn", "--append", model, *TINY, status=2)
    assert "--times: expected 1 for the steps that are appended, found none" in message


@pytest.mark.slow
def test_an_interrupted_training_goes_on(tmp_path):
    np.save(tmp_path / "f.npy", wave((33, 32, 31))[0])
    words = ["--iterations", 4000, "--batch-size", 1000, "--device", "cpu", "--quiet", "--checkpoint-interval", 0.2]
    command = ["train", tmp_path / "f.npy", "-o", tmp_path / "m.apmgsrn", *words]
    process = subprocess.Popen(
        [sys.executable, "-m", "apmgsrn_core", *map(str, command)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    while not any((tmp_path / "m.apmgsrn.training").glob("*.state")) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert (process.returncode, message.strip().splitlines()[-1]) == (130, "apmgsrn train: interrupted")
    assert any((tmp_path / "m.apmgsrn.training").glob("*")) and not (tmp_path / "m.apmgsrn").exists()
    run(*command)
    run(*command[:3], tmp_path / "whole.apmgsrn", *words)
    assert (tmp_path / "m.apmgsrn").read_bytes() == (tmp_path / "whole.apmgsrn").read_bytes()
    assert not (tmp_path / "m.apmgsrn.training").exists()


@pytest.mark.slow
def test_info_tells_the_header(model):
    text = run("info", model[0])
    for part in ("9 x 8 x 7 on points", "2 x 1 x 1, ghosts 0", "2: 1 2.5", "float32", "number_of_grids", "hidden_layers"):
        assert part in text, part
    assert "K" in next(line for line in text.splitlines() if line.startswith("t "))
    low, high = float(model[1][..., 0].min()), float(model[1][..., 0].max()) * 2.5
    row = next(line for line in text.splitlines() if line.startswith("t ")).split()
    assert (float(row[4]), float(row[5])) == (pytest.approx(low, rel=1e-5), pytest.approx(high, rel=1e-5))


def test_error_bounds_are_kept_told_and_left_out_on_request(tmp_path, inside):
    values, _ = wave((17, 16, 15))
    for number in range(2):
        np.save(tmp_path / f"u_{number}.npy", values * (number + 1))
    files, model = [tmp_path / f"u_{number}.npy" for number in range(2)], tmp_path / "m.apmgsrn"
    bounds = ["--error-bound-mode", "absolute", "--error-bounds", 0, 0.25]
    out = told(inside("train", *files, "-o", model, "--files-are", "arrays", *TINY, "--preset", "small", *bounds))
    assert out["error_bound of u_1"] == "0.25" and "error_bound of u_0" not in out and "1 brick with" in out["residual"]
    text = inside("info", model)
    rows = {line.split()[0]: line.split()[-1] for line in text.splitlines() if line.startswith(("array ", "u_"))}
    assert "error bound" in text and (rows["u_0"], rows["u_1"]) == ("-", "0.25")
    assert f"residual:     {out['residual']}" in text.splitlines() and "error_bounds            0 0.25" in text
    with_it, without = (
        json.loads(inside("compare", model, files[1], "--array", "u_1", "--json", "--device", "cpu", *more))[0]["max_error"]
        for more in ([], ["--network-alone"])
    )
    assert with_it <= 0.25 < without
    relative = ["--preset", "small", "--error-bound", 0.01]
    out = told(inside("train", files[0], "-o", tmp_path / "r.apmgsrn", *TINY, *relative))
    assert float(out["error_bound of u_0"]) == pytest.approx(0.01 * np.ptp(values), rel=1e-5)


def test_models_without_error_bounds_are_told_as_before(scalar, inside):
    text = inside("info", scalar[0])
    assert "error bound" not in text and "residual" not in text


# -- sample, export, compare -----------------------------------------------------------------------


@pytest.mark.slow
def test_sample_writes_what_the_volume_has(model, tmp_path):
    path, _, grid = model
    random = np.random.default_rng(0)
    points = random.uniform(grid.bounds[0::2], grid.bounds[1::2], (50, 3))
    points[0] = 1e6
    volume = NeuralVolume.open(path, "cpu")
    with (tmp_path / "p.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "Z", "x", "Y"], *[[i, p[2], p[0], p[1]] for i, p in enumerate(points.tolist())]])
    run("sample", path, tmp_path / "p.csv", "-o", tmp_path / "q.csv", "--time", 2.5, "--device", "cpu")
    with (tmp_path / "q.csv").open() as file:
        head, *rows = csv.reader(file)
    found = np.array(rows, dtype=float)
    assert head == ["x", "y", "z", "t", "v:0", "v:1", "v:2"]
    np.testing.assert_array_equal(found[:, :3], points)
    np.testing.assert_array_equal(found[:, 3].astype("f4"), volume.sample_points(points, "t", 2.5))
    np.testing.assert_array_equal(found[:, 4:].astype("f4"), volume.sample_points(points, "v", 2.5))
    assert np.isnan(found[0, 3:]).all() and np.isfinite(found[1:]).all()
    np.save(tmp_path / "p.npy", points)
    run("sample", path, tmp_path / "p.npy", "-o", tmp_path / "q.npy", "--array", "v", "--derivatives", "--time", 1.7, "--between",
        "--device", "cpu")  # fmt: skip
    values, slopes = volume.sample_derivatives(points, "v", 1.7, True)
    np.testing.assert_allclose(np.load(tmp_path / "q.npy"), np.concatenate([values, slopes.reshape(-1, 9)], 1), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("choice", [[], ["--scale", "2"], ["--dims", "5", "9", "4"]], ids=str)
def test_export_writes_the_lattice_in_all_kinds(model, tmp_path, inside, choice):
    path, _, grid = model
    volume = NeuralVolume.open(path, "cpu")
    wanted = grid.scaled(2) if "--scale" in choice else grid.with_dims((5, 9, 4)) if choice else grid
    for kind in ("npy", "raw", "vti"):
        out = inside("export", path, "-o", tmp_path / f"e.{kind}", "--time", "1", "--device", "cpu", *choice)
        assert f"t: {' x '.join(map(str, wanted.dims))} values, 1 x float32" in out
    expected = volume.sample_region(grid=wanted, field="t")
    np.testing.assert_array_equal(np.load(tmp_path / "e.npy"), expected)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "e.raw", "<f4").reshape(expected.shape), expected)
    arrays, found = read_image_data(tmp_path / "e.vti")
    np.testing.assert_array_equal(arrays["point", "t"], expected)
    np.testing.assert_array_equal(arrays["point", "v"], volume.sample_region(grid=wanted, field="v"))
    np.testing.assert_allclose([*found.origin, *found.spacing], [*wanted.origin, *wanted.spacing])


@pytest.mark.slow
def test_export_of_a_region_has_its_values(model, tmp_path, inside):
    path, _, grid = model
    box = (5.6, 8.1, -1.6, -1.6, 0, 100)  # x indices 2 to 6, y the nearest, all of z
    inside("export", path, "-o", tmp_path / "e.vti", "--array", "v", "--region", *box, "--device", "cpu")
    arrays, found = read_image_data(tmp_path / "e.vti")
    whole = NeuralVolume.open(path, "cpu").sample_region(field="v")
    assert (found.dims, found.origin) == ((5, 1, 7), (6.0, -1.5, 1.0))
    np.testing.assert_array_equal(arrays["point", "v"], whole[:, 2:3, 2:7])


@pytest.mark.slow
def test_export_in_the_original_type(tmp_path):
    values, _ = wave((9, 8, 7), dtype="uint8")
    np.save(tmp_path / "f.npy", values)
    run("train", tmp_path / "f.npy", "-o", tmp_path / "m.apmgsrn", "--cells", *TINY)
    run("export", tmp_path / "m.apmgsrn", "-o", tmp_path / "e.vti", "--dtype", "original")
    arrays, grid = read_image_data(tmp_path / "e.vti")
    assert arrays["cell", "f"].dtype == np.uint8 and grid.dims == (10, 9, 8)
    run("export", tmp_path / "m.apmgsrn", "-o", tmp_path / "r.vti", "--dtype", "original", "--region", 2, 3, 2, 2, 0, 4)
    part, where = read_image_data(tmp_path / "r.vti")
    np.testing.assert_array_equal(part["cell", "f"], arrays["cell", "f"][0:4, 2:3, 2:3])
    assert where.origin == (2, 2, 0)


@pytest.mark.slow
def test_compare_has_the_figures_of_the_metrics(scalar, tmp_path):
    path, values = scalar
    found = NeuralVolume.open(path, "cpu").sample_region()
    np.save(tmp_path / "d.npy", values)
    (row,) = json.loads(run("compare", path, tmp_path / "d.npy", "--json", "--device", "cpu"))
    error = found.astype(float) - values
    assert row["psnr"] == pytest.approx(psnr(values, found)) and row["psnr"] > 30
    assert row["ssim"] == pytest.approx(ssim(values, found))
    assert row["max_error"] == pytest.approx(abs(error).max())
    assert row["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    assert row["relative_l2"] == pytest.approx(np.linalg.norm(error) / np.linalg.norm(values.astype(float)))
    assert (row["compared"], row["left_out"]) == (values.size, 0)
    head, line = run("compare", path, tmp_path / "d.npy", "--device", "cpu", "--no-ssim").splitlines()
    assert "PSNR dB" in head and "SSIM" not in head and line.split()[0] == "d"
    assert float(line.split()[1]) == pytest.approx(row["psnr"], rel=1e-5)


def test_compare_goes_by_places_and_names(model, tmp_path, inside):
    path, values, grid = model
    arrays = {"v": values[..., 1:], "t": values[..., 0], "other": values[..., 0]}
    rows = json.loads(inside("compare", path, vti(tmp_path / "d.vti", arrays, grid), "--json", "--device", "cpu"))
    assert [row["array"] for row in rows] == ["v", "t"] and all(row["psnr"] > 5 for row in rows)
    half = grid.part((0, 0, 0), (5, 8, 7))
    part = {name: a[:, :, :5] for name, a in arrays.items()}
    (row,) = json.loads(inside("compare", path, vti(tmp_path / "h.vti", part, half), "--json", "--array", "t", "--device", "cpu"))
    found = NeuralVolume.open(path, "cpu").sample_region(field="t")[:, :, :5]
    assert row["psnr"] == pytest.approx(psnr(part["t"], found))


def test_a_foreign_network_is_a_model_when_it_is_trusted(tmp_path, inside, capsys):
    path = save_network(tmp_path / "wave.network.json", Wave(), GRID_OF_WAVE, ARRAYS, "torchscript")
    assert "9 x 8 x 7 on points" in inside("info", path)
    assert json.loads(inside("info", path, "--json"))["arrays"][0]["name"] == "wave"
    assert main(["export", str(path), "-o", str(tmp_path / "e.npy")]) == 2
    assert "trust" in capsys.readouterr().err and not (tmp_path / "e.npy").exists()
    inside("export", path, "-o", tmp_path / "e.npy", "--trust", "--device", "cpu")
    z, y, x = np.meshgrid(*map(np.arange, (7, 8, 9)), indexing="ij")
    expected = 10 + 20 * wave_at(GRID_OF_WAVE.index_to_world(np.stack([x, y, z], -1).reshape(-1, 3)))
    np.testing.assert_allclose(np.load(tmp_path / "e.npy").ravel(), expected[:, 0], rtol=1e-5)


# -- render and convert ----------------------------------------------------------------------------


def read_png(path):
    """[h, w, 4] uint8 of a PNG without filters."""
    data, chunks, at = path.read_bytes(), {}, 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunks[kind] = data[at + 8 : at + 8 + length]
        at += 12 + length
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 4 * width)
    return rows[:, 1:].reshape(height, width, 4)


@pytest.mark.slow
def test_render_is_the_picture_of_the_renderer(scalar, tmp_path):
    path, _ = scalar
    volume = NeuralVolume.open(path, "cpu")
    low, high = volume.arrays[0].range
    colours, opacities = [low, 0, 0, 1, high, 1, 1, 0], [low, 0, high, 0.9]
    words = ["--size", 41, 30, "--azimuth", 50, "--elevation", -10, "--unit-distance", 0.7, "--shading", "--background", 0.1, 0.2, 0.3]
    words += ["--clip-box", 1, 7, 0, 7, 0, 6, "--clip-plane", 4, 0, 0, -1, 0.2, 0, "--device", "cpu", "--quiet"]
    out = run("render", path, "-o", tmp_path / "r.png", "--colours", *colours, "--opacities", *opacities, *words,
              "--depth", tmp_path / "d.npy")  # fmt: skip
    chosen = RenderOptions(shading=True, background=(0.1, 0.2, 0.3), clip_box=(1, 7, 0, 7, 0, 6), clip_planes=((4, 0, 0, -1, 0.2, 0),))
    function = TransferFunction([low, high], [[0, 0, 1], [1, 1, 0]], [0, 0.9], 0.7)
    picture = VolumeRenderer(volume).render(Camera.looking_at(volume.grid.bounds, 50, -10, (41, 30)), function, chosen)
    found = read_png(tmp_path / "r.png")
    assert found.shape == (30, 41, 4) and len(np.unique(found.reshape(-1, 4), axis=0)) > 30
    np.testing.assert_allclose(found.astype(int), picture.bytes()[::-1], atol=1)
    np.testing.assert_allclose(np.load(tmp_path / "d.npy"), picture.depth[::-1], rtol=1e-4)
    assert f"41 x 30, {picture.samples} samples" in out


@pytest.mark.slow
def test_render_takes_colour_maps_of_paraview_and_cameras(scalar, tmp_path):
    path, _ = scalar
    colour_map = [{"Name": "m", "RGBPoints": [0, 0, 1, 0, 2, 0, 1, 0], "Points": [0, 0.5, 0.5, 0, 2, 1, 0.5, 0]}]
    (tmp_path / "m.json").write_text(json.dumps(colour_map))
    camera = ["--position", 4, 3.5, 40, "--view-up", 0, 1, 0, "--parallel-scale", 2, "--size", 9, 8, "--device", "cpu"]
    run("render", path, "-o", tmp_path / "r.png", "--transfer-function", tmp_path / "m.json", *camera)
    found = read_png(tmp_path / "r.png")
    assert (found[..., 3] > 100).all() and (found[..., 1] > 250).all() and not found[..., [0, 2]].any()
    run("render", path, "-o", tmp_path / "i.png", "--mode", "isosurface", "--iso-values", "140", *camera)
    assert read_png(tmp_path / "i.png")[..., 3].any()


@pytest.mark.slow
def test_convert_makes_a_model_of_the_published_code(tmp_path):
    part = ReferencePart(fused=True)
    part.save(tmp_path / "m", (7, 8, 9))
    out = run("convert", tmp_path / "m", "-o", tmp_path / "m.apmgsrn", "--array", "speed", "--spacing", 1, 2, 3)
    assert out.strip().endswith(f"{(tmp_path / 'm.apmgsrn').stat().st_size} bytes")
    run("export", tmp_path / "m.apmgsrn", "-o", tmp_path / "e.npy")
    np.testing.assert_allclose(np.load(tmp_path / "e.npy").reshape(-1, 1), part.forward(lattice((7, 8, 9))).numpy(), atol=1e-4)
    assert read_header(tmp_path / "m.apmgsrn").grid.spacing == (1, 2, 3)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, expected",
    [
        ("info none.apmgsrn", "none.apmgsrn: cannot be opened"),
        ("info text.npy", "text.npy: not an .apmgsrn file"),
        ("train none.npy -o m.apmgsrn", "none.npy: cannot be read: No such file"),
        ("train text.npy -o m.apmgsrn", "text.npy: not a .npy file of numbers"),
        ("train f.npy -o m.vti", "m.vti: expected a file that ends in .apmgsrn"),
        ("train f.npy -o none/m.apmgsrn", "cannot be written"),
        ("train f.npy -o m.apmgsrn --dims 9 8 7", "--dims: expected only with .raw"),
        ("train f.vti -o m.apmgsrn --spacing 1 1 1", "--spacing: expected only with .npy and .raw"),
        ("train f.vti -o m.apmgsrn --array g", "f.vti: no array 'g'; there are f"),
        ("train cut.vti -o m.apmgsrn", "cut.vti: not an image file that can be read"),
        ("train f.raw -o m.apmgsrn", "f.raw: expected --dims NX NY NZ and --dtype TYPE"),
        ("train f.raw -o m.apmgsrn --dims 9 8 7 --dtype float32", "f.raw: expected 2016 bytes"),
        ("train f.npy -o m.apmgsrn --number-of-grids -1", "number_of_grids: expected a number from 0"),
        ("train f.npy -o m.apmgsrn --preset huge", "preset: expected one of"),
        ("train f.npy f.npy -o m.apmgsrn --times 1", "--times: expected 2 for as many files, found 1"),
        ("train f.npy f.npy -o m.apmgsrn --files-are arrays", "expected another array than in the files before it"),
        ("train f.npy none.npy -o m.apmgsrn", "none.npy: cannot be read: No such file"),
        ("train f.npy small.npy -o m.apmgsrn", "small.npy: expected the lattice of f.npy, 9 x 8 x 7 points"),
        ("train f.npy f.npy -o m.apmgsrn --times 1 1", "--times: expected rising ones, found 1 1"),
        ("train f.npy -o m.apmgsrn --error-bound-mode absolute", "--error-bound-mode: expected --error-bound or --error-bounds with it"),
        ("train f.npy -o m.apmgsrn --error-bound 0.1 --error-bounds 0.2", "--error-bounds: expected no --error-bound with it"),
        ("train f.npy -o m.apmgsrn --rate-step 0.5", "--rate-step: expected --rate-bytes with it, found none"),
        ("train huge.npy -o m.apmgsrn --error-bound 0.01", "expected values up to 3.4e+38 for an error bound, which float32 holds"),
        ("train f.npy -o m.apmgsrn --error-bound 0.01 --stop-psnr 20", "trained for bytes (rate_bytes, an error_bound), found 20"),
        ("train f.npy -o m.apmgsrn --itertions 5", "unrecognized arguments: --itertions"),
        ("train f.npy", "the following arguments are required: -o/--output"),
        ("sample m.apmgsrn bad.csv -o q.csv", "bad.csv: line 2: expected numbers x, y, z, found '1,2,c'"),
        ("sample m.apmgsrn f.npy -o q.csv", "f.npy: expected points of shape (n, 3)"),
        ("export w.apmgsrn -o e.npy --array no", "no array 'no'; there are wave"),
        ("export w.apmgsrn -o e.png", "expected a file that ends in .npy or .raw or .vti"),
        ("export w.apmgsrn -o e.npy --scale 0", "scale: expected a positive number, found 0.0"),
        ("export w.apmgsrn -o e.vti --scale 100000", "dims: expected at most 281474976710656 points in all"),
        ("export w.apmgsrn -o e.npy --time 3", "--time: expected none, of a model without time steps, found 3"),
        ("export w.apmgsrn -o e.npy --scale 2 --dims 5 5 5", "not allowed with argument --scale"),
        ("compare w.apmgsrn small.npy", "small.npy: expected (9, 8, 7) values as the model has, found (4, 3, 2)"),
        ("compare w.apmgsrn f.vti --array g", "no array 'g'"),
        ("render w.apmgsrn -o r.png --position 1 2 3 --azimuth 4", "--azimuth: expected only without --position"),
        ("render w.apmgsrn -o r.png --view-up 0 0 1", "--view-up: expected only with --position"),
        ("render w.apmgsrn -o r.png --size 0 9", "--size: expected pixels from 1 on, found (0, 9)"),
        ("render w.apmgsrn -o r.png --azimuth nan", "Camera.position: expected finite numbers"),
        ("train f.raw -o m.apmgsrn --dims 9 8 7 --dtype float32 --components 0", "f.raw: expected positive sizes"),
        ("train f.npy -o m.apmgsrn --components 0", "--components: expected only with .raw"),
        ("render w.apmgsrn -o r.png --mode glow", "mode: expected one of"),
        ("render w.apmgsrn -o r.png --opacities 1 2 3", "--opacities: expected a value and an opacity a point"),
        ("render w.apmgsrn -o r.png --own-values", "--own-values: expected only with --transfer-function"),
        ("render w.apmgsrn -o r.png --transfer-function f.npy", "f.npy: expected a colour map of ParaView"),
        ("convert none -o m.apmgsrn", "options.json: cannot be opened"),
        ("info w.apmgsrn --device cpu", "unrecognized arguments: --device cpu"),
        ("", "the following arguments are required: COMMAND"),
    ],
)
def test_what_is_wrong_is_one_line(scalar, tmp_path, monkeypatch, capsys, words, expected):
    values, grid = wave((9, 8, 7))
    np.save(tmp_path / "f.npy", values)
    np.save(tmp_path / "small.npy", values[:2, :3, :4])
    np.save(tmp_path / "huge.npy", values * 1e300)
    (tmp_path / "f.raw").write_bytes(b"1234")
    (tmp_path / "text.npy").write_text("no numbers here, but more than sixty-four characters, as a model file must have")
    (tmp_path / "bad.csv").write_text("x,y,z\n1,2,c\n")
    text = vti(tmp_path / "f.vti", {"f": values}, grid).read_bytes()
    (tmp_path / "cut.vti").write_bytes(text[: len(text) // 2])
    (tmp_path / "w.apmgsrn").write_bytes(scalar[0].read_bytes())
    monkeypatch.chdir(tmp_path)
    status = None
    try:
        status = main(words.split())
    except SystemExit as end:  # of the parser
        status = end.code
    out, message = capsys.readouterr()
    assert (status, out, len(message.splitlines())) == (2, "", 1)
    assert message.startswith("apmgsrn") and expected in message
    assert not list(tmp_path.glob("m.apmgsrn*")) and not list(tmp_path.glob("*.png"))


def test_errors_of_a_process_have_a_status_and_no_traceback(tmp_path):
    message = run("info", "none.apmgsrn", status=2, cwd=tmp_path)
    assert message == "apmgsrn info: none.apmgsrn: cannot be opened: No such file or directory"
    np.save(tmp_path / "f.npy", wave((9, 8, 7))[0])
    message = run("train", "f.npy", "-o", "m.apmgsrn", "--hidden-width", 0, status=2, cwd=tmp_path)
    assert message == "apmgsrn train: hidden_width: expected a number from 1 to 4096, found 0"


def test_the_program_starts_without_torch():
    code = "import sys, apmgsrn_core.command_line; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


@pytest.mark.parametrize(
    "words", ["train f.npy -o n.apmgsrn", "export m.apmgsrn -o e.npy", "render m.apmgsrn -o r.png", "convert folder -o n.apmgsrn"]
)
def test_without_torch_it_says_what_is_missing(scalar, tmp_path, words):
    np.save(tmp_path / "f.npy", scalar[1])
    (tmp_path / "m.apmgsrn").write_bytes(scalar[0].read_bytes())
    code = "import sys; sys.modules['torch'] = None; from apmgsrn_core.command_line import main; sys.exit(main(sys.argv[1:]))"

    def call(*arguments):
        command = [sys.executable, "-c", code, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    done = call(*words.split())
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1) and "torch cannot be imported" in done.stderr
    assert call("info", "m.apmgsrn").returncode == 0


def test_what_is_trained_by_default_and_by_the_preset_compact(tmp_path, inside):
    """As in ParaView: for its bytes where all other options go with that, otherwise the small network."""
    values, _ = wave((17, 16, 15))
    np.save(tmp_path / "f.npy", values)
    kinds = {}
    for name, more in {
        "automatic": (), "compact": ("--preset", "compact"), "bytes": ("--rate-bytes", 4000), "small": ("--preset", "small"),
        "fields": ("--number-of-grids", 4), "psnr": ("--stop-psnr", 60), "bricks": ("--bricks", 2, 1, 1),
    }.items():
        inside("train", tmp_path / "f.npy", "-o", tmp_path / f"{name}.apmgsrn", *TINY, *more)
        kinds[name] = bool(common_config(read_header(tmp_path / f"{name}.apmgsrn").manifest).lattices)
    compact = trains_quickly()
    assert kinds == {"automatic": compact, "compact": True, "bytes": True, "small": False, "fields": False, "psnr": False, "bricks": compact}
    if compact:
        assert (tmp_path / "automatic.apmgsrn").read_bytes() == (tmp_path / "compact.apmgsrn").read_bytes()
