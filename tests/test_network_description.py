"""Descriptions of foreign networks: what is read, what is refused, and that nothing runs."""

import json
import os

import foreign_networks as foreign
import numpy as np
import pytest

from apmgsrn_core import DataError, Grid, ModelFileError, absolute_path, open_header, register_network, volume_stamp
from apmgsrn_core.foreign.network_description import grid_of, read_description

NETWORK = {"kind": "torchscript", "file": "wave.pt"}


def test_a_description_is_a_header(tmp_path):
    (tmp_path / "wave.pt").write_bytes(b"12345")
    header = open_header(foreign.write_description(tmp_path, NETWORK))
    assert header.grid == foreign.GRID
    assert [a.name for a in header.arrays] == ["wave"] and header.arrays[0].range == (10.0, 30.0)
    assert (header.times, header.mask, header.layout.count, header.byte_count) == ((), None, 1, 5)
    assert header.arrays_at(0) == header.arrays
    assert (header.outputs, header.derivatives, header.most_points) == ("normalised", "auto", 65536)


@pytest.mark.parametrize("association", ["point", "cell"])
@pytest.mark.parametrize("dims", [(7, 8, 9), (9, 1, 7), (2, 2, 2)])
def test_bounds_are_those_of_the_mesh(dims, association):
    bounds = [v for n, low in zip(dims, (-1.0, 2.0, 0.25)) for v in (low, low + (3.5 if n > 1 else 0.0))]
    grid = grid_of({"dims": list(dims), "bounds": bounds, "association": association})
    assert grid.bounds == pytest.approx(bounds)
    assert (grid.dims, grid.association) == (dims, association)


def test_a_grid_by_origin_and_one_by_axes():
    turned = [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    grid = grid_of({"dims": [7, 8, 9], "origin": [1, 2, 3], "spacing": [1, 2, 3], "direction": turned})
    assert grid == Grid((7, 8, 9), (1, 2, 3), (1, 2, 3), turned)
    axes = [[0.0, 1.0, 4.0], [0.0, 1.0], [5.0, 4.0, 0.0]]
    assert grid_of({"axes": axes}) == Grid((3, 2, 3), axes=tuple(map(tuple, axes)))


def changed(path, value):
    """A description with one entry changed, or left out for None."""
    data = foreign.description(dict(NETWORK))
    where = data
    for key in path[:-1]:
        where = where[key]
    if value is None:
        del where[path[-1]]
    else:
        where[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (["format"], "other", "format"), (["version"], 2, "version"), (["colour"], 1, "colour"),
        (["grid"], None, "'grid' is missing"), (["grid", "dims"], [0, 8, 9], "bounds|dims"),
        (["grid", "dims"], [9.5, 8, 9], "dims"), (["grid", "dims"], None, "dims"), (["grid", "dims"], [9, 8], "bounds|dims"),
        (["grid", "bounds"], [0, 1], "bounds"),
        (["grid", "bounds"], [1, 0, 0, 1, 0, 1], "bounds"), (["grid", "size"], 3, "size"),
        (["arrays"], [], "arrays"), (["arrays"], [{"name": "a", "range": [0, 1]}] * 2, "differ"),
        (["arrays", 0, "range"], None, "range"), (["arrays", 0, "range"], [3, 1], "range"),
        (["arrays", 0, "components"], 0, "components"), (["arrays", 0, "association"], "cell", "wave"),
        (["outputs"], "percent", "outputs"), (["derivatives"], "none", "derivatives"), (["most_points"], 0, "most_points"),
        (["network", "kind"], "pickle", "kind"), (["network", "file"], None, "file"),
        (["network", "file"], "../wave.pt", "folder"), (["network", "file"], "/etc/passwd", "folder"),
        (["network", "weights"], "w", "weights"), (["network"], 3, "network"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, path, value, named):
    file = tmp_path / "wave.network.json"
    file.write_text(json.dumps(changed(path, value)))
    with pytest.raises(ModelFileError, match=named) as raised:
        read_description(file)
    assert str(file) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "[" * 100_000, "\x00", "null"])
def test_what_is_no_description_is_refused(tmp_path, text):
    file = tmp_path / "wave.network.json"
    file.write_text(text)
    with pytest.raises(ModelFileError):
        read_description(file)


def test_a_missing_file_and_a_folder_are_model_file_errors(tmp_path):
    (tmp_path / "folder.network.json").mkdir()
    for name in ("none.network.json", "folder.network.json"):
        with pytest.raises(ModelFileError, match=name.split(".")[0]):
            open_header(tmp_path / name)


def test_outputs_in_the_unit_need_a_range_with_a_length(tmp_path):
    data = foreign.description(NETWORK, outputs="unit")
    data["arrays"][0]["range"] = [3.0, 3.0]
    (tmp_path / "a.network.json").write_text(json.dumps(data))
    with pytest.raises(ModelFileError, match="low < high"):
        read_description(tmp_path / "a.network.json")


def test_the_stamp_changes_with_the_description_and_with_what_it_names(tmp_path):
    path = foreign.write_description(tmp_path, NETWORK)
    stamps = [volume_stamp(path)]
    (tmp_path / "wave.pt").write_bytes(b"1")
    stamps.append(volume_stamp(path))
    os.utime(tmp_path / "wave.pt", ns=(1, 1))
    stamps.append(volume_stamp(path))
    foreign.write_description(tmp_path, NETWORK, most_points=7)
    stamps.append(volume_stamp(path))
    assert len(set(stamps)) == 4 and volume_stamp(path) == stamps[-1]


def test_registering_again_changes_the_stamp():
    where = {key: foreign.description({})[key] for key in ("grid", "arrays")}
    path = register_network("stamped", np.sin, where)
    first = volume_stamp(path)
    assert path == absolute_path(path) == "registered:stamped" and first == volume_stamp(path)
    assert volume_stamp(register_network("stamped", np.sin, where)) != first
    with pytest.raises(DataError, match="'unknown'.*'stamped'"):
        open_header("registered:unknown")
    with pytest.raises(ModelFileError, match="registered:broken"):
        register_network("broken", np.sin, {"grid": where["grid"]})
