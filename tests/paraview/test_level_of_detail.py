"""`NeuralVolume` that follows a view: which lattice it gives when, `apmgsrn.follow`, the cache, states and ranks."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import contextmanager

import numpy as np
import pytest
from conftest import ROOT, info, make_image, output, smooth_values, values_of
from paraview import simple
from small_models import GRID, NETWORK, TRAIN, train_models
from test_parallel import ENVIRONMENT, MPIRUN, PLUGIN, run
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

import apmgsrn
import apmgsrn_core as core
from apmgsrn_core import Camera, Grid
from apmgsrn_paraview.level_of_detail import WHOLE, fit_part, sight_of
from apmgsrn.view_follower import ViewFollower

TURNED = ((0, -1, 0), (1, 0, 0), (0, 0, 1))
GRIDS = {
    "uniform": Grid((40, 30, 20), (1, 2, 3), (0.5, 0.6, 1.2)),
    "turned": Grid((40, 30, 20), (1, 2, 3), (0.5, -0.6, 1.2), TURNED),
    "flat": Grid((40, 30, 1), (1, 2, 3), (0.5, 0.6, 1.2)),
    "stretched": Grid.stretched((np.linspace(1, 5, 40) ** 2, -np.linspace(0, 4, 30) ** 1.5, np.linspace(3, 20, 20))),
}
SIZE = (120, 90)
SCRIPT = str(ROOT / "tests/paraview/follow_script.py")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    paths = train_models(folder)
    axes = np.linspace(0, 3, 9) ** 2, np.linspace(1, 4, 8), np.linspace(0, 2, 7) ** 1.5
    result = core.train_volume(
        smooth_values((9, 8, 7)), Grid.stretched(axes), name="f", model=NETWORK, train=TRAIN, device="cpu",
        on_progress=lambda state: True,
    )  # fmt: skip
    result.save(folder / "stretched.apmgsrn")
    return paths | {"stretched": str(folder / "stretched.apmgsrn")}


@pytest.fixture
def view():
    view = simple.CreateView("RenderView", ViewSize=SIZE, OrientationAxesVisibility=0)
    yield view
    if view.SMProxy.GetSession().GetRemoteObject(view.GetGlobalID()) is not None:
        simple.Delete(view)


def followed(view, path, **settings):
    """A source of 65 x 57 x 49 points, followed by the view, on the CPU."""
    usual = {"Scale": 8, "Budget": 40_000, "CoarseBudget": 3000, "Device": "cpu"}
    return apmgsrn.follow(view, simple.NeuralVolume(FileName=path, **{**usual, **settings}))


def see(view, position=(14, 18, 25), focal_point=(3, 5.5, 9)):
    view.CameraPosition, view.CameraFocalPoint = position, focal_point


def check(source):
    """What lies there is what RequestInformation says, and what the model has there; returns the image."""
    image, promised = output(source), source.GetClientSideObject().GetOutputInformation(0)
    assert tuple(promised.Get(Pipeline.WHOLE_EXTENT())) == image.GetExtent()
    assert image.GetNumberOfPoints() <= source.Budget
    if image.IsA("vtkImageData"):
        np.testing.assert_allclose(promised.Get(image.SPACING()), image.GetSpacing())
        np.testing.assert_allclose(promised.Get(image.ORIGIN()), image.GetOrigin())
    some = np.linspace(0, image.GetNumberOfPoints() - 1, 50).astype(int)
    points = np.array([image.GetPoint(i) for i in some])
    expected = core.NeuralVolume.open(source.FileName, "cpu").sample_points(points, "f")
    np.testing.assert_allclose(values_of(image)[some], expected, atol=2e-3 * 100)
    return image


def spacing(source) -> float:
    return min(output(source).GetSpacing())


# ---- what is seen ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", GRIDS)
@pytest.mark.parametrize("parallel", [None, 3.0])
def test_the_box_holds_what_is_in_the_picture_and_little_more(kind, parallel):
    grid, rng = GRIDS[kind], np.random.default_rng(1)
    low, high = np.reshape(grid.bounds, (3, 2)).T
    along = [np.linspace(0, n - 1, 50 if n > 1 else 1) for n in grid.dims]
    index = np.stack(np.meshgrid(*along, indexing="ij"), -1).reshape(-1, 3)
    world, seen_some = grid.index_to_world(index), 0
    for _ in range(20):
        eye = (low + high) / 2 + rng.normal(size=3) * (high - low + 1) * rng.uniform(0.2, 1.5)
        camera = Camera(tuple(eye), tuple(rng.uniform(low, high)), (0.1, 1, 0.2), rng.uniform(5, 60), parallel, (70, 40))
        right, up, forward = (world - eye) @ camera.axes.T[:, 0], (world - eye) @ camera.axes.T[:, 1], camera.depth_of(world)
        half = parallel if parallel else np.tan(np.radians(camera.view_angle) / 2) * forward
        inside = (np.abs(up) <= half) & (np.abs(right) <= half * 70 / 40)
        sight = sight_of(camera, grid)
        if inside.any():
            seen_some += 1
            box = index[inside] / np.maximum(np.array(grid.dims) - 1, 1)
            assert (box.min(0) >= sight.low - 1e-6).all() and (box.max(0) <= sight.high + 1e-6).all()
            if inside.sum() > 500:
                assert (box.min(0) - sight.low < 0.25).all() and (sight.high - box.max(0) < 0.25).all()
            if parallel is None:
                assert 0 <= sight.pixel <= 2 * np.tan(np.radians(camera.view_angle) / 2) * forward[inside].min() / 40 + 1e-9
    assert seen_some > 5


def test_nothing_is_seen_behind_and_beside():
    grid = GRIDS["uniform"]
    assert sight_of(Camera((0, 0, -5), (0, 0, -10)), grid) is None
    assert sight_of(Camera((100, 0, 0), (100, 0, 1)), grid) is None


@pytest.mark.parametrize("kind", GRIDS)
def test_parts_cover_what_is_seen_within_the_budget(kind):
    grid = GRIDS[kind]
    low, high = np.reshape(grid.bounds, (3, 2)).T
    sight = sight_of(Camera(tuple(high + 3 * (high - low) + 5), tuple(high), (0.1, 1, 0.2), 12.0, None, (900, 900)), grid)
    points = []
    for most in (8, 100, 1000, 10_000, 100_000):
        part = fit_part(grid, sight, most)
        last = np.array(part.lattice.dims) - 1
        assert np.prod(part.dims) <= most
        assert (np.array(part.start) <= sight.low * last + 1e-6).all()
        assert (np.array(part.stop) - 1 >= sight.high * last - 1e-6).all()
        np.testing.assert_allclose(part.lattice.bounds, grid.bounds)
        points.append(np.prod(part.lattice.dims))
    assert points == sorted(points) and part.lattice == grid


def test_a_pixel_gets_one_value_at_most():
    grid = GRIDS["uniform"]
    camera = Camera.looking_at(grid.bounds, size=(16, 16))
    assert min(fit_part(grid, sight_of(camera, grid), 10**9).lattice.spacing) >= sight_of(camera, grid).pixel > 1


def test_the_limits_of_a_region_hold():
    part = fit_part(GRIDS["uniform"], WHOLE, 300, ((10, 3, 0), (30, 30, 9)))
    index = GRIDS["uniform"].world_to_index(part.lattice.index_to_world([part.start, np.array(part.stop) - 1]))
    assert (index[0] >= np.array([10, 3, 0]) - 1e-6).all() and (index[1] <= np.array([29, 29, 8]) + 1e-6).all()


# ---- the source ------------------------------------------------------------------------------------


def test_coarse_and_full(models, view):
    source = followed(view, models["f"])
    see(view)
    simple.Render(view)
    full = check(source).GetNumberOfPoints()
    source.Detail = "Coarse"
    simple.Render(view)
    coarse = check(source)
    assert coarse.GetNumberOfPoints() <= 3000 < 20_000 < full <= 40_000
    np.testing.assert_allclose(coarse.GetBounds(), GRID.bounds)
    assert "coarse" in info(source, "Status")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["f", "stretched", "bricks"])
def test_zoomed_in_the_resolution_is_higher_with_the_same_budget(models, view, kind):
    source = followed(view, models[kind])
    view.ResetCamera()
    simple.Render(view)
    points, far = [], [check(source).GetNumberOfPoints()]
    whole = np.diff(np.reshape(output(source).GetBounds(), (3, 2)))
    for _ in range(3):
        view.GetActiveCamera().Zoom(3)
        simple.Render(view)
        image = check(source)
        seen = np.diff(np.reshape(image.GetBounds(), (3, 2)))
        points.append(image.GetNumberOfPoints() / np.prod(seen / whole))
    assert far[0] < points[0] < points[1] and points[1] <= points[2] * 1.0001
    assert np.prod(seen / whole) < 0.2


def test_components_and_derivatives_count(models, view):
    source = followed(view, models["several"], ComputeGradient=1, ComputeVorticity=1)
    see(view)
    simple.Render(view)
    arrays = output(source).GetPointData()
    numbers = [arrays.GetArray(i).GetNumberOfComponents() for i in range(arrays.GetNumberOfArrays())]
    assert sum(numbers) == 1 + 3 + 3 + 9 + 3
    assert 10_000 < output(source).GetNumberOfPoints() * sum(numbers) <= 40_000


def test_cells_and_the_region_of_interest(models, view):
    source = followed(view, models["cells"], UseRegionOfInterest=1, RegionOfInterest=[2, 4, 3, 7, 4, 11])
    see(view)
    for detail in ("Auto", "Coarse"):
        source.Detail = detail
        simple.Render(view)
        bounds = output(source).GetBounds()
        assert output(source).GetNumberOfCells() > 50
        assert all(a >= b for a, b in zip(bounds[::2], (2, 3, 4))) and all(a <= b for a, b in zip(bounds[1::2], (4, 7, 11)))


def test_the_same_view_gives_the_same_array(models, view):
    source = followed(view, models["f"])
    arrays = []
    for position in ((14, 18, 25), (3.5, 6, 12), (14, 18, 25)):
        see(view, position)
        simple.Render(view)
        arrays.append(output(source).GetPointData().GetArray("f"))
    assert arrays[0] is arrays[2] is not arrays[1]
    assert "kept" in info(source, "Status")
    source.GetClientSideObject().Modified()
    simple.Render(view)
    assert output(source).GetPointData().GetArray("f") is arrays[0]


def test_a_step_of_the_camera_that_changes_nothing_runs_nothing(models, view):
    source = followed(view, models["f"])
    see(view)
    simple.Render(view)
    before = output(source).GetMTime()
    see(view, (14.001, 18, 25))
    simple.Render(view)
    assert output(source).GetMTime() == before


@pytest.mark.slow
def test_the_cache_is_bounded(models, view):
    source = followed(view, models["f"], Budget=150_000, CacheSize=1)
    kept = source.GetClientSideObject().decoded
    for x in range(-9, 21, 5):
        see(view, (x, 18, 25))
        simple.Render(view)
        assert kept.byte_count <= 1_000_000
    assert len(kept) >= 1
    source.CacheSize = 0
    see(view, (3, 30, 25))
    simple.Render(view)
    assert len(kept) == 0 and check(source)


def test_another_time_is_not_taken_from_the_cache(models, view):
    source = followed(view, models["times"])
    see(view)
    seen = []
    for view_time in (1.0, 3.0, 1.0):
        view.ViewTime = view_time
        simple.Render(view)
        seen.append(values_of(output(source)).copy())
    assert (seen[0] == seen[2]).all() and np.abs(seen[0] - seen[1]).max() > 1


def test_a_contour_downstream_follows(models, view):
    source = followed(view, models["f"])
    contour = simple.Contour(Input=source, ContourBy=["POINTS", "f"], Isosurfaces=[50])
    simple.Show(contour, view)
    cells = []
    for position in ((14, 18, 25), (3.5, 6, 12)):
        see(view, position)
        simple.Render(view)
        cells.append(output(contour).GetNumberOfCells())
        surface, image = (np.array(output(proxy).GetBounds()) for proxy in (contour, source))
        assert (surface[::2] >= image[::2] - 1e-6).all() and (surface[1::2] <= image[1::2] + 1e-6).all()
    source.Detail = "Coarse"
    simple.Render(view)
    assert 10 < output(contour).GetNumberOfCells() < cells[0]


def test_nothing_in_sight_gives_the_coarse_lattice(models, view):
    source = followed(view, models["f"])
    see(view, (14, 18, 25), (50, 50, 50))
    simple.Render(view)
    assert check(source).GetNumberOfPoints() <= 3000


def test_without_links_all_of_the_volume_is_seen(models):
    source = simple.NeuralVolume(FileName=models["f"], FollowView=1, Scale=8, Budget=10_000)
    source.UpdatePipeline()
    np.testing.assert_allclose(check(source).GetBounds(), GRID.bounds)
    assert output(source).GetNumberOfPoints() > 5000


def test_a_file_larger_than_any_memory_is_shown(models, view):
    source = followed(view, models["f"], Dimensions=[4097, 4097, 4097])
    see(view)
    simple.Render(view)
    assert 20_000 < check(source).GetNumberOfPoints() <= 40_000


# ---- a window ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_polled_source_is_coarse_until_the_camera_is_still(models, view):
    source = followed(view, models["f"], SettleTime=0.2)
    see(view)
    simple.Render(view)
    algorithm, full = source.GetClientSideObject(), output(source).GetNumberOfPoints()
    assert not algorithm.GetNeedsUpdate()  # it is asked from now on
    for step in range(3):
        see(view, (14, 18 - step, 24))
        simple.Render(view)
        assert check(source).GetNumberOfPoints() <= 3000
        assert not algorithm.GetNeedsUpdate()
        mtime = output(source).GetMTime()
        see(view, (13, 18 - step, 24))
        simple.Render(view)
        assert output(source).GetMTime() == mtime  # coarse as before
    time.sleep(0.25)
    assert algorithm.GetNeedsUpdate()
    source.SMProxy.MarkModified(source.SMProxy)  # as the window does
    simple.Render(view)
    assert check(source).GetNumberOfPoints() > full / 2
    assert not algorithm.GetNeedsUpdate()


def test_the_mouse_makes_it_coarse_and_rest_makes_it_fine(models, view):
    source = followed(view, models["f"], SettleTime=0.1)
    see(view)
    simple.Render(view)
    full, mouse = output(source).GetNumberOfPoints(), view.GetInteractor()
    mouse.InvokeEvent("StartInteractionEvent")
    simple.Render(view)
    assert output(source).GetNumberOfPoints() == full  # a click is no movement
    mouse.InvokeEvent("InteractionEvent")
    assert check(source).GetNumberOfPoints() <= 3000
    view.GetActiveCamera().Azimuth(20)
    mouse.InvokeEvent("InteractionEvent")
    mouse.InvokeEvent("EndInteractionEvent")
    assert check(source).GetNumberOfPoints() <= 3000 and source.Detail == "Coarse"
    time.sleep(0.15)
    ViewFollower.of(source).on_timer()  # Python cannot give the event its number
    assert check(source).GetNumberOfPoints() > full / 2 and source.Detail == "Auto"


def test_the_wheel_has_no_move(models, view):
    source = followed(view, models["f"])
    see(view)
    simple.Render(view)
    mouse = view.GetInteractor()
    for zoom, found in ((1.0, "Auto"), (1.2, "Coarse"), (1.2, "Coarse")):
        mouse.InvokeEvent("StartInteractionEvent")
        view.GetActiveCamera().Dolly(zoom)
        mouse.InvokeEvent("EndInteractionEvent")
        assert source.Detail == found
    simple.Render(view)
    assert check(source).GetNumberOfPoints() <= 3000


def test_a_reset_camera_sees_the_whole_volume_again(models, view):
    source = followed(view, models["f"])
    see(view, (3.5, 6, 12))
    simple.Render(view)
    assert check(source).GetBounds() != GRID.bounds
    view.ResetCamera()
    simple.Render(view)
    np.testing.assert_allclose(check(source).GetBounds(), GRID.bounds)
    np.testing.assert_allclose(view.CameraFocalPoint, (3, 5.5, 9))
    see(view, (3.5, 6, 12))
    simple.Render(view)
    view.ResetActiveCameraToPositiveX()
    view.SMProxy.ResetCamera(2.9, 3.1, 5.2, 5.4, 8.9, 9.1)  # something small in it
    simple.Render(view)
    assert check(source).GetBounds() != GRID.bounds


def test_detail_full_stays_full(models, view):
    source = followed(view, models["f"], SettleTime=0.0)
    source.Detail = "Full"
    see(view)
    simple.Render(view)
    view.GetInteractor().InvokeEvent("InteractionEvent")
    simple.Render(view)
    assert output(source).GetNumberOfPoints() > 20_000
    view.GetInteractor().InvokeEvent("EndInteractionEvent")


# ---- follow, unfollow, states --------------------------------------------------------------------------


def test_follow_shows_a_path_as_a_volume(models, view):
    source = apmgsrn.follow(view, models["f"])
    simple.Render(view)
    display = simple.GetDisplayProperties(source, view)
    assert display.Representation == "Volume" and display.ColorArrayName[1] == "f"
    assert np.array(view.CameraPosition) @ np.array(view.CameraPosition) > 100  # it looks at the volume
    np.testing.assert_allclose(check(source).GetBounds(), GRID.bounds)


def test_unfollow_gives_the_whole_again(models, view):
    source = followed(view, models["f"], Scale=2)
    see(view, (3.5, 6, 12))
    simple.Render(view)
    apmgsrn.unfollow(source)
    assert (source.FollowView, source.Detail) == (0, "Auto")
    simple.Render(view)
    assert output(source).GetDimensions() == (17, 15, 13)
    before, settings = output(source).GetMTime(), source.CameraPosition[:]
    see(view, (9, 9, 9))
    view.GetInteractor().InvokeEvent("InteractionEvent")
    simple.Render(view)
    assert output(source).GetMTime() == before and source.CameraPosition[:] == settings
    assert len(source.GetClientSideObject().decoded) == 0


def test_followers_end_with_their_view_and_source(models, view, tmp_path):
    source = followed(view, models["f"])
    simple.Delete(source)
    del source
    view.GetInteractor().InvokeEvent("InteractionEvent")
    simple.Render(view)
    followed(view, models["f"])
    simple.Delete(view)
    simple.SaveState(str(tmp_path / "s.pvsm"))


@pytest.mark.slow
def test_a_state_keeps_following(models, view, tmp_path):
    followed(view, models["f"])
    see(view)
    simple.Render(view)
    simple.SaveState(str(tmp_path / "s.pvsm"))
    for proxy in list(simple.GetSources().values())[::-1]:
        simple.Delete(proxy)
    simple.LoadState(str(tmp_path / "s.pvsm"))
    loaded = [v for v in simple.GetViews() if v.SMProxy is not view.SMProxy][-1]
    source = list(simple.GetSources().values())[-1]
    see(loaded, (3.5, 6, 12))
    simple.Render(loaded)
    bounds = np.reshape(check(source).GetBounds(), (3, 2))
    assert np.prod(np.diff(bounds)) < 0.8 * np.prod(np.diff(np.reshape(GRID.bounds, (3, 2))))
    apmgsrn.unfollow(source)  # also what another session has begun
    see(loaded, (9, 9, 9))
    assert list(source.CameraPosition) == [3.5, 6, 12]
    simple.Delete(loaded)


# ---- what is wrong is told --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"OutputKind": "Adaptive"}, "FollowView: expected OutputKind Lattice"),
        ({"Budget": 7}, "Budget: expected room for at least 8 points"),
        ({"Budget": 90, "ComputeGradient": 1, "Arrays": ["v"]}, "found room for 7"),
        ({"SettleTime": -1}, "SettleTime: expected a number >= 0, found -1"),
        ({"CacheSize": -2}, "CacheSize"),
        ({"CameraPosition": [1, 1, 1], "CameraFocalPoint": [1, 1, 1]}, "focal_point"),
        ({"ImageScale": 9}, "ImageScale"),
    ],
)
def test_wrong_settings(models, vtk_errors, settings, told):
    source = simple.NeuralVolume(FileName=models["several"], FollowView=1, Device="cpu")
    for name, value in settings.items():
        source.SetPropertyWithName(name, value)
    source.UpdatePipeline()
    assert told in info(source, "LastError") and len(vtk_errors.take()) == 1


def test_what_cannot_follow(view):
    image = make_image(smooth_values((7, 8, 9)))
    for call in (lambda: apmgsrn.follow(view, image), lambda: apmgsrn.unfollow(image)):
        with pytest.raises(core.ConfigError, match="expected a Neural Volume"):
            call()


# ---- ranks ----------------------------------------------------------------------------------------------


@pytest.mark.mpi
def test_two_ranks_and_a_server_give_what_one_rank_gives(models, tmp_path):
    reports = {}
    for name, start in (("one", []), ("two", MPIRUN)):
        (tmp_path / name).mkdir()
        command = [*start, "pvbatch", SCRIPT, PLUGIN, models["wavelet"], str(tmp_path / name)]
        reports[name] = run(command, tmp_path / name)[0]
    (tmp_path / "server").mkdir()
    with parallel_server(tmp_path / "server.log") as port:
        command = ["pvpython", SCRIPT, PLUGIN, models["wavelet"], str(tmp_path / "server"), port]
        reports["server"] = run(command, tmp_path / "server")[0]
    one = reports["one"]
    for name in ("two", "server"):
        for key, found in reports[name].items():
            assert one[key]["bounds"] == pytest.approx(found["bounds"]), (name, key)
            assert one[key]["cells"] <= found["cells"] <= 1.3 * one[key]["cells"]  # with ghost cells
            assert one[key]["area"] == pytest.approx(found["area"], rel=1e-4) and one[key]["area"] > 1
            pictures = [png(tmp_path / of / f"{key}.png") for of in ("one", name)]
            assert np.quantile(np.abs(pictures[0] - pictures[1]), 0.99) <= 3, (name, key)
    assert one["near"]["cells"] < 60_000 and one["coarse"]["cells"] < 3000


@contextmanager
def parallel_server(log):
    """The port of a server of two ranks, which ends when its client goes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    with open(log, "w") as file:
        server = subprocess.Popen([*MPIRUN, "pvserver", f"--server-port={port}"], env=ENVIRONMENT, stdout=file, stderr=file)
    try:
        end = time.time() + 60
        while "Accepting connection" not in log.read_text() and server.poll() is None and time.time() < end:
            time.sleep(0.2)
        assert server.poll() is None, log.read_text()
        yield port
        server.wait(60)
    finally:
        server.kill()
        server.wait()


def png(path) -> np.ndarray:
    from vtkmodules.vtkIOImage import vtkPNGReader

    reader = vtkPNGReader()
    reader.SetFileName(str(path))
    reader.Update()
    return vtk_to_numpy(reader.GetOutput().GetPointData().GetScalars()).astype(int)
