"""What can be chosen about a network and about its training: two frozen, validated dataclasses."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

from .errors import ConfigError
from .grid import Grid
from .validation import check, check_number, check_resolution, from_dict

INTERPOLATIONS = ("linear", "quadratic")
STORAGE_BYTES = {"float16": 2, "float32": 4}
PLACEMENTS = ("kdtree", "published", "random")
SCHEDULES = ("auto", "cosine", "plateau")
PRECISIONS = ("auto", "full", "fast")
PRESETS = {
    "small": 77_000, "medium": 2**20, "large": 2**24,
    "published small": (64, 2, 8), "published medium": (16, 2, 32), "published large": (16, 4, 64),
}  # fmt: skip
QUALITIES = {"draft": 0.25, "normal": 1.0, "best": 2.5}  # steps, relative to the automatic number
POSITIONS = ("auto", "values", "continuous")


@dataclass(frozen=True)
class LatticeConfig:
    """A global lattice of features: it covers the domain and never moves.

    Args:
        resolution: Nodes along x, y, z; with quadratic interpolation at least 3 (or 1 when flat).
        features: Features at each node.
    """

    resolution: tuple[int, int, int]
    features: int

    def __post_init__(self):
        object.__setattr__(self, "resolution", check_resolution("LatticeConfig.resolution", self.resolution))
        check_number(self, "features", 1, 64, int)


@dataclass(frozen=True)
class ModelConfig:
    """The network: placed grids and global lattices of features, read by a small ReLU MLP.

    Defaults are the published ones (Wurster et al. 2024, TVCG 30(1); `train.py` of its authors).

    Args:
        number_of_grids: Adaptively placed grids, M in the paper; 0 with lattices only.
        features_per_grid: Features F at each node of a placed grid.
        grid_resolution: Nodes of a placed grid along x, y, z.
        interpolation: "linear" (published) or "quadratic" B-spline (smooth first derivatives).
        lattices: Global lattices beside the placed grids; () as published.
        hidden_layers: Hidden ReLU layers of the decoder; 0 leaves a linear decoder.
        hidden_width: Neurons of a hidden layer.
        bias: Whether the decoder's layers have biases; without, as published.
        linear_skip: Adds a linear map from the features straight to the output.
        output_components: Components of the output; 0 takes them from the data.
        storage: Type of the weights in the model file, "float16" or "float32".

    Raises:
        ConfigError: A field has a value that is not allowed.
    """

    number_of_grids: int = 64
    features_per_grid: int = 2
    grid_resolution: tuple[int, int, int] = (8, 8, 8)
    interpolation: str = "linear"
    lattices: tuple[LatticeConfig, ...] = ()
    hidden_layers: int = 2
    hidden_width: int = 64
    bias: bool = False
    linear_skip: bool = False
    output_components: int = 0
    storage: str = "float16"

    def __post_init__(self):
        check_number(self, "number_of_grids", 0, 65536, int)
        check_number(self, "features_per_grid", 1, 64, int)
        object.__setattr__(self, "grid_resolution", check_resolution("grid_resolution", self.grid_resolution))
        check(self.interpolation in INTERPOLATIONS, "interpolation", f"one of {INTERPOLATIONS}", self.interpolation)
        lattices = tuple(x if isinstance(x, LatticeConfig) else from_dict(LatticeConfig, x) for x in self.lattices)
        object.__setattr__(self, "lattices", lattices)
        check_number(self, "hidden_layers", 0, 16, int)
        check_number(self, "hidden_width", 1, 4096, int)
        check(isinstance(self.bias, bool), "bias", "True or False", self.bias)
        check(isinstance(self.linear_skip, bool), "linear_skip", "True or False", self.linear_skip)
        check_number(self, "output_components", 0, 1024, int)
        check(self.storage in STORAGE_BYTES, "storage", f"one of {tuple(STORAGE_BYTES)}", self.storage)
        check(self.number_of_grids > 0 or lattices, "number_of_grids", "at least 1 when there are no lattices", 0)
        if self.interpolation == "quadratic":
            for lattice in lattices:
                good = all(r == 1 or r >= 3 for r in lattice.resolution)
                check(good, "lattices", "1, or at least 3 nodes on an axis (quadratic)", lattice.resolution)

    @classmethod
    def preset(cls, name: str) -> "ModelConfig":
        """A size by name.

        "small" (77 000 numbers), "medium" (2^20), "large" (2^24) are of our own family, see `of_size`; "published small"
        (64 grids x 2 x 8^3), "published medium" (16 x 2 x 32^3) and "published large" (16 x 4 x 64^3) are the paper's.
        """
        check(name in PRESETS, "preset", f"one of {tuple(PRESETS)}", name)
        size = PRESETS[name]
        if isinstance(size, int):
            return cls.of_size(size)
        grids, features, resolution = size
        return cls(grids, features, (resolution,) * 3)

    @classmethod
    def of_size(cls, parameters: int) -> "ModelConfig":
        """Our own family at about so many parameters: many small grids of one feature, read by a narrow decoder.

        At 77 000 parameters 196 grids of 7^3, the best of what was measured at equal bytes (`tests/bench/quality.py`);
        with the parameters the number of grids grows as their square root and the nodes of a grid do too.

        Args:
            parameters: All trained numbers, from 2000 on.
        """
        check(parameters >= 2000, "parameters", "at least 2000", parameters)
        resolution = max(3, round(7 * (parameters / 77_000) ** (1 / 6)))
        small = cls(1, 1, (resolution,) * 3, hidden_width=32, bias=True)
        one = replace(small, number_of_grids=2).parameter_count() - small.parameter_count()
        return replace(small, number_of_grids=1 + (parameters - small.parameter_count()) // one)

    def fitted_to(self, grid: Grid) -> "ModelConfig":
        """The same model for data of these dims: a flat axis gets 1 node, the others as many as keep the size."""
        flat = tuple(n == 1 for n in grid.value_dims)
        if not any(flat) or all(flat):
            return self
        lattices = tuple(
            LatticeConfig(_flattened(x.resolution, flat, grid.value_dims), x.features) for x in self.lattices
        )
        resolution = _flattened(self.grid_resolution, flat, grid.value_dims)
        return replace(self, grid_resolution=resolution, lattices=lattices)

    def with_components(self, components: int) -> "ModelConfig":
        """The same model with `output_components` set; ConfigError when it was set to another number."""
        if self.output_components not in (0, components):
            raise ConfigError(
                f"output_components: expected 0 or the data's {components}, found {self.output_components}"
            )
        return replace(self, output_components=components)

    @property
    def feature_columns(self) -> int:
        """Features of one point, the decoder's inputs."""
        return self.number_of_grids * self.features_per_grid + sum(x.features for x in self.lattices)

    @property
    def feature_parameters(self) -> int:
        """Numbers in all grids and lattices."""
        placed = self.number_of_grids * self.features_per_grid * math.prod(self.grid_resolution)
        return placed + sum(x.features * math.prod(x.resolution) for x in self.lattices)

    def decoder_shapes(self, components: int) -> list[tuple[int, int]]:
        """(outputs, inputs) of each layer of the decoder."""
        widths = [self.feature_columns] + [self.hidden_width] * self.hidden_layers + [components]
        return list(zip(widths[1:], widths[:-1]))

    def parameter_count(self, components: int = 1) -> int:
        """All trained numbers: features, transforms, decoder."""
        shapes = self.decoder_shapes(components)
        decoder = sum(o * i + (o if self.bias else 0) for o, i in shapes)
        skip = components * self.feature_columns if self.linear_skip else 0
        return self.feature_parameters + 12 * self.number_of_grids + decoder + skip

    def model_bytes(self, components: int = 1) -> int:
        """Size of the weights in a model file in bytes (the manifest adds a few kilobytes)."""
        transforms = 12 * self.number_of_grids
        weights = self.parameter_count(components) - transforms
        return weights * STORAGE_BYTES[self.storage] + transforms * 4

    def to_dict(self) -> dict:
        """Plain values for the manifest."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict) -> "ModelConfig":
        """The inverse of `to_dict`; an unknown field is a ConfigError that names it."""
        return from_dict(cls, data)


def _flattened(resolution, flat, value_dims) -> tuple[int, int, int]:
    """`resolution` with 1 on flat axes and the others grown to about the same product.

    An axis does not grow beyond the data's own number of values.
    """
    full = math.prod(resolution)
    kept = math.prod(r for r, f in zip(resolution, flat) if not f)
    growth = (full / kept) ** (1 / (3 - sum(flat)))
    return tuple(
        1 if f else max(r, min(round(r * growth), n)) for r, f, n in zip(resolution, flat, value_dims)
    )


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
        transform_start, transform_stop: Shares of the training between which transforms learn (published: 0.05 and
            0.8, steps 500 and 8000 of 10 000).
        precision: "full": fp32; "fast" (what "auto" stands for in training): half precision in the decoder's products
            where the device is faster with it.
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
    precision: str = "auto"
    density_window: int = 1000
    density_tolerance: float = 1e-4

    def __post_init__(self):
        check(self.placement in PLACEMENTS, "placement", f"one of {PLACEMENTS}", self.placement)
        check(self.schedule in SCHEDULES, "schedule", f"one of {SCHEDULES}", self.schedule)
        check(self.quality in QUALITIES, "quality", f"one of {tuple(QUALITIES)}", self.quality)
        check(self.precision in PRECISIONS, "precision", f"one of {PRECISIONS}", self.precision)
        check(self.positions in POSITIONS, "positions", f"one of {POSITIONS}", self.positions)
        for field, low, high in (
            ("iterations", 0, 10**9), ("seed", 0, 2**31 - 1), ("batch_size", 0, 2**24),
            ("importance_blocks", 1, 64), ("importance_start", 0, 10**9), ("importance_refresh", 1, 10**9),
            ("global_grids", 0, 65536), ("density_window", 1, 10**9),
        ):  # fmt: skip
            check_number(self, field, low, high, int)
        for field, low, high in (
            ("time_budget", 0, 1e9), ("stop_psnr", 0, 400), ("learning_rate", 0, 10),
            ("final_learning_rate", 0, 10), ("beta_1", 0, 0.9999999), ("beta_2", 0, 0.9999999),
            ("epsilon", 0, 1), ("coarse_share", 0, 0.9), ("complexity_power", 0, 10), ("box_overlap", 1, 10),
            ("density_tolerance", 0, 1),
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

    def resolved(self, grid: Grid) -> "TrainConfig":
        """The same config with every automatic value filled in for this data."""
        published = self.placement == "published"
        moving = published or (self.placement == "kdtree" and self.transform_gradient in (None, True))
        rate = self.learning_rate or (0.01 if published else 0.02)
        automatic = {
            "iterations": 10_000 if published else automatic_iterations(grid, self.quality),
            "batch_size": 100_000 if published else 5_000,
            "schedule": "plateau" if published else "cosine",
            "positions": "continuous" if published else "values",
            "learning_rate": rate,
            "importance_fraction": 0.0 if published else 0.75,
            "transform_gradient": self.placement == "kdtree",
            "transform_learning_rate": (0.05 if published else 0.25) * rate if moving else 0.0,
            "transform_start": 0.05 if published else 0.0125,
            "transform_stop": 0.8 if published else 0.97,
            "precision": "fast",
        }
        words = {  # None in the others
            "iterations": 0, "batch_size": 0, "learning_rate": 0, "schedule": "auto", "positions": "auto",
            "precision": "auto",
        }  # fmt: skip
        chosen = {k: v for k, v in automatic.items() if getattr(self, k) == words.get(k)}
        return replace(self, **chosen)

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
