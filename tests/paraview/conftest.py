"""Fixtures of the plugin's tests. Run them with `pvpython -m pytest tests/paraview`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

simple = pytest.importorskip("paraview.simple", reason="needs ParaView's Python: pvpython -m pytest")

from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy  # noqa: E402
from vtkmodules.vtkCommonCore import vtkOutputWindow  # noqa: E402
from vtkmodules.vtkCommonDataModel import vtkImageData  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
TINY = dict(
    Preset="Custom", NumberOfGrids=8, GridResolution=[4, 4, 4], HiddenWidth=16, Iterations=30, BatchSize=500,
    Device="cpu",
)  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def plugin():
    """Load the plugin once."""
    simple._DisableFirstRenderCameraReset()
    simple.LoadPlugin(str(ROOT / "xml" / "apmgsrn.xml"), remote=False, ns=vars(simple))


class Messages(list):
    """The errors that VTK showed; a test that expects some takes them."""

    def take(self) -> list:
        taken, self[:] = list(self), []
        return taken


@pytest.fixture(autouse=True)
def vtk_errors(plugin):
    """Every line that goes to Output Messages as an error fails the test, unless the test takes it."""
    messages, window = Messages(), vtkOutputWindow.GetInstance()

    def note(_, __, text):
        messages.append(text.strip())

    note.CallDataType = "string0"
    tag = window.AddObserver("ErrorEvent", note)
    yield messages
    window.RemoveObserver(tag)
    leave_nothing()
    assert messages == []


def leave_nothing() -> None:
    """No view, source or link of one test is in the state that another one saves, whatever their order."""
    manager = simple.servermanager.ProxyManager().SMProxyManager
    for proxy in (*simple.GetViews(), *list(simple.GetSources().values())[::-1]):
        simple.Delete(proxy)
    for name in [manager.GetLinkName(number) for number in range(manager.GetNumberOfLinks())]:
        manager.UnRegisterLink(name)


@pytest.fixture
def warnings():
    """The warnings that VTK shows during the test."""
    messages, window = Messages(), vtkOutputWindow.GetInstance()

    def note(_, __, text):
        messages.append(text.strip())

    note.CallDataType = "string0"
    tag = window.AddObserver("WarningEvent", note)
    yield messages
    window.RemoveObserver(tag)


@pytest.fixture
def trainings(monkeypatch):
    """Counts the trainings: a list with the settings of each."""
    from apmgsrn_core.training import volume_training

    done, plan = [], volume_training.plan_bricks
    monkeypatch.setattr(volume_training, "plan_bricks", lambda job, survey: done.append(job.train) or plan(job, survey))
    return done


def smooth_values(dims, components=1, dtype="float32", low=0.0, high=100.0):
    """values[z, y, x(, c)]: smooth, different along each axis."""
    x, y, z = (np.linspace(0, 1, n) for n in dims)
    wave = np.sin(3 * x) + 0.5 * np.cos(4 * y)[:, None] + (z**2)[:, None, None]
    wave = low + (high - low) * (wave - wave.min()) / max(np.ptp(wave), 1e-9)
    if components > 1:
        wave = np.stack([wave * (1 + c) for c in range(components)], axis=-1) / components
    return wave.astype(dtype)


def make_image(values, extent=None, origin=(0, 0, 0), spacing=(1, 1, 1), direction=None, cells=False, name="f"):
    """A source that holds image data with these values; the extent counts points."""
    image = vtkImageData()
    dims = [n + (1 if cells and n > 1 else 0) for n in values.shape[2::-1]]
    image.SetExtent(extent or [v for n in dims for v in (0, n - 1)])
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    if direction is not None:
        image.SetDirectionMatrix(direction)
    array = numpy_to_vtk(np.ascontiguousarray(values).reshape((-1, *values.shape[3:])), deep=1)
    array.SetName(name)
    (image.GetCellData() if cells else image.GetPointData()).AddArray(array)
    return make_source(image)


def make_source(data):
    """A source that holds any data object."""
    producer = simple.TrivialProducer()
    producer.GetClientSideObject().SetOutput(data)
    producer.UpdatePipeline()
    return producer


def output(proxy, port=0):
    """The VTK object behind an output port."""
    return proxy.GetClientSideObject().GetOutputDataObject(port)


def values_of(data, name="f", side="PointData"):
    return vtk_to_numpy(getattr(data, "Get" + side)().GetArray(name))


def info(proxy, name):
    """An information property, asked anew."""
    proxy.UpdatePropertyInformation()
    return proxy.GetPropertyValue(name)


def train(source, **settings):
    """A trained filter on a source; settings beyond TINY by keyword."""
    filter_ = simple.TrainNeuralVolume(Input=source, **{**TINY, **settings})
    filter_.UpdatePipeline()
    return filter_
