"""The command line's reader of NRRD files, written here by their definition."""

import gzip

import numpy as np
import pytest
from apmgsrn_core import ApmgsrnError, DataError, Grid
from apmgsrn_core.command_line.nrrd_file import NAMES, read_nrrd

SPACE = "space dimension: 3\nspace directions: {}(0.5,0,0) (0,0,2) (0,-0.25,0)\nspace origin: (5,-2,1)\n"


def values_of(dtype="f4", components=0):
    shape = (7, 8, 9, components) if components else (7, 8, 9)
    return np.random.default_rng(0).uniform(0, 100, shape).astype(dtype)


def header(values, kind, *lines, end="\n"):
    sizes = " ".join(map(str, ([values.shape[3]] if values.ndim == 4 else []) + list(values.shape[2::-1])))
    fields = ["NRRD0004", "# a comment: no field", f"type: {kind}", f"dimension: {values.ndim}", f"sizes: {sizes}", "a:=b", *lines]
    return (end.join(fields) + 2 * end).encode()


@pytest.mark.parametrize("code, kind", [(code, kind) for code, kinds in NAMES.items() for kind in kinds.split("|")])
@pytest.mark.parametrize("order", ["little", "big"])
def test_all_types_in_both_orders(tmp_path, code, kind, order):
    values = values_of(code)
    data = values.astype(values.dtype.newbyteorder("<" if order == "little" else ">")).tobytes()
    (tmp_path / "f.nrrd").write_bytes(header(values, kind, f"endian: {order}", "encoding: raw", "spacings: 0.5 0.25 2") + data)
    found, grid = read_nrrd(tmp_path / "f.nrrd")
    np.testing.assert_array_equal(found, values)
    assert found.dtype == values.dtype and grid == Grid((9, 8, 7), spacing=(0.5, 0.25, 2))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_components_and_turned_axes_in_another_file(tmp_path, end):
    values = values_of(components=3)
    lines = [*SPACE.format("none ").splitlines(), "endian: little", "encoding: gzip", "data file: f.gz", "kinds: vector space space space"]
    (tmp_path / "f.nhdr").write_bytes(header(values, "float", *lines, end=end))
    (tmp_path / "f.gz").write_bytes(gzip.compress(values.tobytes()))
    found, grid = read_nrrd(tmp_path / "f.nhdr")
    np.testing.assert_array_equal(found, values)
    np.testing.assert_allclose(grid.index_to_world([[1, 2, 3]]), [[5 + 0.5, -2 - 3 * 0.25, 1 + 2 * 2]])


@pytest.mark.parametrize(
    "text, expected",
    [
        ("NRRD0009\n\n", "expected a NRRD file of version 1 to 5"),
        ("NRRD0004\ntype: float\nencoding: bzip2\nsizes: 1 1 1\n\n", "encoding: expected one of"),
        ("NRRD0004\ntype: float\n\n", "sizes: missing"),
        ("NRRD0004\ntype: block\nsizes: 1 1 1\n\n", "type: expected integers or floating-point numbers, found 'block'"),
        ("NRRD0004\ntype: float\nsizes: 1 1\n\n", "expected three axes in space"),
        ("NRRD0004\ntype: float\nsizes: 2 a 1\n\n", "damaged header"),
        ("NRRD0004\ntype: float\nsizes: 1 1 2\n\n1234", "expected 2 numbers of 4 bytes, found 4 bytes"),
        ("NRRD0004\ntype: float\nsizes: 1 1 1\nencoding: gzip\n\n1234", "damaged gzip data"),
        ("NRRD0004\ntype: float\nsizes: 1 1 1\nbyte skip: 4\n\n1234", "without skipped lines or bytes"),
        ("NRRD0004\ntype: float\nsizes: 1 1 1\ndata file: LIST\n\na\n", "data file: expected one file"),
        ("NRRD0004\ntype: float\nsizes: 1 1 1\nspace directions: (1,0) (0,1) (1,1)\n\n1234", "space directions: expected 3"),
    ],
)
def test_what_is_not_known_is_named(tmp_path, text, expected):
    (tmp_path / "f.nrrd").write_text(text)
    with pytest.raises(DataError, match=expected) as raised:
        read_nrrd(tmp_path / "f.nrrd")
    assert "f.nrrd" in str(raised.value)


def test_damaged_files_are_errors_of_the_package(tmp_path):
    whole = header(values_of(), "float", *SPACE.format("").splitlines(), "endian: little", "encoding: raw") + values_of().tobytes()
    random, refused = np.random.default_rng(0), 0
    for trial in range(300):
        changed = bytearray(whole[: random.integers(1, len(whole))] if trial % 2 else whole)
        for at in random.integers(0, min(len(changed), 240), trial % 4):
            changed[at] = random.integers(10, 127)
        (tmp_path / "f.nrrd").write_bytes(changed)
        try:
            read_nrrd(tmp_path / "f.nrrd")
        except ApmgsrnError:
            refused += 1
        except FileNotFoundError:  # of a name in the header
            refused += 1
    assert refused > 150
