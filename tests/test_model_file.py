"""The file format: round trip, golden layout, one test for each kind of damage."""

import hashlib
import json
import os
import stat
import struct
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from models import pack_networks
from volumes import tiny, wave

import apmgsrn_core.file.model_file as model_file
from apmgsrn_core import (
    ApmgsrnError, ArrayInfo, BrickLayout, Grid, ModelConfig, ModelFileError, NeuralVolume, check_writable, copy_model,
    read_header, read_model, train_volume, write_bytes,
)  # fmt: skip
from apmgsrn_core.network.model import Network
from apmgsrn_core.file.model_file import PREAMBLE, ModelFile
from apmgsrn_core.file.model_writer import StoredBrick, pack_model
from apmgsrn_core.file.network_reader import read_network
from apmgsrn_core.file.weights import brick_config, describe_brick, describe_model

MODEL = ModelConfig(number_of_grids=3, grid_resolution=(3, 4, 5), hidden_width=8)


@pytest.fixture(scope="module")
def model() -> bytes:
    values, grid = wave((9, 8, 7), origin=(1, 2, 3), spacing=(0.5, -1, 2), dtype="int16")
    return train_volume(
        values, grid, name="density", unit="kg/m^3", time=1.5, model=MODEL, train=tiny(iterations=3, rounding=0.0), key="k" * 64,
        on_progress=lambda s: True,
    ).to_bytes()  # fmt: skip


def unpacked(data: bytes) -> tuple[dict, dict]:
    """(manifest, tensors) of a model's bytes."""
    file = ModelFile(data)
    return file.header.manifest, file.read_section()


def repacked(data: bytes, change=None, tensors=None) -> bytes:
    """The same model with another manifest or other tensors (of one brick); checksums are right."""
    manifest = ModelFile(data).header.manifest
    if tensors is not None:
        section = save(tensors(unpacked(data)[1]))
        manifest["sections"][0].update(length=len(section), sha256=hashlib.sha256(section).hexdigest())
        offset = PREAMBLE.size + len(section)
        data = PREAMBLE.pack(b"\x89APMGSRN", 1, 0, offset, 0, bytes(32)) + section
    if change is not None:
        change(manifest)
    return with_manifest(data, json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode())


def with_manifest(data: bytes, text: bytes) -> bytes:
    """The same sections with any bytes as manifest."""
    magic, version, zero, offset, _, _ = PREAMBLE.unpack(data[: PREAMBLE.size])
    head = PREAMBLE.pack(magic, version, zero, offset, len(text), hashlib.sha256(text).digest())
    return head + data[PREAMBLE.size : offset] + text


def test_header_says_everything_without_the_weights(model, tmp_path):
    path = tmp_path / "m.apmgsrn"
    write_bytes(path, model)
    header = read_header(path)
    assert header.grid == wave((9, 8, 7), origin=(1, 2, 3), spacing=(0.5, -1, 2))[1]
    (array,) = header.arrays
    assert (array.name, array.association, array.components, array.dtype) == ("density", "point", 1, "int16")
    assert array.unit == "kg/m^3" and array.range[0] < array.range[1]
    assert header.times == (1.5,) and header.key == "k" * 64 and header.byte_count == len(model)
    assert header.layout == BrickLayout((9, 8, 7))
    for name in ("bricks", "layout", "times", "arrays", "mask", "macrocells", "grid", "requires",
                 "model", "training", "sections"):  # fmt: skip
        assert name in header.manifest, name


def test_layout_is_as_specified(model):
    assert model[:8] == b"\x89APMGSRN"
    version, zero, offset, length = struct.unpack("<IIQQ", model[8:32])
    assert (version, zero, offset + length) == (1, 0, len(model))
    assert hashlib.sha256(model[offset:]).digest() == model[32:64]
    manifest = json.loads(model[offset:])
    section = manifest["sections"][0]
    data = model[section["offset"] : section["offset"] + section["length"]]
    assert section["offset"] == 64 and hashlib.sha256(data).hexdigest() == section["sha256"]
    assert section["coder"] == "none" and (section["brick"], section["time"]) == (0, 0)
    assert manifest["layout"] == {"counts": [1, 1, 1], "ghosts": 0, "overlap": 1}
    grids = {"count": 3, "resolution": [3, 4, 5], "features": 2, "placed": True, "interpolation": "linear"}
    assert manifest["bricks"] == [{"start": [0, 0, 0], "stop": [9, 8, 7], "grids": [{**grids, "dtype": "float16"}]}]


def test_nothing_of_this_run_is_inside(model):
    text = model[struct.unpack("<Q", model[16:24])[0] :].decode()
    for word in (os.uname().nodename, os.getcwd(), "seconds", "date", "rank", "thread"):
        assert word not in text, word


def test_weights_are_half_precision_and_transforms_single(model):
    _, tensors = unpacked(model)
    assert tensors["features"].dtype == np.float16 and tensors["transforms"].dtype == np.float32


@pytest.mark.parametrize("length", [0, 1, 8, 63])
def test_too_short(model, length):
    with pytest.raises(ModelFileError, match=f"too short.*64 bytes, found {length}"):
        ModelFile(model[:length])


def test_foreign(model):
    with pytest.raises(ModelFileError, match="not an .apmgsrn file"):
        ModelFile(b"<?xml version='1.0'?>" + model)


def test_unknown_version(model):
    with pytest.raises(ModelFileError, match="format version 7"):
        ModelFile(model[:8] + struct.pack("<I", 7) + model[12:])


@pytest.mark.parametrize("text", [b"{not json", b"\xff\xfe", b"", b"[1, 2]", b"[" * 100_000])
def test_manifest_that_is_not_json(model, text):
    with pytest.raises(ModelFileError, match="JSON"):
        ModelFile(with_manifest(model, text))


def test_manifest_checksum(model):
    with pytest.raises(ModelFileError, match="manifest's checksum"):
        ModelFile(model[:-3] + b"0" + model[-2:])


def test_unknown_requirement(model):
    with pytest.raises(ModelFileError, match="requires wavelets"):
        ModelFile(repacked(model, lambda m: m.update(requires=["wavelets"])))


def test_macrocells_of_a_later_version(model):
    with pytest.raises(ModelFileError, match="macrocells"):
        ModelFile(repacked(model, lambda m: m.update(macrocells={})))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m: m.pop("grid"), "grid"),
        (lambda m: m["grid"].update(dims=[0, 1, 1]), "dims"),
        (lambda m: m["grid"].update(spacing="xyz"), "damaged"),
        (lambda m: m.update(arrays=[]), "at least one array"),
        (lambda m: m.update(bricks=[]), r"bricks: expected 1 for the layout's counts \(1, 1, 1\), found 0 bricks"),
        (lambda m: m.update(times=[]), "times"),
        (lambda m: m["arrays"][0].update(components=-1), "components"),
        (lambda m: m["arrays"][0].update(dtype="object"), "object"),
        (lambda m: m["arrays"][0].update(transform="log"), "log"),
        (lambda m: m["arrays"][0].update(range=[0]), "damaged"),
        (lambda m: m.update(times=3), "damaged"),
        (lambda m: m.update(requires=None), "damaged"),
        (lambda m: m.update(bricks="ab"), "expected 1 .*, found 'ab'"),
        (lambda m: m.update(bricks=[1]), "damaged"),
        (lambda m: m["bricks"][0].update(stop=[1, 1, 1]), r"brick 0: .*stop \[9, 8, 7\] .*, found .*\[1, 1, 1\]"),
        (lambda m: m.update(layout=None), "damaged"),
        (lambda m: m["layout"].pop("ghosts"), "ghosts"),
        (lambda m: m["layout"].update(counts=[1, 1]), "three counts"),
        (lambda m: m["layout"].update(counts=[1, 0.5, 1]), "three counts"),
        (lambda m: m["layout"].update(counts=[9, 1, 1]), "bricks: expected at most 8 along x for 9 values, found 9"),
        (lambda m: m["layout"].update(overlap=3), "overlap"),
        (lambda m: m["grid"].update(association="cell"), "on the cells"),
        (lambda m: m["arrays"][0].update(range=[5, 1]), "range"),
        (lambda m: m.update(times=[{"value": 1.0}, {"value": 2.0}]), "time step 1: missing"),
    ],
)
def test_damaged_manifest(model, change, message):
    with pytest.raises(ModelFileError, match=message):
        ModelFile(repacked(model, change))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m: m["model"].update(colour=1), "colour"),
        (lambda m: m["model"].update(number_of_grids=4), "table of feature grids"),
        (lambda m: m["model"].update(number_of_grids=60000, grid_resolution=[4000] * 3), "more parameters"),
        (lambda m: m["model"].update(hidden_width=9), "expected shape"),
        (lambda m: m["model"].update(output_components=2), "2 outputs for 1"),
        (lambda m: m["bricks"][0].pop("grids"), "table of feature grids"),
    ],
)
def test_manifest_that_does_not_fit_the_weights(model, change, message):
    with pytest.raises(ModelFileError, match=message):
        NeuralVolume.from_bytes(repacked(model, change))


def test_a_file_without_layout_is_one_brick(model):
    """As version 1 wrote it before there were several bricks."""
    old = repacked(model, lambda m: m.pop("layout"))
    assert ModelFile(old).header.layout == BrickLayout((9, 8, 7))
    state, now = (NeuralVolume.from_bytes(d, "cpu").networks[0].state_dict() for d in (old, model))
    assert all((state[name] == now[name]).all() for name in now)


@pytest.fixture(scope="module")
def bricks() -> bytes:
    """Two bricks of different networks, split along y."""
    layout = BrickLayout((7, 8, 9), (1, 2, 1))
    config = MODEL.with_components(1)
    networks = [Network(config), Network(replace(config, number_of_grids=2))]
    info = ArrayInfo("density", "point", 1, "float32", (0.0, 1.0))
    return pack_networks(networks, Grid((7, 8, 9)), (info,), (None,), tiny(), "", layout)


def test_manifest_of_several_bricks(bricks):
    manifest = ModelFile(bricks).header.manifest
    assert manifest["layout"] == {"counts": [1, 2, 1], "ghosts": 0, "overlap": 1}
    first, second = manifest["bricks"]
    assert (first["start"], first["stop"], second["start"], second["stop"]) == (
        [0, 0, 0], [7, 4, 9], [0, 3, 0], [7, 8, 9],
    )  # fmt: skip
    assert "config" not in first and second["config"] == {"number_of_grids": 2}
    assert [(g["count"], g["resolution"], g["dtype"]) for g in second["grids"]] == [(2, [3, 4, 5], "float16")]
    one, two = manifest["sections"]
    assert [(s["brick"], s["time"]) for s in (one, two)] == [(0, 0), (1, 0)]
    assert (one["offset"], two["offset"]) == (64, 64 + one["length"])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m: m["bricks"].pop(), r"bricks: expected 2 for the layout's counts \(1, 2, 1\), found 1 bricks"),
        (lambda m: m["bricks"].append(m["bricks"][0]), "bricks: expected 2 .*, found 3 bricks"),
        (lambda m: m["bricks"].reverse(), r"brick 0: expected start \[0, 0, 0\] .*, found \[0, 3, 0\]"),
        (lambda m: m["bricks"][1].update(start=[0, 4, 0]), r"brick 1: expected start \[0, 3, 0\] .* found \[0, 4, 0\]"),
        (lambda m: m["bricks"][1].pop("stop"), "damaged manifest: KeyError: 'stop'"),
        (lambda m: m["layout"].update(counts=[2, 1, 1]), r"brick 0: expected .* stop \[4, 8, 9\]"),
        (lambda m: m.pop("layout"), "bricks: expected 1 .*, found 2 bricks"),
        (lambda m: (m["grid"].update(dims=[10**9] * 3), m["layout"].update(counts=[10**8] * 3)), "expected 10{24} for"),
        (lambda m: m["sections"].pop(), "section of brick 1, time step 0: missing"),
    ],
)
def test_bricks_that_do_not_fit_the_layout(bricks, change, message):
    with pytest.raises(ModelFileError, match=message) as caught:
        ModelFile(repacked(bricks, change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"colour": 1}, "brick 1: damaged config: .*unknown field colour"),
        (3, "brick 1: damaged config"),
        ({"number_of_grids": "many"}, "brick 1: damaged config: .*number_of_grids"),
        ({"number_of_grids": 60000, "grid_resolution": [4000] * 3}, "brick 1: .*at most [0-9]+ in [0-9]+ bytes"),
        ({}, "brick 1: the table of feature grids"),
        ({"output_components": 2, "number_of_grids": 2}, "brick 1: 2 outputs for 1"),
    ],
)
def test_a_config_of_a_brick_that_is_none(bricks, config, message):
    file = ModelFile(repacked(bricks, lambda m: m["bricks"][1].update(config=config)))
    assert read_network(file, 0, 1).config == MODEL.with_components(1)
    with pytest.raises(ModelFileError, match=message):
        read_network(file, 1, 1)


def test_a_brick_that_is_not_there(bricks):
    with pytest.raises(ModelFileError, match="expected a brick from 0 to 1, found 2"):
        brick_config(ModelFile(bricks).header.manifest, 2)
    with pytest.raises(ModelFileError, match="section of brick 2, time step 0: missing"):
        ModelFile(bricks).read_section(2)


def test_opening_reads_the_manifest_alone(tmp_path, monkeypatch):
    layout, path = BrickLayout((17, 17, 17), (16, 16, 16)), tmp_path / "m.apmgsrn"
    config = MODEL.with_components(1)
    network, grid = Network(config), Grid((17, 17, 17))
    info = ArrayInfo("density", "point", 1, "float32", (0.0, 1.0))
    stored = [StoredBrick.of_bytes(b, describe_brick(network, layout, b, config), b"none") for b in range(4096)]
    write_bytes(path, pack_model(describe_model(grid, layout, (info,), (None,), config, tiny(), ""), stored))
    read, original = [], ModelFile._read
    monkeypatch.setattr(ModelFile, "_read", lambda self, *a: read.append(a[:2]) or original(self, *a))
    monkeypatch.setattr(Network, "__init__", None)
    start = time.perf_counter()
    header = read_header(path)
    assert time.perf_counter() - start < 5  # it takes a tenth of a second
    assert header.layout == layout
    assert read == [(0, 64), (64 + 4096 * 4, header.byte_count - 64 - 4096 * 4)]


def test_an_open_model_stays_the_one_it_was(model, tmp_path):
    path = tmp_path / "m.apmgsrn"
    write_bytes(path, model)
    file = ModelFile(path)
    write_bytes(path, b"another")
    path.unlink()
    file.check_sections()
    assert sorted(file.read_section()) == sorted(unpacked(model)[1])


def test_missing_section(model):
    with pytest.raises(ModelFileError, match="brick 0, time step 0: missing"):
        NeuralVolume.from_bytes(repacked(model, lambda m: m["sections"][0].update(brick=1)))


def test_unknown_coder(model):
    manifest, _ = unpacked(model)
    manifest["sections"][0]["coder"] = "zip"
    with pytest.raises(ModelFileError, match="coder 'zip'"):
        NeuralVolume.from_bytes(with_manifest(model, json.dumps(manifest).encode()))


def test_section_that_points_outside(model):
    manifest, _ = unpacked(model)
    manifest["sections"][0]["length"] = 10**15
    with pytest.raises(ModelFileError, match="truncated: expected 1000000000000000"):
        NeuralVolume.from_bytes(with_manifest(model, json.dumps(manifest).encode()))
    manifest["sections"][0]["offset"] = -5
    with pytest.raises(ModelFileError, match="whole numbers"):
        ModelFile(with_manifest(model, json.dumps(manifest).encode()))


def test_section_checksum(model):
    damaged = bytearray(model)
    damaged[500] ^= 1
    with pytest.raises(ModelFileError, match="brick 0, time step 0: the checksum"):
        NeuralVolume.from_bytes(bytes(damaged))


def test_section_that_is_not_safetensors(model):
    manifest, _ = unpacked(model)
    junk = b"\xff" * manifest["sections"][0]["length"]
    manifest["sections"][0]["sha256"] = hashlib.sha256(junk).hexdigest()
    text = json.dumps(manifest).encode()
    offset = PREAMBLE.unpack(model[: PREAMBLE.size])[3]
    data = with_manifest(model, text)
    with pytest.raises(ModelFileError, match="safetensors"):
        NeuralVolume.from_bytes(data[:64] + junk + data[offset:])


@pytest.mark.parametrize(
    "tensors, message",
    [
        (lambda t: {**t, "features": t["features"][:-1]}, r"'features': expected shape \(360,\), found \(359,\)"),
        (lambda t: {k: v for k, v in t.items() if k != "transforms"}, "expected tensors"),
        (lambda t: {**t, "more": t["features"]}, "expected tensors"),
        (lambda t: {**t, "features": np.full_like(t["features"], np.nan)}, "'features' holds NaN"),
        (lambda t: {**t, "transforms": t["transforms"] * np.float32(np.inf)}, "'transforms' holds NaN or infinite"),
        (lambda t: {**t, "features": t["features"].astype(np.int32)}, "found int32"),
    ],
)
def test_damaged_tensors(model, tensors, message):
    with pytest.raises(ModelFileError, match=message):
        NeuralVolume.from_bytes(repacked(model, tensors=tensors))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_cut_is_an_error_of_ours(model, data):
    length = data.draw(st.integers(0, len(model) - 1))
    with pytest.raises(ApmgsrnError):
        NeuralVolume.from_bytes(model[:length])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_flipped_byte_is_an_error_of_ours_or_the_same_model(model, data):
    position = data.draw(st.integers(0, len(model) - 1))
    damaged = bytearray(model)
    damaged[position] ^= data.draw(st.integers(1, 255))
    if 12 <= position < 16:
        NeuralVolume.from_bytes(bytes(damaged))  # the reserved word
        return
    with pytest.raises(ApmgsrnError):
        NeuralVolume.from_bytes(bytes(damaged))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ModelFileError, match="nothing.apmgsrn: cannot be opened: No such file"):
        read_header(tmp_path / "nothing.apmgsrn")
    with pytest.raises(ModelFileError, match="found a folder"):
        read_header(tmp_path)


def test_writing_is_whole_or_not_at_all(model, tmp_path, monkeypatch):
    path = tmp_path / "m.apmgsrn"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ModelFileError, match="No space left"):
        write_bytes(path, model)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["m.apmgsrn"]
    monkeypatch.undo()
    write_bytes(path, model)
    assert path.read_bytes() == model and os.listdir(tmp_path) == ["m.apmgsrn"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(ModelFileError, match="cannot be written: No such file"):
        check_writable(tmp_path / "no" / "m.apmgsrn")
    with pytest.raises(ModelFileError, match="found a folder"):
        check_writable(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelFileError, match="Not a directory"):
        write_bytes(tmp_path / "file" / "m.apmgsrn", b"")


@pytest.mark.parametrize("block", [1 << 26, 100])
def test_copying_checks_the_model(model, tmp_path, monkeypatch, block):
    monkeypatch.setattr(model_file, "BLOCK", block)
    write_bytes(tmp_path / "a.apmgsrn", model)
    copy_model(tmp_path / "a.apmgsrn", tmp_path / "b.apmgsrn")
    assert (tmp_path / "b.apmgsrn").read_bytes() == model == read_model(tmp_path / "a.apmgsrn")
    (tmp_path / "a.apmgsrn").write_bytes(model[:500] + b"\0\0" + model[502:])
    with pytest.raises(ModelFileError, match="brick 0, time step 0: the checksum"):
        copy_model(tmp_path / "a.apmgsrn", tmp_path / "b.apmgsrn")
    with pytest.raises(ModelFileError, match="brick 0, time step 0: the checksum"):
        read_model(tmp_path / "a.apmgsrn")
    assert (tmp_path / "b.apmgsrn").read_bytes() == model
    assert sorted(os.listdir(tmp_path)) == ["a.apmgsrn", "b.apmgsrn"]
