"""Pictures of a volume, straight from its networks.

`VolumeRenderer` is made for one array at one time step; camera, transfer function and options may change from picture to picture.
The same code runs on CPU and GPU: rays are tensors on the volume's device.

Source: ray casting with empty-space leaping and early termination, Levoy 1990, ACM TOG 9(3), "Efficient ray tracing of volume
data"; leaps over cells by a distance map, Cohen and Sheffer 1994, "Proximity clouds".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
import torch

from ..errors import ApmgsrnError
from ..kernels.memory import in_parts, is_of_accelerator, is_short
from ..sampling.failed_device import replace_device
from .camera import Camera
from .image_hierarchy import ImageHierarchy
from .macrocells import MOST_VALUES, Macrocells, RangeSampling, VisibleCells, finer
from .picture import Picture
from .ray_box import behind_planes, box_interval
from .ray_field import open_field
from .ray_light import Light
from .ray_march import LEAST_BLOCK, RayBatch, march
from .ray_modes import Accumulation, Average, Composite, Maximum, Surfaces
from .ray_table import RayTable
from .render_options import RenderOptions
from .sample_lengths import base_step, sample_lengths
from .transfer_function import TransferFunction

LEAST_RAYS = 64  # marched at a time; memory that does not suffice for so many is the end
EVEN = 0.05  # largest difference of opacities in a cell in which samples may be further apart

OnProgress = Callable[[float], bool | None]


class VolumeRenderer:
    """Renders one array of a volume.

    Args:
        volume: A NeuralVolume, or what samples like one.
        field: Name of the array; the first one when None. Of several components the magnitude is rendered.
        time: Of the time step; the first one when None.

    Attributes:
        samples: Evaluated for all pictures so far.
        sharp: Whether the ranges are as narrow as they get, see `sharpen`.

    Raises:
        FieldError: No such array. DataError: the lattice is flat.
    """

    def __init__(self, volume, field: str | None = None, time: float | None = None):
        self.field = open_field(volume, field, time)
        self._visible: tuple[tuple, VisibleCells] | None = None
        self._sharpening: RangeSampling | None = None
        self.sharp, self.samples = False, 0

    @cached_property
    def cells(self) -> Macrocells:
        """The ranges of the values: those of the model, or sampled when they are first needed."""
        stored = self.field.volume.macrocells(self.field.name, self.field.time)
        self.sharp = stored is None
        return Macrocells.of_field(self.field) if stored is None else stored

    def sharpen(self, seconds: float = math.inf) -> bool:
        """Sample narrower ranges than a model stores, for many pictures, each of which is then quicker.

        Args:
            seconds: About, after which it returns; the next call goes on.

        Returns:
            Whether it is done.
        """
        if self.sharp:
            return True
        try:
            self._sharpening = self._sharpening or RangeSampling(self.field)
            self._sharpening.run(seconds)
        except Exception as error:
            self._replace_device(error)
            return False
        if self._sharpening.done:
            self.cells, self._visible, self._sharpening, self.sharp = self._sharpening.cells(), None, None, True
            self.__dict__.pop("_lengths", None)
        return self.sharp

    @property
    def worth_sharpening(self) -> bool:
        """Whether as many values have been evaluated for pictures as `sharpen` takes, so that it is likely to pay."""
        return not self.sharp and self.samples > finer(self.field.grid, MOST_VALUES).region.count

    def step_of(self, options: RenderOptions) -> float:
        """Distance of two samples in the world; of the nearest ones when it varies."""
        return options.step or base_step(self.field)

    def render(
        self,
        camera: Camera,
        function: TransferFunction,
        options: RenderOptions | None = None,
        on_progress: OnProgress | None = None,
    ) -> Picture:
        """The finished picture.

        Args:
            camera: With the size of the picture.
            function: In the array's unit.
            options: None: the defaults.
            on_progress: Called with the share done; returning False stops with an ApmgsrnError.
        """
        picture = None
        for picture in self.passes(camera, function, options, float("inf")):
            if on_progress is not None and on_progress(picture.share) is False:
                raise ApmgsrnError("rendering was stopped")
        return picture

    def passes(
        self, camera: Camera, function: TransferFunction, options: RenderOptions | None = None, seconds: float = 0.1
    ) -> Iterator[Picture]:
        """Pictures from coarse to fine, about `seconds` apart; the last one is the finished picture.

        To start anew with another camera or function, drop the iterator and ask for another one. Where memory is short fewer
        rays are marched at a time. A GPU that fails, if it was chosen automatically, is left for the CPU, which begins the
        picture anew; the volume's `warnings` tell it.

        Raises:
            DeviceError: The GPU was asked for by name. MemoryShortage: that of the computer does not suffice.
        """
        options = options or RenderOptions()
        try:
            yield from self._passes(camera, function, options, seconds)
            return
        except Exception as error:
            self._replace_device(error)
        yield from self._passes(camera, function, options, seconds)

    def _passes(self, camera: Camera, function: TransferFunction, options: RenderOptions, seconds: float) -> Iterator[Picture]:
        scene = _Scene(self, camera, function, options)
        image = ImageHierarchy(camera.size, seconds, options.most_points // LEAST_BLOCK)
        for pixels in image.parts():
            before = scene.samples
            image.put(pixels, *_marched(scene, pixels), scene.samples)
            self.samples += scene.samples - before
            if image.due():
                yield image.picture(options.background)
        yield image.picture(options.background)

    def _replace_device(self, error: Exception) -> None:
        """Go on with the volume on the CPU, or raise what stands in the way of it: any other error as it is."""
        volume, name, time = self.field.volume, self.field.name, self.field.time
        if not (is_short(error) or is_of_accelerator(error)):
            raise error
        if getattr(volume, "device", self.field.device) == self.field.device:  # otherwise sampling has met it before
            replace_device(volume, error, "rendering")
        self.field = open_field(volume, name, time)
        self._visible = self._sharpening = None

    def visible_cells(self, function: TransferFunction, options: RenderOptions) -> VisibleCells | None:
        """The cells that a picture can show, and how dense the samples in them are; None: all, and equally dense."""
        key = (function, options.mode, options.iso_values, options.step, options.preintegrated, options.skip)
        if self._visible is None or self._visible[0] != key:
            self._visible = key, self._find_visible(function, options)
        return self._visible[1]

    def _find_visible(self, function: TransferFunction, options: RenderOptions) -> VisibleCells | None:
        varies = not options.step and options.mode == "composite" and not options.preintegrated
        if not (options.skip or varies):
            return None
        cells, lengths = self.cells, None
        visible = cells.low <= cells.high
        if options.mode == "isosurface":
            visible = cells.reaching(self.field.scaled(np.array(options.iso_values)))
        elif options.mode == "composite":
            least, most = cells.opacities(function, self.field)
            visible = most > 0
            lengths = self._lengths if varies else None
            if lengths is not None:
                lengths = np.where(most - least > EVEN, 1, lengths)
        return VisibleCells(cells, visible | (not options.skip), self.field.device, lengths)

    @cached_property
    def _lengths(self) -> np.ndarray | None:
        """See `sample_lengths`."""
        return sample_lengths(self.field, self.cells.counts)


def _marched(scene: "_Scene", pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """What `_Scene.march` gives, of fewer rays at a time where memory is short."""
    where = f"rendering on {scene.device}"
    parts = in_parts(scene.march, pixels, len(pixels), _halves, where, "rays", LEAST_RAYS)
    return tuple(None if column[0] is None else np.concatenate(column) for column in zip(*parts)) if len(parts) > 1 else parts[0]


def _halves(pixels: np.ndarray) -> list[tuple[np.ndarray, int]]:
    return [(half, len(half)) for half in np.array_split(pixels, 2)]


class _Scene:
    """What one picture is made with."""

    def __init__(self, renderer: VolumeRenderer, camera: Camera, function: TransferFunction, options: RenderOptions):
        self._field, self._camera, self._function, self._options = renderer.field, camera, function, options
        self.device = self._field.device
        self._step = renderer.step_of(options)
        self._cells = renderer.visible_cells(function, options)
        self._table = RayTable(function, self._field, self._step, options.preintegrated)
        self.samples = 0

    @torch.no_grad()
    def march(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Premultiplied colours and opacities (n, 4), depths (n,), and of maxima their values (n,), of pixels."""
        origins, directions = self._camera.rays(pixels)
        near, far = self._interval(origins, directions)
        rays = RayBatch.between(self._field, origins, directions, near, far, self._step)
        mode = self._mode(directions)
        native = self._field.native if mode.native else None
        self.samples += native.march(rays, self._cells, mode) if native else march(self._field, rays, self._cells, mode)
        mode.finish()
        self.samples += mode.evaluated
        colours = torch.cat([mode.colour, mode.opacity[:, None]], dim=1).cpu().numpy()
        distance = mode.depth.cpu().numpy() * self._step
        largest = None if mode.largest is None else mode.largest.cpu().numpy()
        return colours, (distance * (directions @ self._camera.axes[2])).astype(np.float32), largest

    def _interval(self, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances between which rays are inside of the volume, and not clipped, and in front of the eye."""
        field, options = self._field, self._options
        ends = [box_interval(field.to_box(origins), field.directions_to_box(directions), (0, 0, 0), (1, 1, 1))]
        if options.clip_box is not None:
            ends.append(box_interval(origins, directions, options.clip_box[::2], options.clip_box[1::2]))
        if options.clip_planes:
            ends.append(behind_planes(origins, directions, options.clip_planes))
        nears, fars = zip(*ends)
        return np.maximum(np.max(nears, axis=0), 0.0), np.min(fars, axis=0)

    def _mode(self, directions: np.ndarray) -> Accumulation:
        options, field, count = self._options, self._field, len(directions)
        if options.mode in ("maximum", "average"):
            return (Maximum if options.mode == "maximum" else Average)(count, field, self._table)
        light = None
        if options.shading or options.mode == "isosurface":
            along = torch.from_numpy(directions.astype(np.float32)).to(field.device)
            light = Light(along, options.ambient, options.diffuse, options.specular, options.specular_power)
        if options.mode == "composite":
            return Composite(count, field, self._table, options.opacity_limit, light)
        levels = np.array(options.iso_values)
        opacities = options.surface_opacities or np.ones(len(levels))
        colours = np.concatenate([self._function.colours_at(levels), np.reshape(opacities, (-1, 1))], axis=1)
        return Surfaces(count, field, field.scaled(levels).tolist(), colours, options.opacity_limit, light)
