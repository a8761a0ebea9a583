"""What the panel says of a model before it is trained: it is what the training then makes."""

import os

import numpy as np
import pytest
from conftest import TINY, info, make_image, make_source, smooth_values, train
from meshes import add, hexahedra, image, linear, positions_of
from paraview import simple
from test_time_series import moving

from apmgsrn_core import NeuralVolume, read_header

DIMS = (12, 11, 10)
SEVERAL = {"SeveralArrays": 1, "PointArrays": ["f", "v"]}


def both(data):
    places = positions_of(data)
    add(data, "f", linear(places).astype("float32"))
    add(data, "v", places.astype("float64"))
    return make_source(data)


def said(source, **settings):
    filter_ = simple.TrainNeuralVolume(Input=source, **settings)
    filter_.UpdatePipelineInformation()
    return filter_, {name: info(filter_, name) for name in ("EstimatedRatio", "EstimatedBytes", "NumberOfParameters", "EffectiveModel")}


def numbers_in(path):
    configs = [network.config for network in NeuralVolume.open(path, "cpu").networks]
    return sum(config.parameter_count(config.output_components) for config in configs)


def test_all_chosen_arrays_count():
    source, settings = both(image(DIMS)), {**TINY, "Storage": "float32"}
    _, one = said(source, **settings, TargetArray=["POINTS", "f"])
    _, two = said(source, **settings, TargetArray=["POINTS", "f"], **SEVERAL)
    assert two["NumberOfParameters"] > one["NumberOfParameters"]
    assert str(two["NumberOfParameters"]) in two["EffectiveModel"]
    data = np.prod(DIMS)
    assert one["EstimatedBytes"] > 4 * one["NumberOfParameters"]
    assert one["EstimatedRatio"] == pytest.approx(4 * data / one["EstimatedBytes"])
    assert two["EstimatedRatio"] == pytest.approx((4 + 3 * 8) * data / two["EstimatedBytes"])


@pytest.mark.parametrize("data", [image(DIMS), hexahedra((5, 4, 6))], ids=["image", "mesh"])
def test_the_numbers_are_those_that_are_trained(data, tmp_path):
    path = str(tmp_path / "m.apmgsrn")
    filter_ = train(both(data), ModelFile=path, MeshSamples=500, **SEVERAL)
    assert info(filter_, "LastError") == ""
    assert info(filter_, "NumberOfParameters") == numbers_in(path)


def test_points_and_cells_together():
    data = image(DIMS)
    add(data, "f", linear(positions_of(data)).astype("float32"))
    add(data, "c", np.arange(11.0 * 10 * 9), "cell")
    source = make_source(data)
    _, points = said(source, **TINY, SeveralArrays=1, PointArrays=["f"])
    _, mixed = said(source, **TINY, SeveralArrays=1, PointArrays=["f"], CellArrays=["c"])
    assert mixed["EstimatedRatio"] > 2 * points["EstimatedRatio"]
    assert said(source, **TINY, SeveralArrays=1)[1]["EstimatedRatio"] == 0  # none is chosen


@pytest.mark.parametrize(
    "settings, stored",
    [
        ({}, "rounded"), ({"Rounding": 0}, "in float16"), ({"Storage": "float32"}, "in float32"), ({"Aim": "Size", "TargetBytes": 50_000}, "in float16"),
        ({"Storage": "float32", "Rounding": 0.1}, "rounded"),
    ],
)  # fmt: skip
def test_how_numbers_are_stored_is_said_and_done(settings, stored, tmp_path):
    path = str(tmp_path / "m.apmgsrn")
    source = make_image(smooth_values((40, 36, 32)))
    settings = {"Preset": "Small", "Iterations": 300, "Device": "cpu", "ModelFile": path, **settings}
    filter_, before = said(source, **settings)
    assert f"numbers {stored}:" in before["EffectiveModel"]
    filter_.UpdatePipeline()
    assert info(filter_, "LastError") == ""
    assert (read_header(path).manifest["sections"][0]["coder"] == "rounded") == (stored == "rounded")
    assert before["EstimatedBytes"] == pytest.approx(os.path.getsize(path), rel=0.3 if stored == "rounded" else 0.1)
    assert read_header(path).manifest["training"]["rounding"] == {"rounded": settings.get("Rounding", 0.01)}.get(stored, 0)


@pytest.mark.parametrize("bricks", [[1, 1, 1], [2, 1, 1]])
def test_an_appended_step_has_the_networks_of_the_model(bricks, tmp_path):
    source, path = moving(), str(tmp_path / "m.apmgsrn")
    first = simple.TrainNeuralVolume(Input=source, **TINY, TimeSteps="Append", ModelFile=path, Bricks=bricks)
    first.UpdatePipeline(0.0)
    expected = info(first, "NumberOfParameters")
    assert expected == numbers_in(path)
    source.UpdatePipeline(1.0)
    other, found = said(source, Preset="Large", TimeSteps="Append", ModelFile=path, Iterations=20, Device="cpu")
    assert found["NumberOfParameters"] == expected and "8 grids of 4 x 4 x 4" in found["EffectiveModel"]
    assert ("in 2 bricks" in found["EffectiveModel"]) == (bricks[0] == 2)
    other.UpdatePipeline(1.0)
    assert info(other, "LastError") == "" and numbers_in(path) == expected
    assert found["EstimatedRatio"] == pytest.approx(info(other, "EstimatedRatio")) and found["EstimatedRatio"] > 0
    other.TimeSteps = "Current"
    other.UpdatePipelineInformation()
    assert info(other, "NumberOfParameters") > 100 * expected


def test_no_model_to_append_to_yet(tmp_path):
    _, found = said(make_image(smooth_values(DIMS)), **TINY, TimeSteps="Append", ModelFile=str(tmp_path / "none.apmgsrn"))
    assert "8 grids" in found["EffectiveModel"] and "appended" not in found["EffectiveModel"]
