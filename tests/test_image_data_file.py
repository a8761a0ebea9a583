"""The command line's reader and writer of .vti against VTK's own, and of damaged files."""

import numpy as np
import pytest
from apmgsrn_core import ApmgsrnError, DataError, Grid
from apmgsrn_core.command_line.image_data_file import TYPES, image_data_text, read_image_data

EXTENT = (2, 10, -1, 6, 3, 9)  # 9 x 8 x 7 points
TURN = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def arrays(dtype="f4"):
    """On 9 x 8 x 7 points and in their cells."""
    random = np.random.default_rng(1)
    made = {("point", "a b&<c>"): (7, 8, 9), ("point", "v"): (7, 8, 9, 3), ("cell", "c"): (6, 7, 8)}
    return {key: random.uniform(0, 100, shape).astype(dtype) for key, shape in made.items()}


def image_of(held, extent=EXTENT):
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData

    image = vtkImageData()
    image.SetExtent(extent)
    image.SetOrigin(5, -2, 1)
    image.SetSpacing(0.5, 0.25, 2)
    image.SetDirectionMatrix(TURN)
    for (association, name), values in held.items():
        array = numpy_to_vtk(values.reshape(-1, values.shape[3]) if values.ndim == 4 else values.ravel(), deep=True)
        array.SetName(name)
        (image.GetPointData() if association == "point" else image.GetCellData()).AddArray(array)
    return image


@pytest.mark.parametrize("mode", ["Ascii", "Binary", "Appended", "EncodedAppended"])
@pytest.mark.parametrize("compressor", ["None", "ZLib", "LZMA"])
@pytest.mark.parametrize("header, order", [(32, "Little"), (64, "Little"), (64, "Big")])
def test_what_vtk_writes_is_read(tmp_path, mode, compressor, header, order):
    io = pytest.importorskip("vtkmodules.vtkIOXML", reason="needs ParaView's Python")
    held, path = {(side, name[:3]): values for (side, name), values in arrays().items()}, tmp_path / "i.vti"  # VTK escapes none
    writer = io.vtkXMLImageDataWriter()
    writer.SetInputData(image_of(held))
    writer.SetFileName(str(path))
    getattr(writer, f"SetDataModeTo{mode.replace('Encoded', '')}")()
    writer.SetEncodeAppendedData(mode == "EncodedAppended")
    getattr(writer, f"SetCompressorTypeTo{compressor}")()
    writer.SetBlockSize(1024)
    writer.SetHeaderType(header)
    getattr(writer, f"SetByteOrderTo{order}Endian")()
    assert writer.Write() == 1
    found, grid = read_image_data(path)
    assert found.keys() == held.keys() and grid.dims == (9, 8, 7) and grid.spacing == (0.5, 0.25, 2.0)
    np.testing.assert_allclose(grid.index_to_world([[0, 0, 0]]), [[5 + 0.25, -2 + 1.0, 1 + 6.0]])  # of the point (2, -1, 3)
    np.testing.assert_allclose(grid.direction, np.reshape(TURN, (3, 3)))
    for key, values in held.items():
        np.testing.assert_allclose(found[key], values, rtol=1e-5 if mode == "Ascii" else 0)
        assert found[key].dtype.isnative


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_vtk_reads_what_is_written(tmp_path, kind):
    io = pytest.importorskip("vtkmodules.vtkIOXML", reason="needs ParaView's Python")
    from vtkmodules.util.numpy_support import vtk_to_numpy

    held = {name: values for (side, name), values in arrays(TYPES[kind]).items() if side == "point"}
    turn = tuple(map(tuple, np.reshape(TURN, (3, 3)).tolist()))
    grid = Grid((9, 8, 7), (5, -2, 1), (0.5, 0.25, 2), turn)
    (tmp_path / "i.vti").write_bytes(image_data_text(held, grid))
    reader = io.vtkXMLImageDataReader()
    reader.SetFileName(str(tmp_path / "i.vti"))
    reader.Update()
    image = reader.GetOutput()
    assert (image.GetDimensions(), image.GetOrigin(), image.GetSpacing()) == ((9, 8, 7), (5, -2, 1), (0.5, 0.25, 2))
    for name, values in held.items():
        np.testing.assert_array_equal(vtk_to_numpy(image.GetPointData().GetArray(name)).reshape(values.shape), values)
    found, read_grid = read_image_data(tmp_path / "i.vti")
    assert read_grid == grid
    for name, values in held.items():
        np.testing.assert_array_equal(found["point", name], values)


def test_pieces_are_put_together(tmp_path):
    whole = arrays()["point", "v"]
    text = image_data_text({"v": whole}, Grid((9, 8, 7))).decode()
    head, rest = text.split("<Piece", 1)
    pieces = []
    for extent, part in (("0 8 0 7 0 3", whole[:4]), ("0 8 0 7 3 6", whole[3:])):
        piece = image_data_text({"v": part}, Grid((9, 8, len(part)))).decode().split("<Piece", 1)[1].split("</Piece>")[0]
        pieces.append(f'<Piece Extent="{extent}"' + piece[piece.index(">") :] + "</Piece>")
    (tmp_path / "i.vti").write_text(head + "".join(pieces) + rest.split("</Piece>")[1])
    found, grid = read_image_data(tmp_path / "i.vti")
    np.testing.assert_array_equal(found["point", "v"], whole)
    assert grid == Grid((9, 8, 7))


def test_damaged_files_are_errors_of_the_package(tmp_path):
    text, path = image_data_text({"v": arrays()["point", "v"]}, Grid((9, 8, 7))), tmp_path / "i.vti"
    random, refused = np.random.default_rng(0), 0
    for trial in range(200):
        changed = bytearray(text[: random.integers(1, len(text))] if trial % 2 else text)
        for at in random.integers(0, min(len(changed), 500), trial % 4):
            changed[at] = random.integers(32, 127)
        path.write_bytes(changed)
        try:
            read_image_data(path)
        except ApmgsrnError:
            refused += 1
    assert refused > 100


def test_what_an_image_cannot_hold_is_refused():
    with pytest.raises(DataError, match="expected a lattice with equal spacing"):
        image_data_text({}, Grid.stretched(([0, 1, 3], [0, 1], [0, 1])))
    with pytest.raises(DataError, match="expected a type of VTK's"):
        image_data_text({"a": np.zeros((2, 2, 2), "f2")}, Grid((2, 2, 2)))
    with pytest.raises(DataError, match=r"expected shape \(2, 2, 2\)"):
        image_data_text({"a": np.zeros((2, 2, 3), "f4")}, Grid((2, 2, 2)))
