"""Proxies that come and go leave nothing: no filter, no open file, no thread, no memory."""

import gc
import json
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import small_models
from conftest import TINY, simple

from apmgsrn_paraview.proxy import Proxy

ROOT = Path(__file__).parents[2]
FLAT = 0.02  # of the resident memory


@pytest.fixture
def alive(monkeypatch):
    """The filters of the plugin that are made during a test and still exist."""
    found, begin = weakref.WeakSet(), Proxy.__init__

    def __init__(self, *arguments, **keywords):
        begin(self, *arguments, **keywords)
        found.add(self)

    monkeypatch.setattr(Proxy, "__init__", __init__)
    return found


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return small_models.train_models(tmp_path_factory.mktemp("models"))


def made(kind: str, paths: dict, folder) -> list:
    """Proxies of one kind, updated, the last one first."""
    path = paths["bricks"]
    data = small_models.image_like_the_model()
    if kind == "NeuralVolume":
        return [simple.NeuralVolume(FileName=path, ComputeGradient=1)]
    if kind == "adaptive NeuralVolume":
        return [simple.NeuralVolume(FileName=path, OutputKind="Adaptive")]
    if kind == "RenderNeuralVolume":
        volume = simple.NeuralVolume(FileName=path)
        return [simple.RenderNeuralVolume(Input=volume), volume]
    if kind == "TrainNeuralVolume":
        return [simple.TrainNeuralVolume(Input=data, **TINY), data]
    if kind == "live TrainNeuralVolume":
        return [simple.TrainNeuralVolume(Input=data, Live=1, SliceTime=0.01, ModelFile=str(folder / "live.apmgsrn"), **TINY), data]
    return [getattr(simple, kind)(Input=data, FileName=path), data]


@pytest.mark.parametrize(
    "kind",
    ["NeuralVolume", "adaptive NeuralVolume", "RenderNeuralVolume", "SampleNeuralVolume", "CompareNeuralVolume",
     "TrainNeuralVolume", "live TrainNeuralVolume"],
)  # fmt: skip
def test_a_deleted_proxy_is_freed(kind, paths, tmp_path, alive):
    proxies = made(kind, paths, tmp_path)
    proxies[0].UpdatePipeline()
    assert alive
    while proxies:
        simple.Delete(proxies.pop(0))
    gc.collect()
    assert not alive


@pytest.mark.parametrize("kind", ["TrainNeuralVolume", "CompareNeuralVolume", "SampleNeuralVolume", "NeuralVolume"])
def test_one_that_has_failed_is_freed_as_well(kind, tmp_path, alive, vtk_errors):
    """What an error has seen on its way would keep the filter, and the data that it was given."""
    proxies = [getattr(simple, kind)(FileName=str(tmp_path / "none.apmgsrn"))] if kind == "NeuralVolume" else []
    if not proxies:
        data = small_models.image_like_the_model()
        settings = {"FileName": str(tmp_path / "none.apmgsrn")}
        if kind == "TrainNeuralVolume":
            settings = {"ModelFile": "/no/such/folder/m.apmgsrn", **TINY}
        proxies = [getattr(simple, kind)(Input=data, **settings), data]
    proxies[0].UpdatePipeline()
    assert alive and vtk_errors.take()
    while proxies:
        simple.Delete(proxies.pop(0))
    gc.collect()
    assert not alive


def run(folder, opened: int, trained: int) -> dict:
    """What `long_run.py` finds in a pvpython of its own."""
    script, report = ROOT / "tests" / "bench" / "long_run.py", folder / "report.json"
    command = ["pvpython", script, "--opened", str(opened), "--trained", str(trained), "--json", report]
    result = subprocess.run(command, capture_output=True, text=True, timeout=14000)
    assert result.returncode == 0, result.stdout + result.stderr
    sys.stdout.write(result.stdout)
    return json.loads(report.read_text())


def check(report: dict) -> None:
    assert report["errors"] == 0 and report["left"] == []
    for line in report["summary"]:
        assert line["growth"] <= FLAT and line["more files"] <= 0 and line["more threads"] <= 0, line


@pytest.mark.slow
def test_nothing_is_left_of_thirty_cycles(tmp_path):
    check(run(tmp_path, 30, 9))


@pytest.mark.long
def test_nothing_is_left_of_five_hundred_cycles(tmp_path):
    check(run(tmp_path, 500, 50))
