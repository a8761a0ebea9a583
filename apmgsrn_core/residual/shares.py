"""What of a model within error bounds its networks take, and what their residuals."""

from __future__ import annotations

from dataclasses import dataclass

from ..bricks.budget import constant_model
from ..file.model_file import ModelFile
from ..file.weights import MASK, RESIDUAL, brick_config


@dataclass(frozen=True)
class Shares:
    """Bytes and bricks of a model, all of its time steps together or one of them.

    Attributes:
        bounds: Of each array by name how far a value may be from the data, in its unit, the largest of the steps; without those
            that are not bound at each of the steps.
        networks: Bytes of the networks, of bricks that have one.
        residuals: Bytes of what is coded beside them.
        bricks: How many there are.
        without_network: How many of these have none: their residual has all to say.
    """

    bounds: dict[str, float]
    networks: int
    residuals: int
    bricks: int
    without_network: int

    @classmethod
    def of_file(cls, file: ModelFile, step: int | None = None) -> "Shares":
        """Read them from the sections of a time step; None: of all. Raises ModelFileError."""
        header = file.header
        steps = range(len(header.bounds)) if step is None else [step]
        bare = {brick for brick in range(header.layout.count) if _is_bare(file, brick)}
        networks = residuals = 0
        for brick in range(header.layout.count):
            for number in steps:
                sizes = {name: tensor.nbytes for name, tensor in file.read_section(brick, number).items()}
                residuals += sizes.pop(RESIDUAL, 0)
                sizes.pop(MASK, None)
                networks += 0 if brick in bare else sum(sizes.values())
        bounds = [[header.bounds[number][array] for number in steps] for array in range(len(header.arrays))]
        named = {info.name: max(of_steps) for info, of_steps in zip(header.arrays, bounds) if all(of_steps)}
        return cls(named, networks, residuals, header.layout.count, len(bare))

    def __str__(self) -> str:
        return (
            f"{self.residuals} bytes of residuals, {self.networks} bytes of networks,"
            f" {self.without_network} of {self.bricks} brick{'s' * (self.bricks != 1)} without a network"
        )


def _is_bare(file: ModelFile, brick: int) -> bool:
    """Whether a brick has the network of one value, which can tell its mean at most."""
    header = file.header
    components = sum(info.components for info in header.arrays)
    return brick_config(header.manifest, brick) == constant_model(components, header.layout.grid_of(brick, header.grid))
