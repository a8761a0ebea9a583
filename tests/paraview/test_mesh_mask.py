"""Where a model of a mesh has values: not in hidden cells and holes, and everywhere else."""

import numpy as np
import pytest
from conftest import TINY, info, make_source, output, train, values_of
from meshes import add, centres, ghosts, hexahedra, points_of, positions_of
from paraview import simple
from test_time_series import TIMES
from vtkmodules.vtkCommonDataModel import vtkDataSetAttributes, vtkPolyData

from apmgsrn_core import NeuralVolume, read_header
from apmgsrn_paraview.mesh_samples import sample_mesh

HIDDEN = vtkDataSetAttributes.HIDDENCELL


def mesh_of(dims=(9, 9, 9), jitter=0.2):
    mesh = hexahedra(dims, jitter=jitter)
    add(mesh, "f", positions_of(mesh)[:, 0] + 100)
    return mesh


def layer(positions):
    return (positions[:, 2] > 3) & (positions[:, 2] < 5)


def test_hidden_cells_have_no_values_and_all_others_have(tmp_path):
    mesh, path = mesh_of(), str(tmp_path / "m.apmgsrn")
    hidden = layer(centres(mesh))
    ghosts(mesh, "cell", np.flatnonzero(hidden), HIDDEN)
    assert info(train(make_source(mesh), ModelFile=path, MeshSamples=4000), "LastError") == ""
    volume = NeuralVolume.open(path, "cpu")
    np.testing.assert_array_equal(volume.valid_points(centres(mesh)), ~hidden)
    inside = sample_mesh(mesh, [("f", "point")], 5000, 1).positions
    assert volume.valid_points(inside).mean() > 0.999
    places = vtkPolyData()
    places.SetPoints(points_of(centres(mesh)))
    shown = simple.SampleNeuralVolume(Input=make_source(places), FileName=path)
    shown.UpdatePipeline()
    np.testing.assert_array_equal(np.isfinite(values_of(output(shown))), ~hidden)


@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_points_without_a_number_have_none_in_the_model(jitter):
    mesh = mesh_of(jitter=jitter)
    values = np.where(layer(positions_of(mesh)), np.nan, positions_of(mesh)[:, 0])
    add(mesh, "f", values)
    found = values_of(output(train(make_source(mesh), MeshSamples=4000)))
    assert np.isnan(found[np.isnan(values)]).all()
    assert np.isfinite(found[positions_of(mesh)[:, 2] < 1.5]).all() and np.isfinite(found[positions_of(mesh)[:, 2] > 6.5]).all()


def test_a_mask_is_fine_but_small_beside_the_model(tmp_path):
    small, default = str(tmp_path / "s.apmgsrn"), str(tmp_path / "d.apmgsrn")
    mesh = mesh_of((17, 17, 17))
    distance = np.linalg.norm(centres(mesh) - 8, axis=1)
    ghosts(mesh, "cell", np.flatnonzero((distance > 3) & (distance < 6)), HIDDEN)
    source = make_source(mesh)
    whole = str(tmp_path / "w.apmgsrn")
    train(source, ModelFile=small, MeshSamples=2000)
    few = {"MeshSamples": 2000, "Iterations": 3, "Preset": "Small", "Rounding": 0}
    train(source, ModelFile=default, **few)
    train(make_source(mesh_of((17, 17, 17))), ModelFile=whole, **few)
    assert read_header(default).mask == "voxels/4" and read_header(small).mask in ("voxels", "voxels/2")
    assert read_header(default).byte_count - read_header(whole).byte_count < 0.1 * read_header(whole).byte_count


def test_the_steps_of_a_series_have_masks_of_their_own_equally_fine(tmp_path):
    path, kinds = str(tmp_path / "m.apmgsrn"), set()
    for step, time in enumerate(TIMES[:2]):
        mesh = mesh_of()
        away = centres(mesh)[:, step] > 5  # along x, then along y
        ghosts(mesh, "cell", np.flatnonzero(away & (np.arange(len(away)) > 0)), HIDDEN)
        bounded = np.array([0, mesh.GetNumberOfCells() - 1])
        marks = mesh.GetCellData().GetArray(vtkDataSetAttributes.GhostArrayName())
        for cell in bounded:  # the box stays that of the first step
            marks.SetValue(int(cell), 0)
        mesh.GetInformation().Set(mesh.DATA_TIME_STEP(), time)
        settings = {**TINY, "Preset": "Small"} if step == 0 else TINY
        filter_ = simple.TrainNeuralVolume(
            Input=make_source(mesh), **settings, MeshSamples=2000, TimeSteps="Append", ModelFile=path,
            MeshDimensions=[9, 9, 9],
        )  # fmt: skip
        filter_.UpdatePipeline(time)
        assert info(filter_, "LastError") == ""
        kinds.add(read_header(path).mask)
        away[bounded] = False
        np.testing.assert_array_equal(NeuralVolume.open(path, "cpu").valid_points(centres(mesh), time=time), ~away)
    assert kinds == {"voxels/4"}
