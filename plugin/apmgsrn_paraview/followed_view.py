"""A proxy that gives what a view sees: coarse while its camera moves, fine once it stands still."""

from __future__ import annotations

import time

from apmgsrn_core import ApmgsrnError, ConfigError, Grid

from . import vtk_bridge
from .camera_properties import CameraProperties
from .decoded_parts import DecodedParts
from .level_of_detail import WHOLE, LatticePart, fit_part, sight_of
from .proxy import setting

CAMERA = (
    "camera_position", "camera_focal_point", "camera_view_up", "camera_view_angle", "camera_parallel_projection",
    "camera_parallel_scale", "view_size",
)  # fmt: skip
OF_A_VECTOR = {"compute_divergence": 1, "compute_vorticity": 3, "compute_q_criterion": 1}  # setting -> numbers a point


class FollowedView(CameraProperties):
    """Of a proxy with `settings`: which part of a lattice a view needs, and what was decoded before.

    A window polls `GetNeedsUpdate`. Then, of a single process, a change of the camera gives the coarse lattice until the
    camera has been still for `SettleTime`. Otherwise (scripts, several ranks, which have no common clock) the visible part
    is given at once, unless `Detail` says coarse. The decision is taken in RequestInformation and holds until the next one.
    """

    SetFollowView = setting("follow_view", False)
    SetDetail = setting("detail", "auto", ("auto", "coarse", "full"))
    SetBudget = setting("budget", 16_000_000)
    SetCoarseBudget = setting("coarse_budget", 250_000)
    SetSettleTime = setting("settle_time", 0.3)
    SetCacheSize = setting("cache_size", 512)

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs=inputs, outputs=outputs)
        self.decoded, self.part = DecodedParts(), None  # the part that RequestInformation has announced
        self.coarse = self._moving = self._polled = False
        self._moved_at, self._owner = 0.0, None

    # -- the camera moves, and stands still ------------------------------------------------

    def setting_changed(self, field: str) -> None:
        """Modified only when another part is wanted; without a view to follow the camera means nothing."""
        following = self.settings["follow_view"]
        if field == "detail" and following:
            self._moving = False
            self._modify_if_other()
        elif field not in CAMERA:
            super().setting_changed(field)
        elif following:
            self._moving = self._moving or (self._polled and vtk_bridge.rank_and_size()[1] == 1)
            self._moved_at = time.monotonic()
            self._modify_if_other()

    def GetNeedsUpdate(self) -> bool:
        """Asked by the window again and again, on the first rank: whether the camera has come to rest. It then renders."""
        self._polled = True
        if not self._moving or time.monotonic() - self._moved_at < self.settings["settle_time"]:
            return False
        self._moving = False
        return self._modify_if_other()

    def _modify_if_other(self) -> bool:
        try:
            other = self.part is None or self.lattice_part(self.lattice_grid(), self._is_coarse()) != self.part
        except ApmgsrnError:  # told when data is asked for; of a camera that is set in steps it may be gone by then
            other = True
        if other:
            self.Modified()
        return other

    def _is_coarse(self) -> bool:
        detail = self.settings["detail"]
        return self.settings["follow_view"] and (detail == "coarse" or (detail == "auto" and self._moving))

    # -- the part --------------------------------------------------------------------------

    def lattice_grid(self) -> Grid:
        """The finest lattice. Raises ApmgsrnError."""
        raise NotImplementedError

    def lattice_range(self, lattice: Grid) -> tuple[tuple, tuple]:
        """(start, stop) of its points that are wanted at all. Raises ConfigError."""
        raise NotImplementedError

    def values_of_point(self) -> int:
        """How many values a point gets. Raises ApmgsrnError."""
        raise NotImplementedError

    def announce_part(self) -> LatticePart:
        """Decide which part is given until this is called again. Raises ApmgsrnError."""
        self.part, self.coarse = None, self._is_coarse()
        self.part = self.lattice_part(self.lattice_grid(), self.coarse)
        return self.part

    def lattice_part(self, lattice: Grid, coarse: bool) -> LatticePart:
        """The part of a lattice that is to be given; all that is wanted when no view is followed. Raises ApmgsrnError."""
        limits = self.lattice_range(lattice)
        if not self.settings["follow_view"]:
            return LatticePart(lattice, *limits)
        self._check()
        sight = None if coarse else sight_of(self.camera(lattice.bounds), lattice)
        budget = self.settings["coarse_budget"] if sight is None else self.settings["budget"]
        most = min(budget, self.settings["budget"]) // self.values_of_point()
        return fit_part(lattice, sight or WHOLE, most, limits)

    def _check(self) -> None:
        settings = self.settings
        for name, field in (("SettleTime", "settle_time"), ("CacheSize", "cache_size")):
            if not settings[field] >= 0:
                raise ConfigError(f"{name}: expected a number >= 0, found {settings[field]:g}")

    def seen(self) -> str:
        """In words, what the part is."""
        size = " x ".join(map(str, self.part.dims))
        return f"{size} points, {'coarse' if self.coarse else 'what the view sees'}"

    # -- what was decoded ------------------------------------------------------------------

    def from_cache(self, key: tuple, volume, output) -> bool:
        """Fill an output with what was decoded before of the same volume, when a view is followed."""
        if self._owner is not volume or not self.settings["follow_view"]:
            self._owner = volume
            self.decoded.forget()
        return self.decoded.find(key, output)

    def to_cache(self, key: tuple, output) -> None:
        """Keep what was decoded, when a view is followed."""
        if self.settings["follow_view"]:
            self.decoded.keep(key, output, 1_000_000 * self.settings["cache_size"])


def values_of_point(arrays, settings: dict) -> int:
    """How many numbers a point gets: the components of arrays (ArrayInfo), and what is derived from them."""
    per_component = 4 if settings["compute_gradient"] else 1
    of_a_vector = sum(count for name, count in OF_A_VECTOR.items() if settings[name])
    return sum(array.components * per_component + (of_a_vector if array.components == 3 else 0) for array in arrays)
