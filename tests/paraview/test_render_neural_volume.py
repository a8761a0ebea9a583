"""`RenderNeuralVolume` and `apmgsrn.show`: what stands in the view, and how it follows camera, functions and settings."""

from __future__ import annotations

import sys
from dataclasses import fields

import numpy as np
import pytest
from conftest import ROOT, info, make_image, output, smooth_values, values_of
from paraview import simple
from small_models import DIMS, GRID, train_models
from test_parallel import MPIRUN, PLUGIN, run
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkPolyData
from vtkmodules.vtkRenderingCore import vtkWindowToImageFilter

sys.path.append(str(ROOT / "tests"))

from thread_ranks import on_ranks  # noqa: E402

import apmgsrn  # noqa: E402
import apmgsrn_core as core  # noqa: E402
from apmgsrn_core import ApmgsrnError  # noqa: E402
from apmgsrn_paraview.billboard import fill_billboard  # noqa: E402
from apmgsrn_paraview.picture_march import PictureMarch, Scene  # noqa: E402
from apmgsrn_paraview.transfer_functions import colour_points, cool_to_warm  # noqa: E402

SIZE = (70, 53)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return train_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def view():
    view = simple.CreateView("RenderView", ViewSize=SIZE, OrientationAxesVisibility=0, UseFXAA=0)
    view.UseColorPaletteForBackground, view.Background = 0, [0, 0, 0]
    yield view
    simple.Delete(view)


def show(view, model, **settings):
    """The filter shown in the view, on the CPU, seen from aside, with other settings by keyword."""
    renderer = apmgsrn.show(view, model)
    for name, value in {"Device": "cpu", **settings}.items():
        renderer.SetPropertyWithName(name, value)
    view.CameraPosition, view.CameraFocalPoint = [14, 18, 25], [3, 5.5, 9]
    return renderer


def pixels(view) -> np.ndarray:
    """[h, w, 3] of what the view shows, the row at the bottom first."""
    simple.Render(view)
    shown = vtkWindowToImageFilter()
    shown.SetInput(view.GetRenderWindow())
    shown.ShouldRerenderOff()
    shown.Update()
    image = shown.GetOutput()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(*image.GetDimensions()[1::-1], 3).astype(int)


def by_core(view, path, field, renderer, options=None) -> core.Picture:
    """The picture that the core makes of what the view sees."""
    camera = core.Camera(
        tuple(view.CameraPosition), tuple(view.CameraFocalPoint), tuple(view.CameraViewUp), view.CameraViewAngle,
        view.CameraParallelScale if view.CameraParallelProjection else None, SIZE,
    )  # fmt: skip
    colours, opacities = (p.GetClientSideObject() for p in (renderer.LookupTable, renderer.ScalarOpacityFunction))
    volume = core.NeuralVolume.open(path, "cpu")
    sides = np.diff(np.reshape(GRID.bounds, (3, 2)))[:, 0]
    length = np.linalg.norm(sides) / np.cbrt(np.prod(np.array(DIMS) - 1))
    function = core.TransferFunction.from_points(colour_points(colours), list(renderer.ScalarOpacityFunction.Points), length)
    assert opacities.GetSize() == len(renderer.ScalarOpacityFunction.Points) / 4
    return core.VolumeRenderer(volume, field).render(camera, function, options)


def as_seen(picture) -> np.ndarray:
    return picture.over((0, 0, 0)).bytes()[..., :3].astype(int)


def same(view, picture) -> None:
    """The view shows the picture, but for its outermost row of pixels and the rounding of the colours."""
    seen, wanted = pixels(view)[1:-1, 1:-1], as_seen(picture)[1:-1, 1:-1]
    assert wanted.max() > 50 and (wanted == 0).all(axis=-1).any()
    difference = np.abs(seen - wanted).max(axis=-1)
    assert np.quantile(difference, 0.99) <= 3, np.quantile(difference, [0.5, 0.9, 0.99, 1])


# ---- the billboard ------------------------------------------------------------------------------


@pytest.mark.parametrize("parallel", [None, 4.0])
@pytest.mark.parametrize("size", [(7, 9), (8, 7)])
def test_vertices_are_on_the_rays_at_the_depths(size, parallel):
    rng = np.random.default_rng(0)
    camera = core.Camera((1, 2, 30), (0, 0, 1), (0, 1, 0.1), 25.0, parallel, size)
    rgba = rng.uniform(0.1, 1, (*size[::-1], 4)).astype(np.float32)
    depth = rng.uniform(20, 40, size[::-1]).astype(np.float32)
    mesh = vtkPolyData()
    assert fill_billboard(mesh, core.Picture(rgba, depth, 0), camera, (-1, 1, -2, 2, -3, 3)) == size[0] * size[1]
    inner = np.pad(np.ones(size[::-1], bool), 1).ravel()  # of a frame of one pixel
    points = vtk_to_numpy(mesh.GetPoints().GetData())[:-2][inner]
    np.testing.assert_allclose(camera.depth_of(points), depth.ravel(), rtol=1e-6)
    origins, directions = camera.rays(np.arange(len(points)))
    assert np.abs(np.cross(points - origins, directions)).max() < 1e-9 * 40
    assert mesh.GetNumberOfCells() == (size[0] + 1) * (size[1] + 1) + 2
    np.testing.assert_array_equal(values_of(mesh, "rgba")[:-2][inner], np.rint(255 * rgba.reshape(-1, 4)))


def test_a_single_pixel_has_four_quads_and_a_margin_without_opacity():
    rgba, depth = np.zeros((7, 9, 4), np.float32), np.full((7, 9), np.nan, np.float32)
    rgba[3, 4], depth[3, 4] = (0.2, 0.4, 0.6, 0.8), 5.0
    mesh = vtkPolyData()
    assert fill_billboard(mesh, core.Picture(rgba, depth, 0), core.Camera((0, 0, 9), (0, 0, 0)), (-1, 1, -2, 2, -3, 3)) == 1
    assert mesh.GetNumberOfCells() == 4 + 2 and mesh.GetNumberOfPoints() == 9 + 2
    colours = values_of(mesh, "rgba")[:9]
    assert (colours[:, :3] == [51, 102, 153]).all() and sorted(colours[:, 3]) == [0] * 8 + [204]
    np.testing.assert_allclose(vtk_to_numpy(mesh.GetPoints().GetData())[:9, 2], 4, rtol=1e-12)


def test_an_empty_picture_still_has_the_bounds_of_the_model():
    mesh, nothing = vtkPolyData(), core.Picture(np.zeros((7, 8, 4), np.float32), np.full((7, 8), np.nan, np.float32), 0)
    assert fill_billboard(mesh, nothing, core.Camera((0, 0, 9), (0, 0, 0)), (-1, 1, -2, 2, -3, 3)) == 0
    bounds = [0.0] * 6
    mesh.GetCellsBounds(bounds)
    assert bounds == [-1, 1, -2, 2, -3, 3]


# ---- in the view --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [0, 1])
def test_the_view_shows_the_picture_of_the_core(models, view, parallel):
    renderer = show(view, models["f"])
    view.CameraParallelProjection, view.CameraParallelScale = parallel, 9
    same(view, by_core(view, models["f"], "f", renderer))
    view.CameraPosition = [-9, 4, -12]  # the links follow
    same(view, by_core(view, models["f"], "f", renderer))


@pytest.mark.parametrize("parallel", [0, 1])
def test_a_volume_that_runs_over_the_border_fills_the_view(models, view, parallel):
    renderer = show(view, models["f"])
    view.CameraPosition, view.CameraParallelProjection, view.CameraParallelScale = [4, 6, 13], parallel, 1
    shown = pixels(view)
    expected = by_core(view, models["f"], "f", renderer)
    assert (expected.rgba[..., 3] > 0.05).all()
    black = np.rint(255 * expected.rgba[..., :3] * expected.rgba[..., 3:])
    for border in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        assert np.abs(shown[border] - black[border]).max() <= 2


@pytest.fixture
def passes(monkeypatch):
    """(pixels, number of the pass) of all passes that were marched; a single ray tells the bounds and does not count."""
    made, advance = [], PictureMarch.advance

    def note(march, *arguments):
        advance(march, *arguments)
        if march.picture.depth.size > 1:
            made.append((march.picture.depth.size, march.pass_number))

    monkeypatch.setattr(PictureMarch, "advance", note)
    return made


def test_showing_marches_one_picture(models, view, passes):
    apmgsrn.show(view, models["f"])
    pixels(view)
    assert passes == [(SIZE[0] * SIZE[1], 1)]


def test_what_does_not_change_the_picture_does_not_begin_it_anew(models, view, passes):
    renderer = show(view, models["f"], Refinement="In Passes", PassTime=0.001)
    up = (np.array([0.24, 0.81, 0.54]) / np.linalg.norm([0.24, 0.81, 0.54])).tolist()
    for turn in range(4):  # as a view does in each render
        renderer.CameraViewUp = [up[0], up[1], np.nextafter(up[2], turn % 2)]
        renderer.CameraParallelScale = 3 + turn
        renderer.UpdatePipeline()
    assert [number for _, number in passes] == [1, 2, 3, 4]


def test_edited_functions_and_presets_are_followed(models, view):
    renderer = show(view, models["f"])
    before = pixels(view)
    renderer.ScalarOpacityFunction.Points = [20, 0, 0.5, 0, 40, 0.9, 0.3, 0.5, 70, 0.1, 0.5, 0]
    same(view, by_core(view, models["f"], "f", renderer))
    renderer.LookupTable.ApplyPreset("Black-Body Radiation", True)
    same(view, by_core(view, models["f"], "f", renderer))
    assert np.abs(pixels(view) - before).max() > 50


def test_objects_hide_the_picture_and_are_hidden(models, view):
    renderer = show(view, models["f"])
    renderer.ScalarOpacityFunction.Points = [0, 1, 0.5, 0, 100, 1, 0.5, 0]  # opaque
    plain = pixels(view)
    near = np.array(view.CameraFocalPoint) + 0.5 * (np.array(view.CameraPosition) - np.array(view.CameraFocalPoint))
    sphere = simple.Sphere(Center=near.tolist(), Radius=1.0)
    simple.Show(sphere, view)
    before_it = (pixels(view) != plain).any(axis=-1).sum()
    sphere.Center = [3, 5.5, 9]  # inside of the volume
    inside = (pixels(view) != plain).any(axis=-1).sum()
    assert before_it > 50 and inside == 0


def test_options_reach_the_core(models, view):
    middle = [3.0, 4.5, 8.0]
    renderer = show(
        view, models["f"], Mode="Isosurface", IsoValues=[35, 60], UseClipBox=1, ClipBox=[1, 4, 2, 6, 3, 14],
        UseClipPlane=1, ClipPlaneOrigin=middle, ClipPlaneNormal=[0, 0, -1], Ambient=0.4, Step=0.1, SpecularPower=5,
    )  # fmt: skip
    options = core.RenderOptions(
        "isosurface", (35, 60), step=0.1, ambient=0.4, specular_power=5, clip_box=(1, 4, 2, 6, 3, 14),
        clip_planes=((*middle, 0, 0, -1),),
    )  # fmt: skip
    same(view, by_core(view, models["f"], "f", renderer, options))


def test_clipping_begins_with_the_bounds_of_the_volume(models):
    volume = simple.NeuralVolume(FileName=models["f"])
    volume.UpdatePipeline()
    bounds = np.array(volume.GetDataInformation().GetBounds())
    rendering = simple.RenderNeuralVolume(Input=volume)
    assert list(rendering.ClipBox) == list(bounds)
    assert list(rendering.ClipPlaneOrigin) == list((bounds[::2] + bounds[1::2]) / 2)


def test_the_magnitude_of_a_vector_by_name(models, view):
    renderer = show(view, models["several"], Array="v")
    same(view, by_core(view, models["several"], "v", renderer))


def test_another_time_is_another_picture_and_the_same_time_is_not_marched_again(models, view):
    renderer = show(view, models["times"])
    view.ViewTime = 1.0
    first, samples = pixels(view), info(renderer, "Status")
    view.ViewTime = 1.5  # the same step
    assert (pixels(view) == first).all() and info(renderer, "Status") == samples
    view.ViewTime = 3.0
    assert np.abs(pixels(view) - first).max() > 20


def test_passes_end_in_the_picture_that_is_made_at_once(models, view):
    renderer = show(view, models["f"])
    whole = pixels(view)
    renderer.Refinement, renderer.PassTime = "In Passes", 0.001
    seen = [pixels(view)]
    algorithm = renderer.GetClientSideObject()
    while algorithm.GetNeedsUpdate():
        renderer.InvokeCommand("NextPass")
        seen.append(pixels(view))
        assert len(seen) < 500
    assert len(seen) > 2 and (seen[0] != whole).any()
    assert np.abs(seen[-1] - whole).max() <= 1
    view.CameraPosition = [-9, 4, -12]
    assert "pass 1" in (pixels(view), info(renderer, "Status"))[1]  # begun anew


def test_a_polled_filter_refines_and_others_finish_at_once(models, view):
    renderer = show(view, models["f"])
    pixels(view)
    assert "pass" not in info(renderer, "Status") and not renderer.GetClientSideObject().GetNeedsUpdate()
    view.CameraPosition = [-9, 4, -12]
    pixels(view)
    assert "pass 1" in info(renderer, "Status")


def test_idle_time_makes_the_next_pictures_quicker(models, view):
    renderer = show(view, models["several"])
    whole, algorithm = pixels(view), renderer.GetClientSideObject()
    marcher = algorithm._march._renderer
    assert not marcher.sharp and marcher.worth_sharpening  # so many rays through so few values
    for _ in range(100):
        assert not algorithm.GetNeedsUpdate()
    assert marcher.sharp
    view.CameraPosition = [14, 18, 26]
    assert (pixels(view) != whole).any()
    view.CameraPosition = [14, 18, 25]
    renderer.Refinement = "At Once"
    assert np.abs(pixels(view) - whole).max() <= 1


def test_fewer_rays_and_the_size_of_the_view(models, view):
    renderer = show(view, models["f"], ImageScale=0.5)
    pixels(view)
    assert f" of {35 * 26} pixels" in info(renderer, "Status")
    view.ViewSize = [40, 30]
    simple.Render(view)
    assert f" of {20 * 15} pixels" in info(renderer, "Status")


def test_without_links_all_of_the_volume_is_seen(models):
    renderer = simple.RenderNeuralVolume(Input=simple.NeuralVolume(FileName=models["f"]), ViewSize=SIZE)
    renderer.UpdatePipeline()
    np.testing.assert_allclose(renderer.GetDataInformation().GetBounds(), GRID.bounds, atol=0.4)  # a pixel
    picture = values_of(output(renderer), "rgba")
    assert (picture[:, 3] > 0).sum() > 300


def test_the_model_above_is_not_sampled(models):
    source = simple.NeuralVolume(FileName=models["f"])
    simple.RenderNeuralVolume(Input=source, ViewSize=SIZE).UpdatePipeline()
    assert output(source).GetNumberOfPoints() < np.prod(DIMS) / 2


def test_nor_is_it_when_the_picture_changes(models):
    source = simple.NeuralVolume(FileName=models["f"], Scale=3)
    renderer = simple.RenderNeuralVolume(Input=source, ViewSize=SIZE)
    sampled = simple.SampleNeuralVolume(Input=make_image(smooth_values((7, 8, 9))), Model=source)
    for position in ([1, 2, 30], [5, 2, 30]):
        renderer.CameraPosition, sampled.ComputeGradient = position, position[0] > 1
        for filter_ in (renderer, sampled):
            filter_.UpdatePipeline()
        assert info(source, "Status").startswith("8 values sampled")


def test_a_state_without_functions_is_loaded(models, tmp_path):
    simple.RenderNeuralVolume(registrationName="plain", Input=simple.NeuralVolume(FileName=models["f"]), ViewSize=SIZE).UpdatePipeline()
    simple.SaveState(str(tmp_path / "s.pvsm"))
    for proxy in list(simple.GetSources().values())[::-1]:
        simple.Delete(proxy)
    simple.LoadState(str(tmp_path / "s.pvsm"))
    loaded = simple.FindSource("plain")
    loaded.UpdatePipeline()
    assert info(loaded, "LastError") == "" and output(loaded).GetNumberOfCells() > 0


def test_a_state_keeps_filter_functions_and_links(models, view, tmp_path):
    show(view, models["f"])
    before = pixels(view)
    simple.SaveState(str(tmp_path / "s.pvsm"))
    for proxy in list(simple.GetSources().values())[::-1]:
        simple.Delete(proxy)
    simple.LoadState(str(tmp_path / "s.pvsm"))
    loaded = [v for v in simple.GetViews() if v.SMProxy is not view.SMProxy][-1]
    renderer = simple.FindSource("NeuralRendering")
    loaded.UseFXAA = 0  # a setting, which states do not restore
    assert np.abs(pixels(loaded) - before).max() <= 2
    loaded.CameraPosition = [-9, 4, -12]
    same(loaded, by_core(loaded, models["f"], "f", renderer))
    simple.Delete(loaded)


# ---- what is wrong is told --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"Array": "g"}, "Arrays: expected some of f"),
        ({"UseClipBox": 1, "ClipBox": [1, 0, 0, 1, 0, 1]}, "clip_box"),
        ({"CameraPosition": [1, 1, 1], "CameraFocalPoint": [1, 1, 1]}, "focal_point"),
        ({"ViewSize": [0, 5]}, "ViewSize"),
        ({"ImageScale": 9}, "ImageScale: expected a number from 0.05 to 4, found 9"),
        ({"Device": "abacus"}, "abacus"),
    ],
)
def test_wrong_settings(models, vtk_errors, settings, told):
    renderer = simple.RenderNeuralVolume(Input=simple.NeuralVolume(FileName=models["f"]))
    for name, value in {"Device": "cpu", "ViewSize": SIZE, **settings}.items():
        renderer.SetPropertyWithName(name, value)
    renderer.UpdatePipeline()
    assert told in info(renderer, "LastError") and len(vtk_errors.take()) == 1
    assert output(renderer).GetNumberOfCells() == 0


def test_data_without_a_model(vtk_errors, view):
    image = make_image(smooth_values((7, 8, 9)))
    with pytest.raises(core.ConfigError, match="output of Train Neural Volume or Neural Volume"):
        apmgsrn.show(view, image)
    assert len(vtk_errors.take()) == 1


def test_views_and_sources_that_cannot_be(models, view):
    with pytest.raises(core.ModelFileError, match="/nowhere/m.apmgsrn"):
        apmgsrn.show(view, "/nowhere/m.apmgsrn")
    assert not simple.GetSources()
    with pytest.raises(core.ConfigError, match="expected a render view, found SpreadSheetView"):
        apmgsrn.show(simple.CreateView("SpreadSheetView"), models["f"])


def test_the_defaults_are_those_of_the_core():
    renderer, options = simple.RenderNeuralVolume(Input=make_image(smooth_values((7, 8, 9)))), core.RenderOptions()
    settings = renderer.GetClientSideObject().settings
    same_names = {field.name for field in fields(options)} & settings.keys()
    assert same_names >= {"mode", "step", "ambient", "diffuse", "specular", "specular_power", "opacity_limit", "skip", "shading"}
    for name in same_names - {"clip_box"}:  # which is off by its own switch
        assert settings[name] == getattr(options, name), name
    colours = np.reshape(colour_points(cool_to_warm(0, 1)), (-1, 4))
    assert (np.diff(colours[:, 0]) > 0).all() and len(colours) > 50


# ---- ranks ----------------------------------------------------------------------------------------


def test_what_fails_where_the_parts_are_put_together_is_an_error_on_all_ranks(models, monkeypatch):
    volume = core.NeuralVolume.open(models["bricks"], "cpu")
    camera = core.Camera((14, 18, 25), (3, 5.5, 9), (0, 1, 0), 30.0, None, (9, 7))
    function = core.TransferFunction.from_points([0, 0, 0, 1, 1, 1, 0, 0], [0, 0, 0.5, 0, 1, 1, 0.5, 0], 1.0)
    scene, right = Scene(volume, "f", None, camera, function, core.RenderOptions()), core.composite

    def work(communicator):
        march, told = PictureMarch(communicator), []
        for composite in (short, right):
            communicator.everywhere(None)
            if communicator.rank == 0:
                monkeypatch.setattr(core, "composite", composite, raising=False)
            try:
                march.advance("key", lambda: scene, False, 1.0, lambda share: None)
            except ApmgsrnError as error:
                told.append(str(error))
            assert march.holds("key") == (composite is right)
        return told, march.picture

    def short(*_):
        raise MemoryError("no room for the pictures")

    (first, picture), (second, nothing) = on_ranks(2, work)
    assert len(first) == len(second) == 1 and "no room for the pictures" in second[0]
    assert picture.rgba[..., 3].max() > 0 and nothing is None


@pytest.mark.mpi
def test_two_ranks_show_the_picture_of_one(models, tmp_path):
    reports = {}
    for ranks, start in ((1, []), (2, MPIRUN)):
        for name in ("bricks", "f"):  # of two bricks by two, and of one
            folder = tmp_path / f"{name}{ranks}"
            folder.mkdir()
            script = str(ROOT / "tests/paraview/render_script.py")
            reports[name, ranks] = run([*start, "pvbatch", script, PLUGIN, models[name], str(folder)], folder)[0]
    for name in ("bricks", "f"):
        for mode in ("Composite", "Isosurface", "Maximum", "passes"):
            one, two = (png(tmp_path / f"{name}{ranks}" / f"{mode}.png") for ranks in (1, 2))
            assert one.max() > 50 and np.quantile(np.abs(one - two), 0.995) <= 2, (name, mode)
        one, two = reports[name, 1], reports[name, 2]
        assert one["Composite"][1] == two["Composite"][1] == ""
        assert one["Composite"][2] == pytest.approx(two["Composite"][2], abs=20)
        assert 1 < one["passes"] < 200 and 1 < two["passes"] < 200
        assert "nothing" in one["error"] and "nothing" in two["error"]


def png(path) -> np.ndarray:
    from vtkmodules.vtkIOImage import vtkPNGReader

    reader = vtkPNGReader()
    reader.SetFileName(str(path))
    reader.Update()
    return vtk_to_numpy(reader.GetOutput().GetPointData().GetScalars()).astype(int)
