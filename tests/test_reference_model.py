"""Models of the authors' published code, written here in their layout, against what that code computes."""

import itertools
import json
import zipfile

import numpy as np
import pytest
import torch
from apmgsrn_core import ApmgsrnError, ModelFileError, NeuralVolume, convert_reference, read_header
from apmgsrn_core.foreign.torch_archive import read_archive
from reference_folders import ReferencePart, ensemble_forward, extents_of, lattice

SHAPE = (7, 8, 9)  # z, y, x
TOLERANCE = 2e-5  # of the range


def opened(data):
    return NeuralVolume.from_bytes(data, "cpu")


def close(found, expected, part):
    span = part.range[1] - part.range[0]
    np.testing.assert_allclose(found.reshape(expected.shape), expected.numpy(), atol=TOLERANCE * span)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "how",
    [
        {}, {"bias": True}, {"padded": True}, {"fused": True}, {"fused": True, "half": True}, {"grids": 8, "fused": True},
        {"layers": 1}, {"layers": 3, "fused": True, "outputs": 3}, {"outputs": 2, "bias": True, "padded": True},
    ],
    ids=str,
)  # fmt: skip
def test_values_are_those_of_the_published_code(tmp_path, how, protocol):
    part = ReferencePart(**how)
    volume = opened(convert_reference(part.save(tmp_path / "m", SHAPE, protocol)))
    assert (volume.grid.dims, volume.arrays[0].name, volume.arrays[0].range) == (SHAPE[::-1], "tornado", (-2.0, 3.0))
    close(volume.sample_region(), part.forward(lattice(SHAPE)), part)
    points = torch.rand(200, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    world = (points.numpy().astype(float) + 1) / 2 * (np.array(SHAPE[::-1]) - 1)
    close(volume.sample_points(world), part.forward(points), part)


def test_without_aligned_corners_the_ends_are_the_borders_of_the_voxels(tmp_path):
    part = ReferencePart(bias=True)
    volume = opened(convert_reference(part.save(tmp_path / "m", SHAPE, align_corners=False)))
    axes = [(np.arange(n, dtype=np.float32) * 2 + 1) / n - 1 for n in SHAPE]  # where `grid_sample` has a voxel's middle
    z, y, x = np.meshgrid(*axes, indexing="ij")
    close(volume.sample_region(), part.forward(torch.from_numpy(np.stack([x, y, z], -1).reshape(-1, 3))), part)


def test_an_image_lies_in_one_layer(tmp_path):
    part = ReferencePart(shape=(4, 5), fused=True)
    volume = opened(convert_reference(part.save(tmp_path / "m", SHAPE[:2])))
    assert volume.grid.dims == (8, 7, 1)
    close(volume.sample_region(), part.forward(lattice(SHAPE[:2])), part)


def test_name_spacing_and_storage(tmp_path):
    folder = ReferencePart().save(tmp_path / "m", SHAPE)
    data = convert_reference(folder, storage="float16", name="speed", spacing=(1, 2, 3), origin=(5, 6, 7))
    header = read_header(data)
    assert (header.arrays[0].name, header.grid.spacing, header.grid.origin) == ("speed", (1, 2, 3), (5, 6, 7))
    assert len(data) < len(convert_reference(folder))
    assert data == convert_reference(folder, storage="float16", name="speed", spacing=(1, 2, 3), origin=(5, 6, 7))


def saved_ensemble(folder, full_shape, counts, ghosts=1, **how):
    """The parts, z slowest, each with a range of its own, and their extents."""
    parts, extents = [], []
    for number, place in enumerate(itertools.product(*map(range, counts))):
        part = ReferencePart(seed=number, low=-1.0 - number, high=2.0 + number, **how)
        extent = extents_of(full_shape, counts, place, ghosts)
        local = [b - a for a, b in zip(extent[0::2], extent[1::2])]
        text = ",".join(map(str, extent))
        part.save(folder / text, local, extents=text, grid_index=",".join(map(str, place)))
        parts.append(part)
        extents.append(extent)
    options = {**parts[0].options, "ensemble": True, "ensemble_grid": ",".join(map(str, counts)), "full_shape": full_shape}
    del options["data_min"], options["data_max"]
    (folder / "options.json").write_text(json.dumps(options))
    return parts, extents


@pytest.mark.parametrize("how", [{}, {"fused": True}, {"bias": True, "outputs": 2}], ids=str)
@pytest.mark.parametrize("full_shape, counts", [((7, 9, 10), (2, 1, 3)), ((9, 7, 13), (2, 3, 4))])
def test_an_ensemble_is_read_brick_by_brick(tmp_path, how, full_shape, counts):
    """The faces fall on values here, so that both have the same place for them."""
    parts, extents = saved_ensemble(tmp_path / "e", full_shape, counts, **how)
    volume = opened(convert_reference(tmp_path / "e"))
    assert volume.layout.counts == counts[::-1]
    expected = ensemble_forward(parts, full_shape, counts, extents, lattice(full_shape) + 1e-6)
    span = volume.arrays[0].range
    assert span == (-1.0 - len(parts) + 1, 2.0 + len(parts) - 1)
    found = volume.sample_region().reshape(expected.shape)
    np.testing.assert_allclose(found, expected.numpy(), atol=TOLERANCE * (span[1] - span[0]))


def test_of_an_ensemble_only_values_beside_a_face_may_be_of_the_neighbour(tmp_path):
    full_shape, counts = (11, 8, 9), (3, 2, 1)
    parts, extents = saved_ensemble(tmp_path / "e", full_shape, counts)
    volume = opened(convert_reference(tmp_path / "e"))
    index = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) * (torch.tensor(full_shape[::-1]) - 1)
    x = index / (torch.tensor(full_shape[::-1]) - 1) * 2 - 1
    far = np.ones(len(index), bool)
    for axis, (n, count) in enumerate(zip(full_shape[::-1], counts[::-1])):
        for face in range(1, count):
            position = (n - 1) * face / count
            low, high = np.floor(position) - 1e-3, position + 1e-3
            far &= ~((index[:, axis].numpy() >= low) & (index[:, axis].numpy() <= high))
    assert 0.5 < far.mean() < 1
    expected = ensemble_forward(parts, full_shape, counts, extents, x).numpy()[:, 0]
    found = volume.sample_points(index.numpy())
    span = volume.arrays[0].range[1] - volume.arrays[0].range[0]
    np.testing.assert_allclose(found[far], expected[far], atol=TOLERANCE * span)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"feature_grid_shape": "__import__('os').system('true'),8,8"}, "feature_grid_shape: expected 3 whole numbers"),
        ({"feature_grid_shape": "3,4"}, "feature_grid_shape"),
        ({"n_grids": 6}, "encoder.feature_grids: expected shape"),
        ({"n_layers": 3}, "decoder.2.linear.weight"),
        ({"n_layers": 1}, "decoder.1.weight"),
        ({"model": "fVSRN"}, "model: expected APMGSRN"),
        ({"data_min": "0"}, "data_min: expected a number"),
        ({"full_shape": None}, "full_shape: expected 3 whole numbers"),
        ({"n_dims": 4}, "n_dims: expected 2 or 3"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path, changes, told):
    folder = ReferencePart().save(tmp_path / "m", **{"full_shape": SHAPE, **changes})
    with pytest.raises(ModelFileError, match=told.replace("(", r"\(")):
        convert_reference(folder)


def test_the_parts_of_an_ensemble_must_be_complete(tmp_path):
    saved_ensemble(tmp_path / "e", [7, 9, 10], (2, 1, 1))
    first = sorted(p for p in (tmp_path / "e").iterdir() if p.is_dir())[0]
    options = json.loads((first / "options.json").read_text())
    (first / "options.json").write_text(json.dumps({**options, "grid_index": "2,0,0"}))
    with pytest.raises(ModelFileError, match="grid_index: expected each place"):
        convert_reference(tmp_path / "e")
    (first / "options.json").write_text(json.dumps({**options, "extents": "0,8,0,9,0,10"}))
    with pytest.raises(ModelFileError, match="extents: expected a box inside"):
        convert_reference(tmp_path / "e")
    (first / "options.json").unlink()
    with pytest.raises(ModelFileError, match="options.json: cannot be opened"):
        convert_reference(tmp_path / "e")


class Harmful:
    """A pickle that would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_of_a_checkpoint_is_called(tmp_path, protocol):
    trap = tmp_path / "trap"
    torch.save({"state_dict": {"a": Harmful(trap)}}, tmp_path / "c.tar", pickle_protocol=protocol)
    with pytest.raises(ModelFileError, match="found a call of .*open"):
        read_archive(tmp_path / "c.tar")
    assert not trap.exists()
    torch.load(tmp_path / "c.tar", weights_only=False)["state_dict"]["a"].close()
    assert trap.exists()  # the trap works


def test_archives_give_the_tensors_back(tmp_path):
    base = torch.arange(60.0).reshape(3, 4, 5)
    held = {
        "part": base[1:, ::2], "turned": base.permute(2, 0, 1), "none": torch.zeros(0, 3), "scalar": torch.tensor(2.5),
        "half": base.half(), "long": torch.tensor([1, -2]), "parameter": torch.nn.Parameter(base),
        "words": ["a", 1, 2.5, None, True, (1, 2, 3, 4), 1 << 40],
    }  # fmt: skip
    torch.save(held, tmp_path / "c.tar")
    found = read_archive(tmp_path / "c.tar")
    assert found.keys() == held.keys() and found["words"] == held["words"]
    for name, tensor in held.items():
        if name != "words":
            np.testing.assert_array_equal(found[name], tensor.detach().numpy())


def test_damaged_archives_are_errors_of_the_package(tmp_path):
    """Every cut and many changed bytes: a model file error or numbers, never anything else."""
    path = tmp_path / "c.tar"
    torch.save({"state_dict": {"a": torch.arange(6.0).reshape(2, 3)}}, path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    (description,) = (name for name in members if name.endswith("data.pkl"))
    random, whole, refused = np.random.default_rng(0), members[description], 0
    for trial in range(400):
        changed = bytearray(whole[: random.integers(1, len(whole))] if trial % 2 else whole)
        for _ in range(trial % 3):
            changed[random.integers(len(changed))] = random.integers(256)
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in {**members, description: bytes(changed)}.items():
                archive.writestr(name, data)
        try:
            read_archive(path)
        except ApmgsrnError:
            refused += 1
    assert refused > 200
    for bad in (b"", b"no zip", whole):
        path.write_bytes(bad)
        with pytest.raises(ModelFileError, match="expected a zip archive of torch.save"):
            read_archive(path)
    with pytest.raises(ModelFileError, match="cannot be opened"):
        read_archive(tmp_path / "none.tar")


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1).expand(1 << 40)}, tmp_path / "c.tar")
    with pytest.raises(ModelFileError, match="expected 1 elements of 4 bytes that hold a tensor of shape"):
        read_archive(tmp_path / "c.tar")
