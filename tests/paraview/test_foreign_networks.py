"""Foreign networks in ParaView: every kind through source and filters, trust, states, ranks, and the example."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, info, make_image, output, simple, smooth_values, values_of
from vtkmodules.vtkIOXML import vtkXMLImageDataWriter

sys.path.append(str(ROOT / "tests"))

import foreign_networks as foreign  # noqa: E402

from apmgsrn_core import BASELINES, Grid, TrainConfig, register_network, save_network, train_baseline  # noqa: E402

MPIRUN = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", "2"]
# pvpython is an MPI process itself; what it put into the environment would stop mpirun.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PMIX_", "PRTE_"))}
ENVIRONMENT |= {"OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
DIMS = (9, 8, 7)
SIZES = {
    "siren": dict(width=24, hidden_layers=1), "fvsrn": dict(resolution=(4, 4, 4), features=4, fourier=6),
    "hash_grid": dict(levels=3, table_bits=8, coarsest=3, finest=12), "dense_grids": dict(levels=2, coarsest=3, finest=7),
}  # fmt: skip
KINDS = {"siren": "class", "fvsrn": "torchscript", "hash_grid": "export", "dense_grids": "class"}


@pytest.fixture(scope="module")
def baselines(tmp_path_factory):
    """{name: description of a trained network}, each kind of file once."""
    folder, values = tmp_path_factory.mktemp("networks"), smooth_values(DIMS)
    paths = {}
    for name, sizes in SIZES.items():
        network = BASELINES[name](**sizes)
        config = TrainConfig(iterations=150, batch_size=300, learning_rate=5e-3 if name == "siren" else 0)
        result = train_baseline(network, values, Grid(DIMS), config, "cpu", "f")
        paths[name] = save_network(folder / f"{name}.network.json", network, Grid(DIMS), result.arrays, KINDS[name])
    return paths


def trusted(name):
    return KINDS[name] != "class"


@pytest.mark.slow
@pytest.mark.parametrize("name", BASELINES)
def test_each_baseline_is_sampled_compared_and_differentiated(baselines, name):
    source = simple.NeuralVolume(FileName=str(baselines[name]), TrustFile=trusted(name), Device="cpu")
    source.Scale, source.ComputeGradient = 2, 1
    source.UpdatePipeline()
    image = output(source)
    assert image.GetDimensions() == (17, 15, 13) and info(source, "LastError") == ""
    assert values_of(image, "Gradient").shape == (17 * 15 * 13, 3)
    assert f"foreign network ({KINDS[name]}), derivatives by autograd" in info(source, "ModelInformation")

    data = make_image(smooth_values(DIMS))
    filters = dict(Input=data, FileName=str(baselines[name]), TrustFile=trusted(name), Device="cpu")
    sampled = simple.SampleNeuralVolume(**filters)
    sampled.UpdatePipeline()
    own = values_of(output(sampled), "f_reconstruction").reshape(DIMS[::-1])
    assert abs(own - values_of(image, "f").reshape(13, 15, 17)[::2, ::2, ::2]).max() < 1e-2
    compared = simple.CompareNeuralVolume(**filters)
    simple.OutputPort(compared, 1).UpdatePipeline()
    assert output(compared, 1).GetColumnByName("psnr").GetValue(0) > 25


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fvsrn", "hash_grid"])
def test_what_runs_code_is_refused_until_it_is_trusted(baselines, name, vtk_errors):
    source = simple.NeuralVolume(FileName=str(baselines[name]), Device="cpu")
    source.UpdatePipeline()
    (message,) = vtk_errors.take()
    assert "TrustFile" in message and str(baselines[name]) in message
    assert output(source).GetPointData().GetNumberOfArrays() == 0
    sampled = simple.SampleNeuralVolume(Input=make_image(smooth_values(DIMS)), FileName=str(baselines[name]))
    sampled.UpdatePipeline()
    compared = simple.CompareNeuralVolume(Input=make_image(smooth_values(DIMS)), FileName=str(baselines[name]))
    compared.UpdatePipeline()
    assert len(vtk_errors.take()) == 2
    for proxy in (source, sampled, compared):
        assert "TrustFile" in info(proxy, "LastError")
        proxy.TrustFile = 1
        proxy.UpdatePipeline()
        assert info(proxy, "LastError") == ""
    assert output(source).GetPointData().GetNumberOfArrays() == 1
    source.TrustFile = 0
    source.UpdatePipeline()
    assert len(vtk_errors.take()) == 1, "trust that was taken back counts"


def test_a_class_of_the_users_own(tmp_path):
    code = Path(foreign.__file__)
    path = save_network(
        tmp_path / "wave.network.json", foreign.Wave(), foreign.GRID, foreign.ARRAYS, arguments={"outputs": 1}, code=code
    )
    source = simple.OpenDataFile(str(path))
    assert source.GetXMLName() == "NeuralVolumeReader"
    source.TrustFile = 1
    source.UpdatePipeline()
    image = output(source)
    points = np.array([image.GetPoint(i) for i in range(image.GetNumberOfPoints())])
    assert abs(values_of(image, "wave") - (10 + 20 * foreign.wave_at(points))[:, 0]).max() < 1e-4


def test_a_registered_function_is_evaluated_anew_when_it_is_registered_again():
    where = {"grid": {"dims": [5, 6, 7], "bounds": [0, 1, 0, 1, 0, 1]}, "arrays": [{"name": "f", "range": [0, 2]}]}
    path = register_network("plane", lambda points: 0.5 + 0.5 * points[:, :1], where)
    source = simple.NeuralVolume(FileName=path, Device="cpu")
    source.UpdatePipeline()
    assert np.allclose(values_of(output(source)).reshape(7, 6, 5), np.linspace(0, 2, 5))
    sampled = simple.SampleNeuralVolume(Input=make_image(smooth_values((3, 2, 2)), name="g"), Model=source, Device="cpu")
    sampled.UpdatePipeline()
    assert np.isfinite(values_of(output(sampled))[:2]).all() and np.isnan(values_of(output(sampled))[2])
    register_network("plane", lambda points: 0.5 - 0.5 * points[:, :1], where)
    source.GetClientSideObject().Modified()
    source.GetClientSideObject().Update()
    assert np.allclose(values_of(output(source)).reshape(7, 6, 5), np.linspace(2, 0, 5))


def test_an_unknown_registered_name_is_told(vtk_errors):
    source = simple.NeuralVolume(FileName="registered:nobody")
    source.UpdatePipeline()
    assert "nobody" in vtk_errors.take()[0]


def test_onnx_is_refused_until_it_is_trusted(tmp_path, vtk_errors):
    (tmp_path / "wave.onnx").write_bytes(foreign.onnx_wave())
    path = foreign.write_description(tmp_path, {"kind": "onnx", "file": "wave.onnx"})
    source = simple.NeuralVolume(FileName=str(path), Device="cpu")
    source.UpdatePipeline()
    (message,) = vtk_errors.take()
    assert "an ONNX file holds a program" in message and "TrustFile" in message
    source.TrustFile = 1
    source.UpdatePipeline()  # opened now, where onnxruntime is there
    assert all("TrustFile" not in line for line in vtk_errors.take())


def test_a_damaged_description_is_told(tmp_path, vtk_errors):
    path = foreign.write_description(tmp_path, {"kind": "onnx", "file": "../wave.onnx"})
    source = simple.NeuralVolume(FileName=str(path))
    source.UpdatePipeline()
    assert "in the folder of the description" in vtk_errors.take()[0]
    assert output(source).GetPointData().GetNumberOfArrays() == 0


@pytest.mark.slow
def test_the_adaptive_output_takes_a_foreign_network(baselines):
    source = simple.NeuralVolume(FileName=str(baselines["siren"]), OutputKind="Adaptive", CellBudget=300, Device="cpu")
    source.UpdatePipeline()
    assert 8 < output(source).GetNumberOfCells() < 600


@pytest.mark.slow
def test_a_foreign_network_is_rendered_where_it_is_trusted(baselines, vtk_errors):
    source = simple.NeuralVolume(FileName=str(baselines["hash_grid"]), TrustFile=1, Device="cpu")
    source.UpdatePipeline()
    picture = simple.RenderNeuralVolume(Input=source, Device="cpu")
    picture.UpdatePipeline()
    assert "TrustFile" in vtk_errors.take()[0] and output(picture).GetNumberOfCells() == 0
    picture.TrustFile = 1
    picture.CameraPosition, picture.CameraFocalPoint = [4.0, 3.5, 30.0], [4.0, 3.5, 3.0]
    picture.UpdatePipeline()
    assert info(picture, "LastError") == "" and output(picture).GetNumberOfCells() > 100


def test_a_state_keeps_the_trust(baselines, tmp_path):
    source = simple.NeuralVolume(registrationName="net", FileName=str(baselines["fvsrn"]), TrustFile=1, Device="cpu")
    source.UpdatePipeline()
    expected = values_of(output(source)).copy()
    simple.SaveState(str(tmp_path / "state.pvsm"))
    simple.Delete(source)
    simple.LoadState(str(tmp_path / "state.pvsm"))
    again = simple.FindSource("net")
    again.UpdatePipeline()
    assert np.array_equal(values_of(output(again)), expected)


SCRIPT = """
from paraview import servermanager, simple  # first
import json, sys
if not hasattr(simple, "NeuralVolume"):
    simple.LoadPlugin(sys.argv[1], remote=False, ns=vars(simple))
common = dict(TrustFile=1, Device="cpu")
source = simple.NeuralVolume(FileName=sys.argv[2], **common)
source.UpdatePipeline()
whole = source.GetDataInformation().GetNumberOfPoints()
contour = simple.Contour(Input=source, ContourBy=["POINTS", "f"], Isosurfaces=[50])
total = simple.IntegrateVariables(Input=contour)  # without what two ranks both have
area = servermanager.Fetch(total).GetCellData().GetArray("Area").GetValue(0)
compared = simple.CompareNeuralVolume(Input=simple.OpenDataFile(sys.argv[3]), FileName=sys.argv[2], ComputeSSIM=0, **common)
figures = servermanager.Fetch(compared, idx=1)
compared.UpdatePropertyInformation()
found = [figures.GetColumnByName(n).GetValue(0) for n in ("psnr", "values_compared")], compared.GetPropertyValue("LastError")
if servermanager.vtkProcessModule.GetProcessModule().GetPartitionId() == 0:
    print("FOUND", json.dumps([whole, area, *found]), flush=True)
"""


@pytest.mark.mpi
def test_two_ranks_find_what_one_finds(baselines, tmp_path):
    script, data = tmp_path / "script.py", tmp_path / "data.vti"
    script.write_text(SCRIPT)
    writer = vtkXMLImageDataWriter()
    writer.SetFileName(str(data))
    writer.SetDataModeToBinary()
    writer.SetInputData(output(make_image(smooth_values(DIMS))))
    writer.Write()
    command = ["pvbatch", str(script), str(ROOT / "xml" / "apmgsrn.xml"), str(baselines["fvsrn"]), str(data)]
    found = []
    for start in ([], MPIRUN):
        done = subprocess.run([*start, *command], capture_output=True, text=True, timeout=200, env=ENVIRONMENT, cwd=tmp_path)
        assert done.returncode == 0 and "ERR" not in done.stderr, done.stdout + done.stderr
        found.append(json.loads(re.search(r"^FOUND (.*)$", done.stdout, re.MULTILINE).group(1)))
    (_, area, figures, error), (points, area_of_two, figures_of_two, error_of_two) = found
    assert error == error_of_two == "" and points >= 9 * 8 * 7 and figures[1] == 9 * 8 * 7
    assert area == pytest.approx(area_of_two, rel=1e-5) and area > 1
    assert figures == pytest.approx(figures_of_two, abs=1e-3)


@pytest.mark.slow
def test_the_example_trains_and_draws_all(tmp_path):
    command = ["pvpython", str(ROOT / "examples/foreign_networks.py"), "--iterations", "40", "--batch-size", "1000"]
    command += ["--stride", "8", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = dict(re.findall(r"^(\w+) +(-?[\d.]+) +\d+  \w+$", done.stdout, re.MULTILINE))
    assert set(rows) == {*BASELINES, "function"}
    assert all(float(rows[name]) > 12 for name in BASELINES)
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    assert {json.loads(p.read_text())["network"]["kind"] for p in tmp_path.glob("*.network.json")} == set(KINDS.values())


@pytest.mark.slow
def test_trust_is_for_one_file_until_it_is_given_again(baselines, vtk_errors):
    """A source whose File Name becomes that of another program, or an input that names one, is not trusted with it."""
    first, other, numbers = (str(baselines[name]) for name in ("fvsrn", "hash_grid", "siren"))
    source = simple.NeuralVolume(FileName=first, TrustFile=1, Device="cpu")
    sampled = simple.SampleNeuralVolume(Input=make_image(smooth_values(DIMS)), FileName=first, TrustFile=1, Device="cpu")
    for proxy in (source, sampled):
        for path, refused in ((first, False), (other, True), (numbers, False), (first, False), (other, True)):
            proxy.FileName = path
            proxy.UpdatePipeline()
            told = info(proxy, "LastError")
            assert bool(told) == refused, (path, told)
            assert not refused or f"TrustFile was set for {first}; for this file set it to 0 and to 1 again" in told
        assert len(vtk_errors.take()) == 2
        proxy.TrustFile = 0
        proxy.TrustFile = 1
        proxy.UpdatePipeline()
        assert info(proxy, "LastError") == "" and output(proxy).GetPointData().GetNumberOfArrays()
        proxy.FileName = first
        proxy.UpdatePipeline()
        assert len(vtk_errors.take()) == 1 and other in info(proxy, "LastError")
