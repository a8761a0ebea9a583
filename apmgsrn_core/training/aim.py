"""What a user wants of a training: a small file, a good one, or one in time; and the numbers that this comes to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..brick_layout import BrickLayout
from ..errors import ConfigError
from ..network.model_config import LEAST_RATE_BYTES, ModelConfig
from ..validation import check, check_number
from .train_config import TrainConfig

AIMS = ("settings", "size", "quality", "time")
FILE_BYTES, BRICK_BYTES = 1300, 1150  # of a model file beside its weights: of all of it, of each brick; measured
COMPACT_BYTES, COMPACT_RATIO = 160_000, 8  # of a compact model whose size is not said: of a brick's coded numbers, and of the data
COMPACT_PSNR, DECIBELS_A_DOUBLING, MOST_OF_SOURCE = 38.0, 4.0, 4  # in dB: what those bytes usually come to, and twice as many more
MACROCELLS, COMPACT_MACROCELLS = 0.02, 0.03  # of the weights' bytes, about; at most twice as many, see `stored_macrocells.py`
TIMED_STEPS = 100_000  # at most, when only the time is to end a training


@dataclass(frozen=True)
class Aim:
    """A wish, of which one is active.

    Args:
        aim: "settings": the settings are taken as they are; "size": the network is made so large that its file has a size;
            "quality": it is trained until it has a PSNR; "time": for so many seconds, `TrainConfig.time_budget`.
        target_ratio: "size": bytes of the arrays over those of the file, where `target_bytes` is 0.
        target_bytes: "size": of the file.
        target_psnr: "quality": in dB.

    Raises:
        ConfigError: A field has a value that is not allowed.
    """

    aim: str = "settings"
    target_ratio: float = 50.0
    target_bytes: int = 0
    target_psnr: float = 40.0

    def __post_init__(self):
        check(self.aim in AIMS, "aim", f"one of {AIMS}", self.aim)
        check_number(self, "target_ratio", 1, 1e9)
        check_number(self, "target_bytes", 0, 2**40, int)
        check_number(self, "target_psnr", 0.1, 400)

    def train_config(self, train: TrainConfig) -> TrainConfig:
        """The training for this aim; for a size the numbers of placed grids are not rounded.

        Raises:
            ConfigError: A file of rounded numbers is to have a size, which is known only when they are trained, or the time
                is not said.
        """
        if self.aim == "size" and not train.rate_bytes:
            if train.rounding > 0:
                raise ConfigError(
                    f"Rounding: expected 0 or -1 with the Aim Size, found {train.rounding:g}; rounded numbers take what they need"
                )
            return replace(train, rounding=0.0)
        if self.aim == "quality" and train.rate_bytes:
            return replace(train, rate_psnr=self.target_psnr)
        if self.aim == "quality":
            return replace(train, stop_psnr=self.target_psnr, quality="best")
        if self.aim == "time":
            if not train.time_budget:
                raise ConfigError("TimeBudget: expected seconds with the Aim Time, found 0")
            return replace(train, iterations=train.iterations or TIMED_STEPS)
        return train

    def file_bytes(self, source_bytes: int) -> int:
        """Of the file that is wanted; 0 while the bytes of the arrays are needed and not known (0)."""
        return self.target_bytes or round(source_bytes / self.target_ratio)


def estimated_bytes(model: ModelConfig, components: int, bricks: int, rounding: float = 0.0) -> int:
    """Of the file of so many bricks with such a network on the average, about; masks are left out. See `TrainConfig.rounding`."""
    weights = model.model_bytes(components, rounding)
    return round(FILE_BYTES + bricks * (BRICK_BYTES + (1 + MACROCELLS) * weights))


def compact_file_bytes(rate_bytes: int, bricks: int) -> int:
    """Of the file of a training for bytes (`TrainConfig.rate_bytes`), about; masks are left out."""
    return round(FILE_BYTES + bricks * BRICK_BYTES + (1 + COMPACT_MACROCELLS) * rate_bytes)


def usual_rate_bytes(source_bytes: int, bricks: int) -> int:
    """`TrainConfig.rate_bytes` where no size is wanted; `source_bytes` of the arrays, 0: not known."""
    size = COMPACT_BYTES * bricks
    return max(min(size, source_bytes // COMPACT_RATIO) if source_bytes else size, LEAST_RATE_BYTES * bricks)


def quality_rate_bytes(psnr: float, source_bytes: int, bricks: int) -> int:
    """`TrainConfig.rate_bytes` beyond which no PSNR is looked for: the lattices are made for so many, and few data need as many.

    Args:
        psnr: Wanted, in dB.
        source_bytes: Of the arrays; 0: not known.
    """
    size = round(COMPACT_BYTES * min(max(2 ** ((psnr - COMPACT_PSNR) / DECIBELS_A_DOUBLING), 1 / 8), 4)) * bricks
    return max(min(size, source_bytes // MOST_OF_SOURCE) if source_bytes else size, LEAST_RATE_BYTES * bricks)


def rate_bytes_for(file_bytes: int, bricks: int) -> int:
    """`TrainConfig.rate_bytes` of a file of about so many bytes.

    Raises:
        ConfigError: There is no room for numbers.
    """
    least = compact_file_bytes(LEAST_RATE_BYTES * bricks, bricks)
    if file_bytes < least:
        raise _too_small(least, bricks, file_bytes)
    return int((file_bytes - compact_file_bytes(0, bricks)) / (1 + COMPACT_MACROCELLS))


def _too_small(least: int, bricks: int, found: int) -> ConfigError:
    return ConfigError(
        f"TargetBytes, TargetRatio: expected a model file of at least {least} bytes for {_bricks(bricks)}, found {found} wanted"
    )


def _bricks(count: int) -> str:
    return f"{count} brick{'s' * (count > 1)}"


def parameters_for(file_bytes: int, model: ModelConfig, components: int, bricks: int) -> int:
    """How many numbers of all bricks together make a file of about so many bytes.

    Args:
        model: The kind of network, see `ModelConfig.with_parameters`.

    Raises:
        ConfigError: Not even the smallest networks of this kind do.
    """
    smallest = model.with_parameters(1)
    least = estimated_bytes(smallest, components, bricks)
    if file_bytes < 0.9 * least:
        raise _too_small(least, bricks, file_bytes)
    low, high = 1, max(file_bytes, smallest.parameter_count(components))
    while high - low > 1:
        middle = (low + high) // 2
        fits = estimated_bytes(model.with_parameters(middle), components, bricks) <= file_bytes
        low, high = (middle, high) if fits else (low, middle)
    options = [model.with_parameters(n).parameter_count(components) for n in (low, high)]
    sizes = [estimated_bytes(model.with_parameters(n), components, bricks) for n in (low, high)]
    return bricks * options[abs(sizes[0] - file_bytes) > abs(sizes[1] - file_bytes)]


def lattices_for(rate_bytes: int, layout: BrickLayout, components: int) -> ModelConfig:
    """The network of a brick when the coded numbers of all bricks are to have so many bytes; components of all arrays together."""
    return ModelConfig.of_bytes(rate_bytes // layout.count, layout.core(0).shape_zyx[::-1], components)


def step_cost(points: int, numbers: int, placed: bool) -> float:
    """Of a step of a training, relative to others: its points, and the numbers that it moves; measured.

    Args:
        points: Of a batch.
        numbers: Trained ones.
        placed: Whether the network has placed grids; one of lattices alone is trained for bytes, where each number costs more.
    """
    return 150.0 * points + numbers if placed else 120.0 * points + 1.5 * numbers
