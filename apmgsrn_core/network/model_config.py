"""What can be chosen about a network: frozen, validated dataclasses."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace

from ..errors import ConfigError
from ..grid import Grid
from ..validation import check, check_number, check_resolution, from_dict

INTERPOLATIONS = ("linear", "quadratic")
STORAGE_BYTES = {"float16": 2, "float32": 4}
SERIES_NUMBERS = 2
LEAST_RATE_BYTES, DECODER_BYTES = 4000, 2000  # of all numbers; of those that are no features, about
LEVEL_FEATURES, LATENTS_A_BYTE = (1, 2, 3, 6), 8.0  # of a network for a number of bytes and one component: the finest lattice first
MOST_LEVEL_COMPONENTS = 8  # that have features of their own
ROUNDED_BITS, ROUNDED_SHARE = 6.0, 0.01  # of a number at this share of the error, about; half a bit fewer where it doubles (`tests/bench/quantised.py`)
PRESETS = {
    "small": 77_000, "medium": 2**20, "large": 2**24,
    "published small": (64, 2, 8), "published medium": (16, 2, 32), "published large": (16, 4, 64),
}  # fmt: skip


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
        storage: Type of the weights in the model file, "float16" or "float32", unless they are rounded
            (`TrainConfig.rounding`).

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

    @classmethod
    def of_bytes(cls, size: int, dims: tuple[int, int, int], components: int = 1) -> "ModelConfig":
        """Global lattices for a training for bytes (`TrainConfig.rate_bytes`): each half as fine as the one before, the finest
        with about eight features for a byte, most of them zero when they are rounded; quadratic B-splines, a narrow decoder.

        Args:
            size: Bytes of the coded numbers.
            dims: Values of the data along x, y, z; intervals of a lattice are as many values long on all axes.
            components: Of all arrays together; each of the first eight adds features to the nodes, of which there are fewer.

        The levels are those that were best at 84 000 bytes of those measured; eight nodes for a byte gave 0 to 3 dB more than three,
        and twice as many little more (`tests/bench/README.md`, "Rate and distortion"). Features for each component gave 2 dB with
        three components, 4 with nine.
        """
        check(size >= LEAST_RATE_BYTES, "size", f"at least {LEAST_RATE_BYTES} bytes", size)
        wide = [n for n in dims if n > 1]
        middle = math.prod(wide) ** (1 / max(len(wide), 1))
        each = min(components, MOST_LEVEL_COMPONENTS)
        finest = (LATENTS_A_BYTE * (size - DECODER_BYTES) / each) ** (1 / max(len(wide), 1))
        lattices = []
        for level, features in enumerate(LEVEL_FEATURES):
            nodes = [1 if n == 1 else max(3, round(min(finest * n / middle, n) / 2**level)) for n in dims]
            if not lattices or tuple(nodes) != lattices[-1].resolution:
                lattices.append(LatticeConfig(tuple(nodes), each * features))
        return cls(
            0, interpolation="quadratic", lattices=tuple(lattices), hidden_width=32, bias=True, linear_skip=True
        )  # fmt: skip

    def for_series(self) -> "ModelConfig":
        """The same kind of model with SERIES_NUMBERS times the numbers, for the time steps of a series: trained for a quarter as
        long and rounded it is as good, in fewer bytes (`tests/bench/time_series.py`)."""
        return self.with_parameters(SERIES_NUMBERS * self.parameter_count())

    def with_parameters(self, parameters: int) -> "ModelConfig":
        """The same kind of model at about so many trained numbers: of our own family another one (`of_size`), else one
        with another number of placed grids, at least one; of one without, with finer or coarser lattices."""
        own = ModelConfig.of_size(max(self.parameter_count(), 2000))
        if replace(self, storage=own.storage, output_components=0) == own:
            return replace(ModelConfig.of_size(max(parameters, 2000)), storage=self.storage)
        if not self.number_of_grids:
            return self._with_lattices((parameters / self.parameter_count()) ** (1 / 3))
        one = replace(self, number_of_grids=2).parameter_count() - replace(self, number_of_grids=1).parameter_count()
        more = (parameters - replace(self, number_of_grids=1).parameter_count()) // one
        return replace(self, number_of_grids=1 + max(more, 0))

    def _with_lattices(self, finer: float) -> "ModelConfig":
        """With so many times the nodes along each axis."""
        least = 3 if self.interpolation == "quadratic" else 1
        scaled = ([1 if r == 1 else max(round(r * finer), least) for r in x.resolution] for x in self.lattices)
        lattices = tuple(LatticeConfig(tuple(r), x.features) for r, x in zip(scaled, self.lattices))
        return replace(self, lattices=lattices)

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

    def model_bytes(self, components: int = 1, rounding: float = 0.0) -> int:
        """Size of the weights in a model file in bytes (the manifest adds a few kilobytes); with `rounding`, the share of the
        error that rounding may add, about."""
        if rounding:
            bits = max(ROUNDED_BITS - math.log2(rounding / ROUNDED_SHARE) / 2, 1.0)
            return round(self.parameter_count(components) * bits / 8)
        transforms = 12 * self.number_of_grids
        weights = self.parameter_count(components) - transforms
        return weights * STORAGE_BYTES[self.storage] + transforms * 4

    def to_dict(self) -> dict:
        """Plain values, as JSON gives them back."""
        return json.loads(json.dumps(asdict(self)))

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
