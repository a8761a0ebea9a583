"""`apmgsrn.compress`, `apmgsrn.compare`, and the macros."""

from __future__ import annotations

import runpy

import numpy as np
import pytest
from conftest import ROOT, make_image, output, smooth_values, values_of
from paraview import simple
from small_models import DIMS, GRID, train_models

import apmgsrn
from apmgsrn_core import ConfigError, read_header

FAST = {"Preset": "Custom", "NumberOfGrids": 4, "GridResolution": [4, 4, 4], "HiddenWidth": 16, "Iterations": 20, "Device": "cpu"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return train_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    for proxy in list(simple.GetSources().values()):
        simple.Delete(proxy)
    for view in simple.GetRenderViews():
        simple.Delete(view)
    simple.servermanager.ProxyManager().UnRegisterAllLinks()  # a state would name their views
    for layout in list(simple.GetLayouts().values()):
        simple.RemoveLayout(layout)


def data():
    return make_image(smooth_values(DIMS), origin=GRID.origin, spacing=GRID.spacing, name="f")


def view_of(source, kind="Volume"):
    view = simple.CreateView("RenderView", ViewSize=[70, 53])
    simple.SetActiveView(view)
    display = simple.Show(source, view)
    simple.ColorBy(display, ("POINTS", "f"))
    display.SetRepresentationType(kind)
    display.Opacity = 0.7
    return view


def test_a_volume_takes_the_place_of_data(tmp_path):
    source = data()
    view, contour = view_of(source), simple.Contour(Input=source, ContourBy=["POINTS", "f"], Isosurfaces=[100.0])
    path = tmp_path / "small.apmgsrn"
    volume = apmgsrn.compress(source, str(path), **FAST)
    assert read_header(path).arrays[0].name == "f"
    assert contour.Input.SMProxy is volume.SMProxy and contour.Isosurfaces[:] == [100.0]
    contour.UpdatePipeline()
    assert simple.GetActiveSource().SMProxy is volume.SMProxy
    shown = {r.Input.SMProxy: r for r in view.Representations if hasattr(r, "Input")}
    ours, theirs = shown[volume.SMProxy], shown[source.SMProxy]
    assert (ours.Visibility, theirs.Visibility) == (1, 0)
    assert ours.GetProperty("Representation").GetData() == "Volume" and ours.Opacity == pytest.approx(0.7)
    assert ours.LookupTable.SMProxy is theirs.LookupTable.SMProxy
    assert np.isfinite(values_of(output(volume), "f")).all()
    assert not [p for p in simple.GetSources().values() if p.GetXMLName() == "TrainNeuralVolume"]


@pytest.mark.slow
def test_a_name_that_is_free_is_found_beside_the_file(tmp_path, monkeypatch):
    written = tmp_path / "field.vti"
    simple.SaveData(str(written), proxy=data(), DataMode="Binary")
    source = simple.OpenDataFile(str(written))
    first, second = apmgsrn.compress(source, **FAST), apmgsrn.compress(source, **FAST)
    assert [v.FileName for v in (first, second)] == [str(tmp_path / n) for n in ("field.apmgsrn", "field-2.apmgsrn")]
    monkeypatch.chdir(tmp_path)
    assert apmgsrn.compress(data(), **FAST).FileName == str(tmp_path / "volume.apmgsrn")


def test_names_that_are_taken_on_the_server_are_left_alone(tmp_path):
    from apmgsrn.compression import _free, _is_on_server

    for name in ("f.apmgsrn", "f-2.apmgsrn"):
        (tmp_path / name).touch()
    assert _free(str(tmp_path / "f"), _is_on_server) == str(tmp_path / "f-3.apmgsrn")
    assert _free(str(tmp_path / "g"), _is_on_server) == str(tmp_path / "g.apmgsrn")


@pytest.mark.parametrize(
    "arguments, named",
    [({"array": "g"}, "expected g in the data, found f"), ({"Nonsense": 1}, "Nonsense"), ({"file": "/no/such/f.apmgsrn"}, "/no/such")],
)
def test_what_cannot_be_compressed_is_named_and_nothing_changes(arguments, named, vtk_errors):
    source = data()
    view = view_of(source)
    before = {name for name, _ in simple.GetSources()}
    with pytest.raises(ConfigError, match=named):
        apmgsrn.compress(source, **{**FAST, **arguments})
    assert len(vtk_errors.take()) == ("file" in arguments)
    assert {name for name, _ in simple.GetSources()} == before
    assert next(r for r in view.Representations if hasattr(r, "Input")).Visibility == 1


def test_nothing_to_compress_or_to_compare_is_named(models):
    simple.SetActiveSource(None)
    with pytest.raises(ConfigError, match="source: expected data"):
        apmgsrn.compress()
    with pytest.raises(ConfigError, match="model: expected"):
        apmgsrn.compare()
    with pytest.raises(ConfigError, match="original: expected the data"):
        apmgsrn.compare(model=models["f"])
    with pytest.raises(ConfigError, match="array: expected g"):
        apmgsrn.compare(data(), models["f"], array="g")
    assert not [p for p in simple.GetSources().values() if p.GetXMLName() == "CompareNeuralVolume"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["path", "source", "trained"])
def test_three_views_show_data_reconstruction_and_error(models, kind):
    source = data()
    view_of(source).CameraPosition = [20, 3, 30]
    model = {
        "path": lambda: models["f"], "source": lambda: simple.NeuralVolume(FileName=models["f"]),
        "trained": lambda: simple.TrainNeuralVolume(Input=source, **FAST),
    }[kind]()  # fmt: skip
    comparison = apmgsrn.compare(model=model)
    shown = [r for v in simple.GetRenderViews() for r in v.Representations if getattr(r, "Input", None) is not None]
    ours = [r for r in shown if r.Input.SMProxy is comparison.SMProxy]
    assert [r.ColorArrayName[1] for r in ours] == ["f", "f_reconstruction", "f_error"]
    assert ours[0].LookupTable.SMProxy is ours[1].LookupTable.SMProxy
    points = ours[2].LookupTable.RGBPoints
    assert points[0] == -points[-4] < 0
    views = [v for v in simple.GetRenderViews() if any(r.Input.SMProxy is comparison.SMProxy for r in v.Representations if hasattr(r, "Input"))]
    assert len(views) == 3 and views[0].CameraPosition[:] == [20, 3, 30]
    views[0].CameraPosition = [-9, 4, 33]
    simple.RenderAllViews()
    for view in views[1:]:
        view.SMProxy.SynchronizeCameraProperties()
        assert np.allclose(view.CameraPosition, [-9, 4, 33])


def test_what_is_shown_first_shows_something(models):
    view = simple.CreateView("RenderView", ViewSize=[70, 53])
    for model in (simple.NeuralVolume(FileName=models["f"]), simple.OpenDataFile(models["f"])):
        display = simple.Show(model, view)
        assert (display.GetProperty("Representation").GetData(), display.ColorArrayName[1]) == ("Volume", "f")
    trained = simple.TrainNeuralVolume(Input=data(), **FAST)
    kinds = [simple.Show(simple.OutputPort(trained, port), view).GetProperty("Representation").GetData() for port in (0, 2)]
    assert kinds == ["Slice", "Wireframe"]
    display = simple.Show(simple.RenderNeuralVolume(Input=model), view)
    assert display.GetProperty("Representation").GetData() == "Surface"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Compress this", "Original vs neural", "Show neural rendering", "Follow the view"])
def test_macros_act_on_the_active_source(models, name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    source = data()
    view_of(source)
    if name == "Compress this":
        monkeypatch.setattr(apmgsrn, "compress", lambda compress=apmgsrn.compress: compress(**FAST))
    else:
        simple.SetActiveSource(simple.NeuralVolume(FileName=models["f"]))
    before = len(simple.GetSources())
    runpy.run_path(str(ROOT / "plugin/macros" / f"{name}.py"))
    if name == "Follow the view":
        assert simple.GetActiveSource().FollowView == 1
        apmgsrn.unfollow()
    else:
        assert len(simple.GetSources()) == before + 1
    simple.RenderAllViews()
