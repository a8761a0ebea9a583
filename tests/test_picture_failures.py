"""Pictures and foreign networks where memory is short or a device fails: they go on as sampling does, or say what stands in the way.

There is no GPU here: kernels and networks raise what they raise on one.
"""

import re

import foreign_networks as foreign
import numpy as np
import pytest
from test_memory import CPU_SHORT, GPU_SHORT, LOST, Short, train

from apmgsrn_core import DataError, DeviceError, MemoryShortage, NeuralVolume, open_volume, register_network
from apmgsrn_core.kernels import cpu_library, kernel_for, memory
from apmgsrn_core.kernels.cpu_march import FieldMarch, NativeMarch
from apmgsrn_core.rendering import ray_field, renderer
from apmgsrn_core.rendering.camera import Camera
from apmgsrn_core.rendering.renderer import VolumeRenderer
from apmgsrn_core.rendering.transfer_function import TransferFunction

SIZE = (24, 20)
RGB = [0, 1, 0, 0, 100, 0, 1, 0, 200, 0, 0, 1]
FUNCTION = TransferFunction.from_points(RGB, [0, 0, 0.5, 0, 90, 0, 0.5, 0, 130, 0.6, 0.5, 0, 200, 0.9, 0.5, 0], 0.8)


@pytest.fixture(scope="module", params=[(1, 1, 1), (2, 2, 1)], ids=["one brick", "bricks"])
def model(request):
    return train(request.param).to_bytes()


@pytest.fixture
def kernel(monkeypatch, model):
    """The class of the kernels that are used here; torch marches, for only that asks them for values."""
    monkeypatch.setattr(ray_field, "native_march", lambda *_: None)
    monkeypatch.setattr(ray_field, "native_march_of", lambda *_: None)
    return type(kernel_for(NeuralVolume.from_bytes(model, "cpu").network(0)))


def picture(volume, **settings):
    camera = Camera.looking_at(volume.grid.bounds, 25, 35, SIZE)
    return VolumeRenderer(volume).render(camera, FUNCTION, **settings)


def passes(volume):
    camera = Camera.looking_at(volume.grid.bounds, 25, 35, SIZE)
    return list(VolumeRenderer(volume).passes(camera, FUNCTION, seconds=0.0))


def same(one, other):
    assert other.rgba[..., 3].max() > 0.1, "a picture that shows something"
    np.testing.assert_allclose(one.rgba, other.rgba, atol=1e-5)
    np.testing.assert_allclose(one.depth, other.depth, atol=1e-4)


@pytest.mark.parametrize("error", [CPU_SHORT, MemoryError("no"), GPU_SHORT])
def test_a_picture_is_marched_in_smaller_parts_where_memory_is_short(monkeypatch, model, kernel, error):
    expected = picture(NeuralVolume.from_bytes(model, "cpu"))
    monkeypatch.setattr(renderer, "LEAST_RAYS", 2)
    monkeypatch.setattr(memory, "LEAST_POINTS", 64)
    short = Short(monkeypatch, kernel, error, most=400, only=("values",))
    volume = NeuralVolume.from_bytes(model, "cpu")
    same(picture(volume), expected)
    assert max(short.sizes) > 400 and volume.warnings == ()


def test_less_than_the_fewest_rays_is_an_error_that_says_where(monkeypatch, model, kernel):
    Short(monkeypatch, kernel, CPU_SHORT, calls=10**9, only=("values",))
    expected = r"expected memory for \d+ (rays|points) at a time, found .*4000000000 bytes"
    with pytest.raises(MemoryShortage, match=expected):
        picture(NeuralVolume.from_bytes(model, "cpu"))


@pytest.mark.parametrize("error", [*LOST, GPU_SHORT])
def test_the_cpu_finishes_a_picture_whose_device_fails_and_says_so(monkeypatch, model, kernel, error, caplog):
    expected = picture(NeuralVolume.from_bytes(model, "cpu"))
    volume, right, calls = NeuralVolume.from_bytes(model, "auto"), kernel.values, []

    def values(self, network, points):
        calls.append(len(points))
        if len(calls) > 3 and not volume.warnings:
            raise error
        return right(self, network, points)

    monkeypatch.setattr(kernel, "values", values)
    same(passes(volume)[-1], expected)
    (warning,) = volume.warnings
    assert re.match("device .* has failed, the CPU goes on: ", warning) and warning in caplog.text
    assert volume.device.type == "cpu"


@pytest.mark.parametrize("error", [*LOST, GPU_SHORT])
def test_a_device_that_was_named_is_not_left(monkeypatch, model, kernel, error):
    Short(monkeypatch, kernel, error, calls=10**9, only=("values",))
    volume = NeuralVolume.from_bytes(model, "cpu")  # named, as cuda:0 would be
    with pytest.raises(DeviceError, match="device cpu: expected it to go on, found .*; with auto the CPU would do so"):
        picture(volume)
    assert volume.warnings == ()


def test_ranges_that_are_made_narrower_meet_it_as_well(monkeypatch, model, kernel):
    volume = NeuralVolume.from_bytes(model, "auto")
    pictures = VolumeRenderer(volume)
    assert pictures.cells is not None and not pictures.sharp
    Short(monkeypatch, kernel, LOST[0], calls=1)
    while not pictures.sharpen(1.0):
        pass
    assert len(volume.warnings) == 1 and pictures.sharp


def test_other_errors_of_a_march_are_not_taken_for_those(monkeypatch, model, kernel):
    Short(monkeypatch, kernel, ValueError("a mistake"), calls=10**9, only=("values",))
    with pytest.raises(ValueError, match="a mistake"):
        picture(NeuralVolume.from_bytes(model, "auto"))


# -- foreign networks ------------------------------------------------------------------------------


@pytest.mark.skipif(cpu_library.load()[0] is None, reason="the native CPU kernels are not built")
def test_the_native_march_takes_fewer_rays_where_memory_is_short(monkeypatch, model):
    expected, marched = picture(NeuralVolume.from_bytes(model, "cpu")), []

    def short(native, mode, rays, *others):
        marched.append(rays._obj.count)
        return -1 if marched[-1] > 100 else own[type(native)](native, mode, rays, *others)  # what it returns for bad_alloc

    own = {kind: kind._call for kind in (FieldMarch, NativeMarch)}
    for kind in own:
        monkeypatch.setattr(kind, "_call", short)
    same(picture(NeuralVolume.from_bytes(model, "cpu")), expected)
    assert max(marched) > 100 > min(marched)


class Failing:
    """A network that raises an error in some of its calls, for more than so many points."""

    def __init__(self, error, calls=(), most=None):
        self.error, self.calls, self.most, self.count = error, calls, most, 0

    def __call__(self, points):
        self.count += 1
        if self.count in self.calls or (self.most is not None and len(points) > self.most):
            raise self.error
        return points[:, :1] * 0.5 + 0.5


def opened(monkeypatch, tmp_path, network, device="auto", derivatives="differences"):
    """A volume of a network as if it stood in a file."""
    from apmgsrn_core.foreign import volume

    monkeypatch.setattr(volume, "load_network", lambda description, device, trust: network)
    path = foreign.write_description(tmp_path, {"kind": "torchscript", "file": "none.pt"}, derivatives=derivatives)
    return open_volume(path, device, trust=True)


@pytest.mark.parametrize("error", [*LOST, GPU_SHORT])
def test_a_foreign_network_moves_to_the_cpu(monkeypatch, tmp_path, error):
    points = foreign.inside(50)
    expected = opened(monkeypatch, tmp_path, Failing(error)).sample_points(points)
    volume = opened(monkeypatch, tmp_path, Failing(error, calls=(2,)))  # the first one tries it
    np.testing.assert_array_equal(volume.sample_points(points), expected)
    (warning,) = volume.warnings
    assert "has failed, the CPU goes on" in warning and volume.device.type == "cpu"


def test_one_that_fails_while_it_is_opened_moves_as_well(monkeypatch, tmp_path):
    volume = opened(monkeypatch, tmp_path, Failing(LOST[0], calls=(1,)))
    assert "has failed, the CPU goes on" in volume.warnings[0]
    with pytest.raises(DeviceError, match="expected it to go on.*with auto the CPU would do so"):
        opened(monkeypatch, tmp_path, Failing(LOST[0], calls=(1,)), "cpu")


def test_a_foreign_network_is_asked_for_fewer_points_where_memory_is_short(monkeypatch, tmp_path):
    points = foreign.inside(5000)
    expected = opened(monkeypatch, tmp_path, Failing(CPU_SHORT)).sample_points(points)
    network = Failing(CPU_SHORT)
    volume = opened(monkeypatch, tmp_path, network)
    network.most = 3000
    np.testing.assert_array_equal(volume.sample_points(points), expected)
    network.most = 100
    with pytest.raises(MemoryShortage, match=r"expected memory for \d+ points at a time, found .*4000000000 bytes"):
        volume.sample_points(points)


@pytest.mark.parametrize("wanted", ["auto", "autograd"])
def test_memory_that_is_short_is_not_taken_for_a_network_without_gradients(monkeypatch, tmp_path, wanted):
    """The first call tries its values, the second one its gradients."""
    with pytest.raises(MemoryShortage, match="opening: expected memory for it, found .*4000000000 bytes"):
        opened(monkeypatch, tmp_path, Failing(CPU_SHORT, calls=(2,)), derivatives=wanted)
    volume = opened(monkeypatch, tmp_path, Failing(LOST[0], calls=(2,)), derivatives=wanted)
    assert volume.derivatives == "autograd" and "has failed, the CPU goes on" in volume.warnings[0]


def test_a_registered_network_stays_where_its_owner_has_put_it():
    network = Failing(LOST[0])
    volume = open_volume(register_network("failing", network, foreign.description({})), "auto")
    network.calls = range(10**6)
    with pytest.raises(DeviceError, match="expected it to go on, found [^;]*$"):
        volume.sample_points(foreign.inside(5))
    network.error = ValueError("mine")
    with pytest.raises(DataError, match="found that it fails: ValueError: mine"):
        volume.sample_points(foreign.inside(5))
