"""What can be chosen about a picture of a volume."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError
from ..validation import check, check_number

MODES = ("composite", "isosurface", "maximum", "average")


@dataclass(frozen=True)
class RenderOptions:
    """How a volume is rendered.

    Args:
        mode: "composite": emission and absorption; "isosurface"; "maximum" or "average" of the values along a ray.
        iso_values: Of the surfaces, in the array's unit.
        surface_opacities: One for each of the surfaces; (): they are opaque.
        step: Distance of the samples along a ray in the world; 0: chosen from the local density of the grids.
        preintegrated: Whether the function is integrated between two samples instead of read at each.
        shading: Whether composited samples are lit, from the direction of view; surfaces always are.
        ambient, diffuse, specular, specular_power: Of the light, as VTK has them.
        background: (red, green, blue) behind the volume; None: the picture is transparent.
        clip_box: (x min, x max, y min, y max, z min, z max) in the world: only this part is shown.
        clip_planes: (x, y, z, nx, ny, nz) each: only what is on the side of the normal is shown.
        opacity_limit: Of a ray, from which on what is behind is left out.
        skip: Whether parts that the function makes invisible are skipped.
        most_points: Held at a time; bounds the memory, about 200 bytes each.

    Raises:
        ConfigError: A field has a value that is not allowed.
    """

    mode: str = "composite"
    iso_values: tuple[float, ...] = ()
    surface_opacities: tuple[float, ...] = ()
    step: float = 0.0
    preintegrated: bool = False
    shading: bool = False
    ambient: float = 0.2
    diffuse: float = 0.8
    specular: float = 0.2
    specular_power: float = 20.0
    background: tuple[float, float, float] | None = None
    clip_box: tuple[float, ...] | None = None
    clip_planes: tuple[tuple[float, ...], ...] = ()
    opacity_limit: float = 0.999
    skip: bool = True
    most_points: int = 1 << 20

    def __post_init__(self):
        check(self.mode in MODES, "mode", f"one of {MODES}", self.mode)
        for name in ("step", "ambient", "diffuse", "specular", "specular_power"):
            check_number(self, name, 0.0)
            check(math.isfinite(getattr(self, name)), name, "a finite number", getattr(self, name))
        check_number(self, "opacity_limit", 0.0, 1.0)
        check_number(self, "most_points", 1 << 10, 1 << 30, int)
        for name in ("preintegrated", "shading", "skip"):
            check(isinstance(getattr(self, name), bool), name, "True or False", getattr(self, name))
        for name, length in (("iso_values", None), ("surface_opacities", None)):
            object.__setattr__(self, name, _numbers(name, getattr(self, name), length))
        if self.background is not None:
            object.__setattr__(self, "background", _numbers("background", self.background, 3))
        if self.clip_box is not None:
            box = _numbers("clip_box", self.clip_box, 6)
            check(all(a <= b for a, b in zip(box[::2], box[1::2])), "clip_box", "x min <= x max, ...", box)
            object.__setattr__(self, "clip_box", box)
        planes = tuple(_numbers("clip_planes", plane, 6) for plane in self.clip_planes)
        check(all(any(p[3:]) for p in planes), "clip_planes", "normals that are not 0", planes)
        object.__setattr__(self, "clip_planes", planes)
        self._check_surfaces()

    def _check_surfaces(self) -> None:
        check(bool(self.iso_values) == (self.mode == "isosurface"), "iso_values", "some for isosurfaces alone", self.iso_values)
        count = len(self.surface_opacities)
        check(count in (0, len(self.iso_values)), "surface_opacities", f"none or {len(self.iso_values)}", self.surface_opacities)
        check(all(0 <= o <= 1 for o in self.surface_opacities), "surface_opacities", "from 0 to 1", self.surface_opacities)
        composite = self.mode == "composite"
        check(composite or not self.preintegrated, "preintegrated", "False unless the mode is 'composite'", True)
        check(composite or self.mode == "isosurface" or not self.shading, "shading", f"False for {self.mode!r}", True)


def _numbers(name: str, value, length: int | None) -> tuple[float, ...]:
    """Finite numbers, so many of them."""
    try:
        numbers = tuple(float(v) for v in np.atleast_1d(value))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: expected numbers, found {value!r}") from error
    check(all(map(math.isfinite, numbers)) and length in (None, len(numbers)), name, f"{length or 'some'} finite numbers", value)
    return numbers
