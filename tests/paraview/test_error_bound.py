"""Error bounds in the pipeline: every value of the lattice is within them, on any number of ranks, or is told why not."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY, info, make_image, output, smooth_values, train, values_of
from meshes import hexahedra
from paraview import simple
from test_model_estimate import both
from test_parallel import HERE, MPIRUN, PLUGIN, run
from test_time_series import TIMES, moving

from apmgsrn_core import Grid, ModelConfig, ModelFile, TrainConfig, train_series
from apmgsrn_core.residual.shares import Shares

DIMS = (17, 16, 15)


def rough_values(components=1):
    """Smooth, but for a jump and a little noise that no network of a few steps meets."""
    values = smooth_values(DIMS, components)
    z, y, x = np.indices(values.shape[:3])
    extra = 25.0 * (x + y > z + 9) + np.random.default_rng(0).normal(size=values.shape[:3])
    return (values + (extra[..., None] if components > 1 else extra)).astype("float32")


def farthest(data, values, name="f"):
    """The largest error at a point."""
    return np.abs(values_of(data, name).astype(np.float64).ravel() - values.ravel()).max()


@pytest.fixture(scope="module")
def bound_file(tmp_path_factory):
    """A model in bricks within 0.01 of the range, which has kept its networks since time steps may follow; and the data."""
    from apmgsrn_core import train_volume

    path, values = tmp_path_factory.mktemp("bound") / "m.apmgsrn", rough_values()
    network = ModelConfig(number_of_grids=8, grid_resolution=(4, 4, 4), hidden_width=16)
    settings = {"train": TrainConfig(iterations=30, batch_size=500, error_bound=0.01), "device": "cpu", "path": path}
    settings |= {"bricks": (2, 1, 1), "time": 0.0, "series": True, "on_progress": lambda state: True}
    train_volume(values, Grid(DIMS), name="f", model=network, **settings)
    return str(path), values


# -- within the bound ----------------------------------------------------------------------------


@pytest.mark.parametrize("bricks", [[1, 1, 1], [2, 1, 2]])
def test_the_reconstruction_and_the_saved_model_are_within_the_bound(bricks, tmp_path):
    values, path = rough_values(), str(tmp_path / "m.apmgsrn")
    trained = train(make_image(values), Bricks=bricks, ErrorBound=0.01)
    simple.SaveData(path, proxy=trained)
    volume = simple.NeuralVolume(FileName=path)
    volume.UpdatePipeline()
    bound = 0.01 * float(np.ptp(values))
    assert farthest(output(trained), values) <= bound and farthest(output(volume), values) <= bound
    status, count = info(trained, "Status"), int(np.prod(bricks))
    assert f"every value within {bound:.4g} of the data: " in status and " bytes of residuals, " in status
    assert status.endswith(f" of {count} brick{'s' * (count > 1)} without a network")
    assert f"within {bound:.4g} of the data" in info(volume, "ModelInformation")
    contour = simple.Contour(Input=volume, ContourBy=["POINTS", "f"], Isosurfaces=[60.0])
    contour.UpdatePipeline()
    assert output(contour).GetNumberOfCells() > 100


def test_absolute_bounds_of_each_array(tmp_path):
    values = rough_values(2)
    image = output(make_image(values[..., 0], name="a"))
    image.GetPointData().AddArray(output(make_image(values[..., 1], name="b")).GetPointData().GetArray("b"))
    source = make_image(values[..., 0], name="a")
    source.GetClientSideObject().SetOutput(image)
    trained = train(
        source, SeveralArrays=1, PointArrays=["a", "b"], ErrorBound=7, ErrorBoundMode="Absolute", ErrorBounds=[0.0, 0.5]
    )
    found = output(trained)
    assert farthest(found, values[..., 1], "b") <= 0.5 < farthest(found, values[..., 0], "a")
    assert "every value within 0.5 (b) of the data" in info(trained, "Status")


def test_the_networks_alone_are_shown_on_request(bound_file, vtk_errors, tmp_path):
    path, values = bound_file
    volume = simple.NeuralVolume(FileName=path)
    volume.UpdatePipeline()
    bound = 0.01 * float(np.ptp(values))
    assert farthest(output(volume), values) <= bound
    volume.KeepErrorBound = 0
    volume.UpdatePipeline()
    assert farthest(output(volume), values) > 2 * bound
    volume.KeepErrorBound = 1
    volume.UpdatePipeline()
    assert farthest(output(volume), values) <= bound
    compared = simple.CompareNeuralVolume(Input=make_image(values), FileName=path)
    compared.UpdatePipeline()
    assert np.abs(values_of(output(compared), "f_error")).max() <= bound
    foreign = tmp_path / "w.network.json"
    foreign.write_text(foreign_description())
    alone = simple.NeuralVolume(FileName=str(foreign), KeepErrorBound=0)
    alone.UpdatePipeline()
    assert vtk_errors.take() and "expected a model file for the networks without their residuals" in info(alone, "LastError")


def foreign_description():
    return json.dumps({
        "format": "apmgsrn network", "version": 1, "network": {"kind": "onnx", "file": "w.onnx"},
        "grid": {"dims": [5, 5, 5], "bounds": [0, 1, 0, 1, 0, 1]}, "arrays": [{"name": "w", "range": [0, 1]}],
    })  # fmt: skip


def test_what_a_view_sees_is_kept_apart_with_and_without_the_bound(bound_file):
    path, values = bound_file
    volume = simple.NeuralVolume(FileName=path, FollowView=1, Detail="Full")
    found = []
    for keep in (1, 0, 1):
        volume.KeepErrorBound = keep
        volume.UpdatePipeline()
        found.append(values_of(output(volume)).copy())
    np.testing.assert_array_equal(found[0], found[2])
    assert np.abs(found[0] - found[1]).max() > 0.01 * np.ptp(values)


def test_time_steps_are_within_their_bounds(tmp_path):
    source, path = moving(), str(tmp_path / "m.apmgsrn")
    trained = simple.TrainNeuralVolume(Input=source, **TINY, TimeSteps="All", ErrorBound=0.02, ModelFile=path)
    trained.UpdatePipeline()
    volume = simple.NeuralVolume(FileName=path)
    for time in TIMES[:2]:
        for proxy in (trained, volume, source):  # the training leaves its input at the last step
            proxy.UpdatePipeline(time)
        values = values_of(output(source))
        bound = 0.02 * float(np.ptp(values)) * (1 + 1e-9)
        assert farthest(output(trained), values) <= bound and farthest(output(volume), values) <= bound
    status, shares = info(trained, "Status"), Shares.of_file(ModelFile(path))
    assert status.endswith(f", every value within {shares.bounds['f']:.4g} of the data: {shares}") and shares.residuals > 0


def test_what_is_told_of_a_series_holds_at_all_of_its_steps(tmp_path):
    """The steps have ranges of their own, and so bounds of their own; the bytes are of all of them."""
    grid, values, path = Grid(DIMS), rough_values(), tmp_path / "m.apmgsrn"
    network = ModelConfig(number_of_grids=8, grid_resolution=(4, 4, 4), hidden_width=16)
    config = TrainConfig(iterations=30, batch_size=500, error_bound=0.01)
    steps = [(0.0, 100 * values), (1.0, values)]
    results = list(train_series(steps, grid, path=path, name="f", model=network, train=config, device="cpu", on_progress=lambda s: True))
    one, both = results[-1].shares, results[-1].shares_of_all
    assert both.bounds["f"] == pytest.approx(100 * one.bounds["f"], rel=1e-3) == pytest.approx(np.ptp(values), rel=1e-3)
    assert both.residuals > 1.5 * one.residuals and both.networks > 1.5 * one.networks
    file = ModelFile(path)
    assert both == Shares.of_file(file) and one == Shares.of_file(file, 1)


def test_live_training_ends_within_the_bound():
    values = rough_values()
    trained = train(make_image(values), Bricks=[2, 1, 1], ErrorBound=0.01, Live=1, SliceTime=0.01, Iterations=300)
    shown = []
    while info(trained, "Status").startswith("live"):
        shown.append(farthest(output(trained), values))
        trained.SMProxy.InvokeCommand("Step")
        trained.UpdatePipeline()
    assert len(shown) > 1 and info(trained, "Status").endswith(" of 2 bricks without a network")
    assert farthest(output(trained), values) <= 0.01 * float(np.ptp(values))


def test_a_model_with_a_bound_is_rendered(bound_file):
    import apmgsrn

    view = simple.CreateView("RenderView", ViewSize=[60, 50], OrientationAxesVisibility=0)
    try:
        volume = simple.NeuralVolume(FileName=bound_file[0], Device="cpu")
        volume.UpdatePipeline()
        renderer = apmgsrn.show(view, volume)
        simple.ResetCamera(view)
        simple.Render(view)
        picture = output(renderer)
        assert picture.GetNumberOfPoints() > 100 and info(renderer, "LastError") == ""
    finally:
        simple.Delete(view)


@pytest.mark.mpi
@pytest.mark.slow
def test_two_ranks_keep_the_bound_and_make_the_model_of_one(tmp_path):
    report, _ = run([*MPIRUN, "pvbatch", str(HERE / "error_bound_script.py"), PLUGIN, str(tmp_path)], tmp_path)
    assert report["Status"].endswith(" of 4 bricks without a network") and report["LastError"] == ""
    source = simple.Wavelet(WholeExtent=[-8, 7, -5, 5, 2, 12])
    source.UpdatePipeline()
    for name in ("trained", "sampled"):
        shown = simple.OpenDataFile(str(tmp_path / f"{name}.pvti"))
        shown.UpdatePipeline()
        assert len(list(tmp_path.rglob(f"{name}_*.vti"))) == 2
        assert farthest(output(shown), values_of(output(source), "RTData"), "RTData") <= 1.0
    alone = str(tmp_path / "alone.apmgsrn")
    train(source, Bricks=[2, 2, 1], ErrorBound=1.0, ErrorBoundMode="Absolute", ModelFile=alone)
    assert (tmp_path / "m.apmgsrn").read_bytes() == Path(alone).read_bytes()


# -- the panel -----------------------------------------------------------------------------------


def test_the_panel_says_what_comes_on_top():
    source = make_image(smooth_values((40, 40, 40)))
    plain = simple.TrainNeuralVolume(Input=source)
    bound = simple.TrainNeuralVolume(Input=source, ErrorBound=0.01)
    for proxy in (plain, bound):
        proxy.UpdatePipelineInformation()
    assert info(bound, "EffectiveModel").endswith(", plus what keeps an error of at most 0.01 of the range")
    assert "plus" not in info(plain, "EffectiveModel")
    assert info(bound, "EstimatedRatio") == 0 < info(plain, "EstimatedRatio")
    assert 8_000 < info(bound, "EstimatedBytes") < info(plain, "EstimatedBytes")
    bound.ErrorBound = 1e-6
    bound.UpdatePipelineInformation()
    tight = info(bound, "EstimatedBytes")
    assert tight > 8_000
    bound.ErrorBoundMode = "Absolute"
    bound.UpdatePipelineInformation()
    assert info(bound, "EffectiveModel").endswith("an error of at most 1e-06") and info(bound, "EstimatedBytes") < tight
    bound.ErrorBounds = [0.0, 0.5]
    assert info(bound, "EffectiveModel").endswith("plus what keeps errors of at most 0, 0.5 (0: any)")
    bound.ErrorBounds = []
    bound.ErrorBound = 0
    assert info(bound, "EffectiveModel") == info(plain, "EffectiveModel")


def test_the_network_of_automatic_is_that_of_the_bound(trainings):
    trained = simple.TrainNeuralVolume(Input=make_image(smooth_values(DIMS)), ErrorBound=0.01, Iterations=5, Device="cpu")
    trained.UpdatePipeline()
    from apmgsrn_core import network_bytes, trains_quickly

    assert trainings[0].rate_bytes == (network_bytes(0.01, int(np.prod(DIMS))) if trains_quickly() else 0)
    chosen = simple.TrainNeuralVolume(
        Input=make_image(smooth_values(DIMS)), ErrorBound=0.01, Preset="Compact", Iterations=5, Device="cpu"
    )
    chosen.UpdatePipeline()
    assert trainings[1].rate_bytes != trainings[0].rate_bytes, "Compact is as large as without a bound"


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"Aim": "Size"}, "Aim: expected Settings or Time with an ErrorBound, which says the quality, found Size"),
        ({"Aim": "Quality"}, "Aim: expected Settings or Time with an ErrorBound, which says the quality, found Quality"),
        ({"ErrorBounds": [0.1, 0.2]}, "ErrorBounds: expected one for each trained array (f), found 0.1, 0.2"),
        ({"ErrorBound": -1}, "error_bound: expected a number from 0 to 1, of the range, found -1"),
        ({"ErrorBound": 1.5}, "error_bound: expected a number from 0 to 1"),
        ({"ErrorBound": 1e-9}, "error_bound of array 'f': expected at least"),
    ],
    ids=str,
)
def test_what_cannot_be_is_told_and_mended(settings, text, vtk_errors, capfd):
    trained = train(make_image(rough_values()), **{"ErrorBound": 0.05, **settings})
    trained.UpdatePropertyInformation()
    assert "Traceback" not in capfd.readouterr().err  # of what the panel asks for
    assert len(vtk_errors.take()) == 1 and text in info(trained, "LastError")
    for name, value in (("Aim", "Settings"), ("ErrorBounds", []), ("ErrorBound", 0.05)):
        setattr(trained, name, value)
    trained.UpdatePipeline()
    assert info(trained, "LastError") == "" and farthest(output(trained), rough_values()) <= 0.05 * np.ptp(rough_values())


@pytest.mark.parametrize("bounds", [{"ErrorBound": 0.01}, {"ErrorBounds": [0.0, 0.5]}], ids=str)
def test_meshes_are_refused(bounds, vtk_errors):
    source = both(hexahedra((5, 4, 6)))
    trained = train(source, SeveralArrays=1, PointArrays=["f", "v"], MeshSamples=500, **bounds)
    found = "ErrorBound: expected 0 for a mesh" if "ErrorBound" in bounds else "ErrorBounds: expected 0 for a mesh"
    assert len(vtk_errors.take()) == 1 and info(trained, "LastError").startswith(found)
    trained.ErrorBound, trained.ErrorBounds = 0, [0.0, 0.0]
    trained.UpdatePipeline()
    assert info(trained, "LastError") == ""


def test_a_state_keeps_bounds_and_the_choice_of_the_source(bound_file, tmp_path):
    source = simple.Wavelet(WholeExtent=[-4, 4, -4, 4, -4, 4])
    simple.TrainNeuralVolume(
        registrationName="trained", Input=source, **TINY, ErrorBound=0.03, ErrorBoundMode="Absolute", ErrorBounds=[0.25]
    )
    simple.NeuralVolume(registrationName="volume", FileName=bound_file[0], KeepErrorBound=0)
    state = str(tmp_path / "s.pvsm")
    simple.SaveState(state)
    for proxy in list(simple.GetSources().values())[::-1]:
        simple.Delete(proxy)
    simple.LoadState(state)
    trained, volume = simple.FindSource("trained"), simple.FindSource("volume")
    assert (trained.ErrorBound, trained.ErrorBoundMode, list(trained.ErrorBounds)) == (0.03, "Absolute", [0.25])
    assert volume.KeepErrorBound == 0
    trained.UpdatePipeline()
    trained.Input.UpdatePipeline()
    assert farthest(output(trained), values_of(output(trained.Input), "RTData"), "RTData") <= 0.25


def test_the_panel_shows_the_bound_and_hides_the_rest():
    import xml.etree.ElementTree as ElementTree

    root = ElementTree.parse(ROOT / "xml" / "apmgsrn.xml").getroot()
    properties = (e for e in root.iter() if e.tag.endswith("VectorProperty") and "ErrorBound" in e.get("name"))
    found = {e.get("name"): e.get("panel_visibility", "default") for e in properties}
    assert found == {"ErrorBound": "default", "ErrorBoundMode": "advanced", "ErrorBounds": "advanced", "KeepErrorBound": "advanced"}
