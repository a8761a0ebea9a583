"""The properties of a training that keep every value within an error bound, and what follows from them."""

from __future__ import annotations

import math

from apmgsrn_core import USUAL_BOUND, ConfigError, TrainConfig, network_bytes

from .proxy import Proxy, selection, setting

TRAIN = TrainConfig()
BOUND = ("error_bound", "error_bound_mode", "error_bounds")
AIMS_WITH_BOUND = ("settings", "time")
USUAL_VALUES = 1 << 21  # while the lattice of the data is not known


class BoundSettings(Proxy):
    """Error bounds as properties; `ErrorBounds` has one for each array, in their order, and overrides `ErrorBound`."""

    SetErrorBound = setting("error_bound", TRAIN.error_bound)
    SetErrorBoundMode = setting("error_bound_mode", TRAIN.error_bound_mode, ("relative", "absolute"))

    AddErrorBound, ClearErrorBounds = selection("error_bounds")

    @property
    def chosen_bounds(self) -> tuple[float, ...]:
        """That are not 0; of all arrays, or one for all."""
        chosen = self.settings
        return tuple(value for value in chosen["error_bounds"] or (chosen["error_bound"],) if value)

    def check_aim_of_bound(self, aim: str) -> None:
        """Raise ConfigError for an aim that goes with no error bound: the residual has the size and the quality that it needs."""
        if self.chosen_bounds and aim not in AIMS_WITH_BOUND:
            raise ConfigError(f"Aim: expected Settings or Time with an ErrorBound, which says the quality, found {aim.capitalize()}")

    def check_bounds_of(self, arrays: tuple | None) -> None:
        """Raise ConfigError unless some arrays (ArraySpec) can be bound; None: they have no lattice of values."""
        chosen = self.settings["error_bounds"]
        if self.chosen_bounds and arrays is None:
            name, found = ("ErrorBounds", _listed(chosen)) if chosen else ("ErrorBound", f"{self.settings['error_bound']:g}")
            raise ConfigError(
                f"{name}: expected 0 for a mesh, or point and cell arrays together: only the values of image data and rectilinear"
                f" grids are kept within bounds, found {found}"
            )
        if chosen and arrays is not None and len(chosen) != len(arrays):
            names = ", ".join(array.name for array in arrays)
            raise ConfigError(f"ErrorBounds: expected one for each trained array ({names}), found {_listed(chosen)}")

    def bound_network_bytes(self, dims: tuple | None, bricks: int) -> int:
        """`rate_bytes` of the networks of all bricks beside what keeps the bounds; dims of the values, None: not known yet.

        A range is not known before the data are read: absolute bounds count as the usual one.
        """
        relative = self.settings["error_bound_mode"] == "relative"
        tightest = min(self.chosen_bounds) if relative else USUAL_BOUND
        if not tightest > 0:
            raise ConfigError(f"ErrorBound: expected a number above 0, or 0 for none, found {tightest:g}")
        return network_bytes(tightest, math.prod(dims) if dims else USUAL_VALUES, bricks)

    def bound_text(self) -> str:
        """What is kept, in words; "" without a bound."""
        if not self.chosen_bounds:
            return ""
        chosen, relative = self.settings["error_bounds"], self.settings["error_bound_mode"] == "relative"
        if not chosen:
            return f"an error of at most {self.settings['error_bound']:g}" + " of the range" * relative
        return f"errors of at most {_listed(chosen)} (0: any)" + " of the ranges" * relative


def _listed(bounds: tuple[float, ...]) -> str:
    return ", ".join(f"{bound:g}" for bound in bounds)
