"""The file format: round trip, golden layout, one test for each kind of damage."""

import hashlib
import json
import os
import stat
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes import tiny, wave

from apmgsrn_core import (
    ApmgsrnError, ModelConfig, ModelFileError, NeuralVolume, copy_model, read_header, train_volume, write_bytes,
)  # fmt: skip
from apmgsrn_core.model_file import PREAMBLE, ModelFile, check_writable, pack

MODEL = ModelConfig(number_of_grids=3, grid_resolution=(3, 4, 5), hidden_width=8)


@pytest.fixture(scope="module")
def model() -> bytes:
    values, grid = wave((9, 8, 7), origin=(1, 2, 3), spacing=(0.5, -1, 2), dtype="int16")
    return train_volume(
        values, grid, name="density", unit="kg/m^3", time=1.5, model=MODEL, train=tiny(iterations=3), key="k" * 64,
        on_progress=lambda s: True,
    ).to_bytes()  # fmt: skip


def unpacked(data: bytes) -> tuple[dict, dict]:
    """(manifest, tensors) of a model's bytes."""
    file = ModelFile(data)
    return file.header.manifest, file.read_section()


def repacked(data: bytes, change=None, tensors=None) -> bytes:
    """The same model with another manifest or other tensors; checksums are right."""
    manifest, old = unpacked(data)
    manifest = json.loads(json.dumps({k: v for k, v in manifest.items() if k != "sections"}))
    if change is not None:
        change(manifest)
    return pack(manifest, {(0, 0): tensors(old) if tensors else old})


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
    for name in ("bricks", "times", "arrays", "axes", "mask", "residual", "macrocells", "grid", "requires", "model",
                 "training", "sections"):  # fmt: skip
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


@pytest.mark.parametrize("part", ["axes", "mask", "residual", "macrocells"])
def test_parts_of_later_versions(model, part):
    with pytest.raises(ModelFileError, match=part):
        ModelFile(repacked(model, lambda m: m.update({part: {}})))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m: m.pop("grid"), "grid"),
        (lambda m: m["grid"].update(dims=[0, 1, 1]), "dims"),
        (lambda m: m["grid"].update(spacing="xyz"), "damaged"),
        (lambda m: m.update(arrays=[]), "at least one array"),
        (lambda m: m.update(bricks=[]), "one brick"),
        (lambda m: m.update(times=[]), "times"),
        (lambda m: m["arrays"][0].update(components=-1), "components"),
        (lambda m: m["arrays"][0].update(dtype="object"), "object"),
        (lambda m: m["arrays"][0].update(transform="log"), "log"),
        (lambda m: m["arrays"][0].update(range=[0]), "damaged"),
        (lambda m: m.update(times=3), "damaged"),
        (lambda m: m.update(requires=None), "damaged"),
        (lambda m: m.update(bricks="ab"), "one brick"),
        (lambda m: m.update(bricks=[1]), "damaged"),
        (lambda m: m["bricks"][0].update(stop=[1, 1, 1]), "covers the values"),
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


def test_missing_section(model):
    manifest, tensors = unpacked(model)
    manifest.pop("sections")
    with pytest.raises(ModelFileError, match="brick 0, time step 0: missing"):
        NeuralVolume.from_bytes(pack(manifest, {(1, 0): tensors}))


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


def test_copying_checks_the_model(model, tmp_path):
    write_bytes(tmp_path / "a.apmgsrn", model)
    copy_model(tmp_path / "a.apmgsrn", tmp_path / "b.apmgsrn")
    assert (tmp_path / "b.apmgsrn").read_bytes() == model
    (tmp_path / "a.apmgsrn").write_bytes(model[:500] + b"\0\0" + model[502:])
    with pytest.raises(ModelFileError, match="checksum"):
        copy_model(tmp_path / "a.apmgsrn", tmp_path / "b.apmgsrn")
    assert (tmp_path / "b.apmgsrn").read_bytes() == model
