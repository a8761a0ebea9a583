"""What can be chosen about a training: a frozen, validated dataclass."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

from ..errors import ConfigError
from ..grid import Grid
from ..residual.error_bound import ErrorBound
from ..validation import check, check_number, from_dict

PLACEMENTS = ("kdtree", "published", "random")
SCHEDULES = ("auto", "cosine", "plateau")
POSITIONS = ("auto", "values", "continuous")
PRECISIONS = ("auto", "full", "fast")
SERIES_ROUNDING, RATE_ROUNDING, SINGLE_ROUNDING = 0.2, 0.02, 0.01  # the last costs 0.04 dB (`tests/bench/quantised.py`)
QUALITIES = {"draft": 0.25, "normal": 1.0, "best": 2.5}  # steps, relative to the automatic number


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained. None, and 0 where said, stand for "chosen by `resolved`".

    Args:
        placement: "kdtree": boxes of equal complexity from a k-d tree; "published": the paper's feature density,
            learned; "random": the published start, frozen.
        quality: How much effort the automatic number of steps is: "draft", "normal" or "best".
        iterations: Steps; 0 = automatic, from the size of the data and `quality`.
        time_budget: Stop after so many seconds of training; 0 = none. The cosine schedule is brought down in time.
        stop_psnr: Stop when the reconstruction has this PSNR in dB; 0 = none.
        seed: Of everything drawn at random.
        batch_size: Points of one step; 0 = automatic (5000; published: 100 000).
        learning_rate: Of features and decoder at the start; 0 = automatic (0.02; published: 0.01).
        final_learning_rate: What the cosine schedule ends at.
        schedule: "cosine"; "plateau": published, divided by 10 when the loss stalls after the grids converged.
        beta_1, beta_2, epsilon: Of Adam (published).
        positions: Training positions: "values" draws the data's own points, "continuous" any position with
            trilinearly interpolated targets (published).
        importance_fraction: Share of a batch drawn where the error is large, re-weighted so that the loss stays
            unbiased; 0 = none (published).
        importance_blocks: Blocks per axis of the error map.
        importance_start: First step with importance sampling.
        importance_refresh: Steps between two updates of the block probabilities.
        global_grids: Of the placed grids, so many start close to the identity ("kdtree"), at most a quarter.
        coarse_share: Share of the other placed grids that start on the boxes of a coarser tree over the same volume
            ("kdtree").
        complexity_power: Exponent of the complexity map ("kdtree").
        box_overlap: Boxes are grown by this factor ("kdtree").
        transform_gradient: Whether the loss moves the grids directly, through the interpolation ("kdtree").
        transform_learning_rate: Of the transforms; None: 0.25 of the learning rate (published: 0.05 of it, halved
            within 5 steps).
        series_steps: Share of the automatic number of steps for each time step of a series, whose networks are larger
            (`ModelConfig.for_series`) and whose batches are smaller.
        rounding: Share of the error of a network that rounding its numbers may add to it (0.2: 0.8 dB), so that each takes few
            bits in the file; 0 keeps them in the model's storage type; below 0: automatic: 0.2 in a time series, 0.02 with
            `rate_bytes`, else 0.01 (0.04 dB), but 0 for a model that is stored as float32 or refined.
        rate_bytes: Bytes that the coded numbers of all bricks are to take: they are trained with rounded features and the bits
            that these take as a part of the loss (`rate_term.py`); 0: without. Meant for global lattices (`ModelConfig.of_bytes`).
        rate_psnr: In dB, with `rate_bytes`: no more bytes are taken than this PSNR needs; 0: as many as there are.
        rate_step: Rounding step of features with `rate_bytes`.
        rate_noise: Share of the training in which noise stands for the rounding with `rate_bytes`.
        error_bound: How far a value of the model may be from the data at most, at every value; 0: no bound. What the network leaves
            is then coded beside it (`residual/`), and a brick whose bytes are fewer without a network has none.
        error_bound_mode: "relative": to the range of an array; "absolute": in its unit.
        error_bounds: Of each array, 0 for one that is not bound; (): `error_bound` of all.
        transform_start, transform_stop: Shares of the training between which transforms learn (published: 0.05 and
            0.8, steps 500 and 8000 of 10 000).
        precision: "full": fp32 (published); "fast": half precision in the decoder's products where the device is faster
            with it; "auto": the latter but for the published placement.
        density_window, density_tolerance: The published convergence test: mean density loss of the last window
            against the one before, relative slope below the tolerance.

    Raises:
        ConfigError: A field has a value that is not allowed.
    """

    placement: str = "kdtree"
    quality: str = "normal"
    iterations: int = 0
    time_budget: float = 0.0
    stop_psnr: float = 0.0
    seed: int = 0
    batch_size: int = 0
    learning_rate: float = 0.0
    final_learning_rate: float = 1e-4
    schedule: str = "auto"
    beta_1: float = 0.9
    beta_2: float = 0.99
    epsilon: float = 1e-14
    positions: str = "auto"
    importance_fraction: float | None = None
    importance_blocks: int = 16
    importance_start: int = 200
    importance_refresh: int = 20
    global_grids: int = 8
    coarse_share: float = 0.4
    complexity_power: float = 0.5
    box_overlap: float = 1.25
    transform_gradient: bool | None = None
    transform_learning_rate: float | None = None
    transform_start: float | None = None
    transform_stop: float | None = None
    series_steps: float = 0.5
    rounding: float = -1.0
    rate_bytes: int = 0
    rate_psnr: float = 0.0
    rate_step: float = 0.0625
    rate_noise: float = 0.7
    error_bound: float = 0.0
    error_bound_mode: str = "relative"
    error_bounds: tuple[float, ...] = ()
    precision: str = "auto"
    density_window: int = 1000
    density_tolerance: float = 1e-4

    def __post_init__(self):
        check(self.placement in PLACEMENTS, "placement", f"one of {PLACEMENTS}", self.placement)
        check(self.schedule in SCHEDULES, "schedule", f"one of {SCHEDULES}", self.schedule)
        check(self.quality in QUALITIES, "quality", f"one of {tuple(QUALITIES)}", self.quality)
        check(self.precision in PRECISIONS, "precision", f"one of {PRECISIONS}", self.precision)
        check(self.positions in POSITIONS, "positions", f"one of {POSITIONS}", self.positions)
        object.__setattr__(self, "error_bounds", tuple(self.error_bounds))
        self.bound  # checks its fields
        for field, low, high in (
            ("iterations", 0, 10**9), ("seed", 0, 2**31 - 1), ("batch_size", 0, 2**24),
            ("importance_blocks", 1, 64), ("importance_start", 0, 10**9), ("importance_refresh", 1, 10**9),
            ("global_grids", 0, 65536), ("density_window", 1, 10**9), ("rate_bytes", 0, 2**40),
        ):  # fmt: skip
            check_number(self, field, low, high, int)
        for field, low, high in (
            ("time_budget", 0, 1e9), ("stop_psnr", 0, 400), ("learning_rate", 0, 10),
            ("final_learning_rate", 0, 10), ("beta_1", 0, 0.9999999), ("beta_2", 0, 0.9999999),
            ("epsilon", 0, 1), ("coarse_share", 0, 0.9), ("complexity_power", 0, 10), ("box_overlap", 1, 10),
            ("density_tolerance", 0, 1), ("series_steps", 0.001, 10), ("rounding", -1, 10),
            ("rate_step", 1e-6, 1e6), ("rate_psnr", 0, 400), ("rate_noise", 0, 1),
        ):  # fmt: skip
            check_number(self, field, low, high)
        for field, high, kind in (
            ("importance_fraction", 0.95, float), ("transform_learning_rate", 10, float),
            ("transform_start", 1, float), ("transform_stop", 1, float),
        ):  # fmt: skip
            if getattr(self, field) is not None:
                check_number(self, field, 0, high, kind)
        good = self.transform_gradient in (None, True, False)
        check(good, "transform_gradient", "True, False or None", self.transform_gradient)
        if self.transform_gradient and self.placement != "kdtree":
            raise ConfigError(f"transform_gradient: only placement 'kdtree' uses it, found {self.placement!r}")
        if self.rate_bytes and self.placement == "published":
            raise ConfigError(f"rate_bytes: expected 0 with placement 'published', found {self.rate_bytes}")
        if self.rate_bytes and self.stop_psnr:  # only at the end do the numbers take the bytes that are wanted
            raise ConfigError(
                f"stop_psnr: expected 0 where a network is trained for bytes (rate_bytes, an error_bound), found {self.stop_psnr:g}"
            )
        check(self.rate_bytes > 0 or not self.rate_psnr, "rate_psnr", "0 without rate_bytes", self.rate_psnr)
        if self.rate_bytes and self.rounding == 0:
            raise ConfigError("rounding: expected more than 0 with rate_bytes, whose numbers are rounded, found 0")

    def resolved(self, grid: Grid, series: bool = False) -> "TrainConfig":
        """The same config with every automatic value filled in for this data; `series`: of a time step of a series."""
        published, for_bytes = self.placement == "published", self.rate_bytes > 0
        moving = published or (self.placement == "kdtree" and self.transform_gradient in (None, True))
        rate = self.learning_rate or (0.01 if published or for_bytes else 0.02)
        steps = 10_000 * QUALITIES[self.quality] if published else automatic_iterations(grid, self.quality)
        automatic = {
            "iterations": max(round(steps * (self.series_steps if series else 1.0)), 1),
            "batch_size": 100_000 if published else 8_000 if for_bytes else 2_000 if series else 5_000,
            "schedule": "plateau" if published else "cosine",
            "positions": "continuous" if published else "values",
            "learning_rate": rate,
            "importance_fraction": 0.0 if published else 0.75,
            "transform_gradient": self.placement == "kdtree",
            "transform_learning_rate": (0.05 if published else 0.25) * rate if moving else 0.0,
            "transform_start": 0.05 if published else 0.0125,
            "transform_stop": 0.8 if published else 0.97,
            "precision": "full" if published else "fast",
        }
        words = {  # None in the others
            "iterations": 0, "batch_size": 0, "learning_rate": 0, "schedule": "auto", "positions": "auto",
            "precision": "auto",
        }  # fmt: skip
        chosen = {k: v for k, v in automatic.items() if getattr(self, k) == words.get(k)}
        return replace(self.with_rounding(series), **chosen)

    def with_rounding(self, series: bool = False, storage: str = "float16", refined: bool = False) -> "TrainConfig":
        """The same config with a `rounding` that is automatic chosen: 0.2 in a time series, 0.02 with `rate_bytes`, 0.01 in
        others (0.04 dB), but 0 where a model is stored as float32 or is an initial model, `refined`."""
        single = 0.0 if refined or storage == "float32" else SINGLE_ROUNDING
        automatic = RATE_ROUNDING if self.rate_bytes else SERIES_ROUNDING if series else single
        return replace(self, rounding=float(self.rounding if self.rounding >= 0 else automatic))

    @property
    def bound(self) -> ErrorBound:
        """The error bound."""
        return ErrorBound(self.error_bound, self.error_bound_mode, self.error_bounds)

    def to_dict(self) -> dict:
        """Plain values for the manifest."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict) -> "TrainConfig":
        """The inverse of `to_dict`; an unknown field is a ConfigError that names it."""
        return from_dict(cls, data)


def automatic_iterations(grid: Grid, quality: str = "normal") -> int:
    """Steps by the number of values: 2000 for 32^3 and less, 4000 for 128^3, 6000 for 512^3 and more; times the effort."""
    doublings = math.log2(max(math.prod(grid.value_dims), 1)) - 15
    return round(min(max(2000 + doublings * 2000 / 6, 2000), 6000) * QUALITIES[quality])
