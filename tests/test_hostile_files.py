"""Damaged and hostile files of every kind: the right values or an error of ours, in little memory; nothing runs, no path escapes.

`hostile_run.py` has the cases and repeats one of them; here are as many as the tier allows, and hostile files made by hand.
"""

import argparse
import base64
import io
import json
import lzma
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from hostile_probe import NO_OPTIONS, probe
from hostile_run import EXPANSION, FREE, defects, peak_bytes, run_cases
from hostile_seeds import MODEL, write_seeds
from models import pack_networks
from reference_folders import ReferencePart
from test_model_file import repacked
from volumes import tiny, wave

from apmgsrn_core import ApmgsrnError, ArrayInfo, Grid, ModelFile, ModelFileError, NeuralVolume, convert_reference, open_volume
from apmgsrn_core.brick_layout import BrickLayout
from apmgsrn_core.bricks.folder import BrickFolder
from apmgsrn_core.command_line.volume_files import read_volume
from apmgsrn_core.distributed import Communicator
from apmgsrn_core.file.json_text import MOST_DEPTH, parse_json
from apmgsrn_core.file.model_file import MAGIC
from apmgsrn_core.foreign.torch_archive import read_archive
from apmgsrn_core.network.model import Network
from apmgsrn_core.rendering.macrocells import CODER, HEADER
from apmgsrn_core.rendering.stored_macrocells import LENGTH
from apmgsrn_core.training.checkpoint import Checkpoint, pack_state

BOMB = 1 << 30  # bytes that a few kilobytes claim to be


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    write_seeds(folder)
    return folder


@pytest.fixture(scope="module")
def model() -> bytes:
    info = ArrayInfo("density", "point", 1, "float32", (0.0, 1.0))
    return pack_networks([Network(MODEL.with_components(1))], Grid((9, 8, 7)), (info,), (None,), tiny(), "")


def test_changed_files_give_right_values_or_errors(seeds):
    results = run_cases(0, 300, seeds)
    assert len(results) == 300
    assert defects(results) == []
    outcomes = {result["outcome"] for result in results}
    assert outcomes >= {"the same values", "other values", "ModelFileError", "DataError"}  # the changes reach what they should


@pytest.mark.long
def test_many_more_changed_files(seeds):
    results = run_cases(300, 10_000, seeds)
    assert len(results) == 10_000
    assert defects(results) == []


@pytest.mark.slow
def test_the_run_finds_crashes_hangs_and_other_errors(seeds, monkeypatch, tmp_path):
    """Readers that fail in each way are noticed, with the case that repeats it."""
    import hostile_run

    monkeypatch.setattr(hostile_run, "SECONDS", 5)
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import sys, os, time, hostile_probe\n"
        "def fail(kind, folder, real=hostile_probe.probe, calls=[]):\n"
        "    calls.append(folder)\n"
        f"    step = len(calls) - len(os.listdir({str(seeds)!r}))\n"
        "    if step == 2: raise KeyError('no error of ours')\n"
        "    if step == 3: bytearray(1 << 28)\n"
        "    if step == 4: os.abort()\n"
        "    if step == 1 and FIRST > 50: time.sleep(60)\n"
        "    return 'x' if step > 0 else real(kind, folder)\n"
        "FIRST = int(sys.argv[3])\n"
        "hostile_probe.probe = fail\n"
        f"import runpy; sys.argv[0] = {hostile_run.__file__!r}; runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    monkeypatch.setattr(hostile_run, "PROGRAM", broken)
    monkeypatch.setenv("PYTHONPATH", ":".join([str(hostile_run.HERE.parent), str(hostile_run.HERE)]))
    found = "\n".join(defects(run_cases(50, 5, seeds)))
    assert "case 51 " in found and "KeyError" in found
    assert "case 52 " in found and "took 2" in found
    assert "case 53 " in found and "ended with -6" in found
    assert "case 54 " in found and "ended with -9" in found


# ---- what a small file claims is refused before memory is asked ---------------------------------------


def refused(match: str, work, size: int = 0) -> None:
    """`work` ends in an error of ours that says so, and has taken little memory."""
    before = peak_bytes(reset=True)
    with pytest.raises(ApmgsrnError, match=match) as caught:
        work()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2000
    assert peak_bytes() - before < FREE + EXPANSION * size


@pytest.mark.parametrize("change, message", [
    (lambda m: m["model"].update(number_of_grids=2**40), "number_of_grids: expected a number from 0 to 65536, found 1099511627776"),
    (lambda m: m["model"].update(number_of_grids=65536, grid_resolution=[4096] * 3), "more parameters than the section can hold"),
    (lambda m: m["model"].update(hidden_layers=16, hidden_width=4096), "more parameters than the section can hold"),
    (lambda m: m["model"].update(grid_resolution=[1e400] * 3), "finite numbers"),
    (lambda m: m["grid"].update(dims=[2**31] * 3), "at most 2147483647"),
    (lambda m: m["grid"].update(dims=[2**40, 1, 1]), "at most 2147483647"),
    (lambda m: m["grid"].update(spacing=[1e300, 1, 1]), "places up to 1e\\+150"),
    (lambda m: m["grid"].update(direction=[[1e200, 0, 0], [0, 1e-200, 0], [0, 0, 1]]), "regular matrix"),
    (lambda m: m["layout"].update(ghosts=10**18), "ghosts"),
    (lambda m: m["arrays"][0].update(name=["a"]), "expected texts"),
    (lambda m: m["arrays"][0].update(unit=["a"]), "expected texts"),
    (lambda m: m["arrays"][0].update(dtype="f4," * 30_000), "expected texts"),
    (lambda m: m.update(model=[1]), "model: expected a configuration"),
    (lambda m: m.update(training=None), "training: expected a configuration"),
    (lambda m: m.update(times=[{"value": float(t)} for t in range(100_000)]), "time step 1: missing"),
    (lambda m: m.update(times=[{"value": 0.0}] * 100_000), "rising finite numbers"),
    (lambda m: m["sections"].append({**m["sections"][0], "brick": 7}), "one for each brick and time step"),
    (lambda m: m.update(key=2**70), "at most 64 bits"),
], ids=lambda value: value[:30] if isinstance(value, str) else "")  # fmt: skip
def test_a_manifest_that_claims_too_much(model, change, message):
    damaged = repacked(model, change)
    refused(message, lambda: NeuralVolume.from_bytes(damaged, "cpu"), len(damaged))


def test_nested_json_is_refused(model):
    nest = "[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1)
    with pytest.raises(ModelFileError, match=f"at most {MOST_DEPTH} lists and objects"):
        ModelFile(repacked(model, lambda m: m.update(more=json.loads(nest))))
    assert parse_json(nest[1:-1].encode()) is not None
    for text in (b"[" * 10**6, b'{"a":' * 10**6, b"[NaN]", b"[-Infinity]", b"[%d]" % 2**63, b"[" + b"9" * 10**6 + b"]", b"\xff"):
        with pytest.raises(ValueError):
            parse_json(text)
    assert parse_json(b"[%d, %d, 1.5]" % (2**63 - 1, 1 - 2**63)) == [2**63 - 1, 1 - 2**63, 1.5]


def test_macrocells_that_claim_many_cells(model):
    packed = lzma.compress(bytes(2 * 256**3), lzma.FORMAT_RAW, filters=[CODER])
    record = HEADER.pack(256, 256, 256, 31, 0.0, 1.0) + packed
    cells = np.frombuffer(LENGTH.pack(len(record)) + record, np.uint8)
    damaged = repacked(model, lambda m: m.update(macrocells="leveled ranges"), lambda t: {**t, "macrocells": cells})
    refused("damaged macrocells", lambda: NeuralVolume.from_bytes(damaged, "cpu").macrocells(), len(damaged))


def test_a_mask_of_several_axes(model):
    def change(manifest):
        manifest.update(mask="values", requires=["mask"])

    damaged = repacked(model, change, lambda t: {**t, "mask": np.zeros((2, 9), np.uint8)})
    points = np.zeros((1, 3))
    refused(r"'mask': expected one axis, found shape \(2, 9\)", lambda: NeuralVolume.from_bytes(damaged, "cpu").sample_points(points))


def test_a_mask_of_more_bits_than_its_bytes_hold(model):
    bits = np.frombuffer(b"\1" + lzma.compress(bytes(1000), lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2}]), np.uint8)

    def change(manifest):
        manifest.update(mask="values", requires=["mask"])
        manifest["grid"]["dims"] = manifest["bricks"][0]["stop"] = [10**6, 10**6, 10**6]

    damaged = repacked(model, change, lambda t: {**t, "mask": bits})
    points = np.ones((1, 3))
    refused("mask: expected at most", lambda: NeuralVolume.from_bytes(damaged, "cpu").sample_points(points), len(damaged))


def test_a_residual_of_more_blocks_than_bytes(model):
    head = struct.pack("<BHd", 1, 1, 0.5)

    def change(manifest):
        manifest.update(requires=["error bounds"])
        manifest["times"][0]["bounds"] = [1.0]
        manifest["grid"]["dims"] = manifest["bricks"][0]["stop"] = [2**31 - 1, 2**31 - 1, 2**31 - 1]

    damaged = repacked(model, change, lambda t: {**t, "residual": np.frombuffer(head, np.uint8)})
    refused("lengths of", lambda: NeuralVolume.from_bytes(damaged, "cpu"), len(damaged))


def image(text: str, extent: str = "0 4 0 3 0 2", compressor: str = "", head: str = "") -> bytes:
    packed = f' compressor="{compressor}"' if compressor else ""
    array = f'<DataArray type="Float32" Name="a" {text}</DataArray>'
    return (
        f'<?xml version="1.0"?>{head}<VTKFile type="ImageData" byte_order="LittleEndian" header_type="UInt32"{packed}>'
        f'<ImageData WholeExtent="{extent}"><Piece Extent="0 4 0 3 0 2"><PointData>{array}</PointData></Piece></ImageData></VTKFile>'
    ).encode()


def packed(data: bytes) -> str:
    head = np.array([1, BOMB, 0, len(data)], "<u4").tobytes()
    return f'format="binary">{(base64.b64encode(head) + base64.b64encode(data)).decode()}'


ENTITIES = "<!DOCTYPE a [<!ENTITY a 'lollollol'>" + "".join(
    f"<!ENTITY {chr(97 + i)} '{f'&{chr(96 + i)};' * 10}'>" for i in range(1, 12)
) + "]>"  # fmt: skip
PLAIN = 'format="ascii">' + "1 " * 60


@pytest.mark.parametrize("name, data, message", [
    ("a.vti", image(PLAIN, "0 100000 0 100000 0 100000"), "pieces that fill"),
    ("a.vti", image(PLAIN, "0 4 0 3 0 1"), "expected an extent in"),
    ("a.vti", image(PLAIN, head=ENTITIES), "no document type"),
    ("a.vti", image(packed(zlib.compress(bytes(1 << 26))), compressor="vtkZLibDataCompressor"), "expected 60 numbers"),
    ("a.vti", image(packed(lzma.compress(bytes(1 << 26))), compressor="vtkLZMADataCompressor"), "expected 60 numbers"),
    ("a.nrrd", b"NRRD0004\ntype: float\nsizes: 2 2 2\nencoding: gzip\n\n", "expected 8 numbers"),
    ("a.nrrd", b"NRRD0004\ntype: float\nsizes: 99999999999 2 2\nencoding: raw\n\n", "expected 399999999996 numbers"),
    ("a.nrrd", b"NRRD0004\ntype: float\nsizes: 2 2 2\nspace directions: " + b"(" * 10**6 + b"\nencoding: raw\n\n", "space directions"),
])  # fmt: skip
def test_volumes_that_claim_too_much(tmp_path, name, data, message):
    if message == "expected 8 numbers":
        coder = zlib.compressobj(9, zlib.DEFLATED, 31)
        data += coder.compress(bytes(1 << 26)) + coder.flush()
    (tmp_path / name).write_bytes(data)
    refused(message, lambda: read_volume(str(tmp_path / name), argparse.Namespace(**NO_OPTIONS)), len(data))


# ---- checkpoints of others ----------------------------------------------------------------------------


def archive(path, description: bytes, kind: int = zipfile.ZIP_STORED, data: bytes = b""):
    with zipfile.ZipFile(path, "w", kind) as written:
        written.writestr("m/data.pkl", description)
        written.writestr("m/data/0", data)
    return path


def tensor(shape: bytes) -> bytes:
    """The opcodes of a tensor of 250 000 float32 of storage 0; `shape` leaves its shape and stride on the stack."""
    text = b"".join(b"\x8c" + bytes([len(word)]) + word for word in (b"storage",))
    storage = b"(" + text + b"ctorch\nFloatStorage\n\x8c\x010\x8c\x03cpuJ" + struct.pack("<i", 250_000) + b"tQ"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0" + shape + b"tR"


DEEP = b")" + b"\x94h\0\x86".replace(b"\x94", b"q\0") * 60  # a tuple of twice itself, again and again
SHAPE = b"(J" + struct.pack("<i", 250_000) + b"t(K\1t"


@pytest.mark.parametrize("description, message", [
    (b"\x80\2}(" + DEEP + b"K\1u.", "expected a text of at most"),
    (b"\x80\2}(\x8c\1a" + tensor(DEEP + b"(K\1t") + b"u.", "expected a tensor of at most"),
    (b"\x80\2}(" + b"".join(b"\x8c\x03%03d" % i + tensor(SHAPE) for i in range(300)) + b"u.", "expected tensors of at most"),
    (b"\x80\2" + b"]" * 30_000 + b"(t" * 30_000 + b".", "expected a dictionary"),
    (b"\x80\2X" + struct.pack("<I", 10**6) + b"a" * 10**6 + b"q\0" + b"h\0h\0\x93" * 1000 + b".", "expected a text of at most"),
], ids=["keys", "shape", "tensors", "marks", "names"])  # fmt: skip
def test_pickles_that_would_take_for_ever(tmp_path, description, message):
    path = archive(tmp_path / "c.tar", description, data=bytes(1_000_000))
    refused(message, lambda: read_archive(path), path.stat().st_size)


def test_packed_archives_are_refused(tmp_path):
    path = archive(tmp_path / "c.tar", b"\x80\2}.", zipfile.ZIP_DEFLATED, bytes(1 << 26))
    refused("stored as they are", lambda: read_archive(path))


@pytest.mark.parametrize("changes, message", [
    ({"n_layers": 2**31 - 1}, "n_layers: expected at most 16"), ({"data_min": 3.0, "data_max": -3.0}, "low <= high"),
    ({"ensemble": True, "ensemble_grid": [2**31 - 1] * 3}, "expected a folder for each of"), ({"n_grids": 2**31 - 1}, "expected shape"),
    ({"model": "x" * 10**6}, "model: expected APMGSRN"),
])  # fmt: skip
def test_options_that_claim_too_much(tmp_path, changes, message):
    folder = ReferencePart(shape=(3, 3, 3), width=8).save(tmp_path / "m", (7, 8, 9), **changes)
    refused(message, lambda: convert_reference(folder))


# ---- networks of others -------------------------------------------------------------------------------


@pytest.mark.parametrize("changes, message", [
    ({"arguments": {"width": 65536, "hidden_layers": 3}}, "expected the .* numbers of the class, found .* bytes"),
    ({"arguments": {"hidden_layers": 10**9}}, "hidden_layers: expected at most 1024"), ({"file": "../n.safetensors"}, "in the folder"),
    ({"file": "/etc/passwd"}, "in the folder"), ({"class": "os.system"}, "can do anything"), ({"code": "x.py"}, "can do anything"),
])  # fmt: skip
def test_networks_that_claim_too_much_or_reach_elsewhere(seeds, tmp_path, changes, message):
    description = json.loads((seeds / "network siren" / "n.network.json").read_bytes())
    description["network"].update(changes)
    (tmp_path / "n.network.json").write_text(json.dumps(description))
    (tmp_path / "n.safetensors").write_bytes((seeds / "network siren" / "n.safetensors").read_bytes())
    refused(message, lambda: open_volume(tmp_path / "n.network.json", "cpu"))


# ---- no path escapes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../b.dat", "/etc/hostname", "x/../../b.dat", "", "."])
def test_a_detached_header_reads_only_in_its_folder(tmp_path, name):
    head = f"NRRD0004\ntype: uchar\nsizes: 2 2 2\nencoding: raw\ndata file: {name}\n\n"
    (tmp_path / "b.dat").write_bytes(bytes(8))
    (tmp_path / "in" / "x").mkdir(parents=True)
    (tmp_path / "in" / "a.nhdr").write_text(head)
    refused("data file: expected|cannot be read", lambda: read_volume(str(tmp_path / "in" / "a.nhdr"), argparse.Namespace(**NO_OPTIONS)))
    (tmp_path / "in" / "x" / "b.dat").write_bytes(bytes(8))
    (tmp_path / "in" / "a.nhdr").write_text(head.replace(f": {name}\n", ": ./x/b.dat\n"))
    assert read_volume(str(tmp_path / "in" / "a.nhdr"), argparse.Namespace(**NO_OPTIONS)).grid.dims == (2, 2, 2)


def test_a_model_names_no_file_and_a_training_only_those_of_its_folder(model, seeds, tmp_path):
    """A section is a place in the file; what a manifest says of paths is not read. Of a part only the number in its name counts."""
    changed = repacked(model, lambda m: m["sections"][0].update(file="../../x", path="/etc/passwd", shard="../x"))
    state = NeuralVolume.from_bytes(changed, "cpu").network(0).state_dict()
    assert all((tensor == state[name]).all() for name, tensor in NeuralVolume.from_bytes(model, "cpu").network(0).state_dict().items())
    source = seeds / "training cut" / "m.apmgsrn.training"
    folder = tmp_path / "m.apmgsrn.training"
    folder.mkdir()
    line, _, section = (source / "brick-0.part").read_bytes().partition(b"\n")
    head = {**json.loads(line), "path": "../x", "file": "/etc/passwd", "brick": "../../x"}
    for name in ("brick-0.part", "brick-00000000000000000000000000000001.part", "brick-..-x.part", "brick-\u0662.part"):
        (folder / name).write_bytes(json.dumps(head).encode() + b"\n" + section)
    (folder / "training.json").write_bytes((source / "training.json").read_bytes())
    key = json.loads((source / "training.json").read_bytes())["key"]
    kept = BrickFolder(str(tmp_path / "m.apmgsrn"), 0.0)
    assert kept.open(key, Communicator(None)) == {0}
    assert kept.load(0).stored.section() == section


# ---- nothing is run -----------------------------------------------------------------------------------


class Trap:
    """A pickle that makes a file when it is opened."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return open, (str(self._path), "w")


def forms_of(trap: Trap) -> dict[str, bytes]:
    """Files that hold a pickle with a call in it."""
    saved, array = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": {"a": trap}}, saved)
    np.save(array, np.array([trap], dtype=object), allow_pickle=True)
    return {"pickle": pickle.dumps(trap), "torch": saved.getvalue(), "array": array.getvalue()}


READERS = {
    "model": lambda path: NeuralVolume.open(path.rename(path.with_name("m.apmgsrn")), "cpu"),
    "archive": read_archive,
    "array": lambda path: read_volume(str(path.rename(path.with_name("a.npy"))), argparse.Namespace(**NO_OPTIONS)),
    "image": lambda path: read_volume(str(path.rename(path.with_name("a.vti"))), argparse.Namespace(**NO_OPTIONS)),
    "network": lambda path: open_volume(path.rename(path.with_name("n.network.json")), "cpu"),
    "checkpoint": lambda path: Checkpoint(path, 1, "k")._read(),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("form", ["pickle", "torch", "array"])
def test_no_reader_runs_a_pickle(tmp_path, reader, form):
    trap = tmp_path / "trap"
    (tmp_path / "file").write_bytes(forms_of(Trap(trap))[form])
    with pytest.raises(ApmgsrnError):
        READERS[reader](tmp_path / "file")
    assert not trap.exists()
    pickle.loads(pickle.dumps(Trap(trap))).close()
    assert trap.exists()  # the trap works


@pytest.mark.parametrize("kind", ["torchscript", "export", "class", "onnx"])
def test_an_archive_with_code_needs_trust(tmp_path, kind):
    """The word in the description decides, whatever the file is."""
    (tmp_path / "w.pt").write_bytes(forms_of(Trap(tmp_path / "trap"))["torch"])
    network = {"kind": kind, "file": "w.pt", **({"class": "a.B"} if kind == "class" else {})}
    grid, arrays = {"dims": [5, 4, 3], "bounds": [0, 1, 0, 1, 0, 1]}, [{"name": "w", "range": [0.0, 1.0]}]
    told = {"format": "apmgsrn network", "version": 1, "network": network, "grid": grid, "arrays": arrays}
    (tmp_path / "n.network.json").write_text(json.dumps(told))
    refused("If you trust whoever made it", lambda: open_volume(tmp_path / "n.network.json", "cpu"))
    assert not (tmp_path / "trap").exists()


# ---- what stands in a file that is whole --------------------------------------------------------------


def test_a_transform_without_a_box_is_told(model):
    damaged = repacked(model, tensors=lambda t: {**t, "transforms": np.zeros_like(t["transforms"])})
    volume = NeuralVolume.from_bytes(damaged, "cpu")
    assert np.isfinite(volume.sample_points(np.ones((1, 3)))).all()
    refused("expected a regular transform", volume.feature_grids)


@pytest.mark.parametrize("change", [
    lambda s: s.pop("network"), lambda s: s["network"].popitem(), lambda s: s.update(iteration="x"), lambda s: s.update(step=None),
    lambda s: s["sampler"].update(error=np.zeros(3)), lambda s: s["sampler"].update(probability=np.zeros(3)),
    lambda s: s["sampler"].update(seed=2**80), lambda s: s["step"]["optimizer"]["0"]["moments"]["0"].update(steps="x"),
    lambda s: s["step"]["optimizer"]["0"]["moments"]["0"].update(mean=torch.zeros(2)), lambda s: s["history"].update(rows={}),
])  # fmt: skip
def test_a_checkpoint_of_other_shapes_is_an_error_or_a_training_anew(seeds, tmp_path, change):
    import shutil

    shutil.copytree(seeds / "training cut", tmp_path / "t")
    path = tmp_path / "t" / "m.apmgsrn.training" / "brick-1.state"
    state = Checkpoint(path, 1.0, "")._read()
    change(state["state"])
    Checkpoint(path, 1.0, state["key"]).save(state["state"])
    right = probe("training", shutil.copytree(seeds / "training cut", tmp_path / "right"))
    try:
        assert probe("training", tmp_path / "t") == right  # a training anew: the steps are few and always the same
    except ModelFileError as error:
        assert "expected a state of this training" in str(error)


def test_a_whole_checkpoint_without_a_state_is_refused(tmp_path):
    import hashlib

    for state in ({"key": "k"}, {"state": {}}, {"key": 3, "state": {}}, {"key": "k", "state": 1}):
        data = pack_state(state)
        (tmp_path / "c.state").write_bytes(b"\x89APMCP1\n" + hashlib.sha256(data).digest() + data)
        assert Checkpoint(tmp_path / "c.state", 1, "k").load() is None
    assert MAGIC not in (tmp_path / "c.state").read_bytes()


def test_layouts_of_hostile_numbers_stay_whole_numbers():
    layout = BrickLayout((2**31 - 1,) * 3, (1, 1, 1), 2**31 - 1, 5)
    assert layout.trained(0).stop == (2**31 - 1,) * 3 and all(np.isfinite(layout.half_widths))
    values, grid = wave((9, 8, 7))
    assert grid.value_dims == values.shape[::-1]
