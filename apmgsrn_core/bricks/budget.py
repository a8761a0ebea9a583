"""Which network each brick gets: parameters by need.

Source: our own. With an error that falls as a power of the parameters for each unit of detail, the sum of the errors is
least where every brick has parameters in proportion to a power of its detail; the power was measured
(`tests/bench/bricks.py`).
"""

from __future__ import annotations

from dataclasses import replace

from ..brick_layout import BrickLayout
from ..grid import Grid
from ..network.model_config import ModelConfig
from .survey import Survey

NEED_POWER = 0.5  # of a brick's detail, in its share; 0 would be equal shares
MOST_OF_MEAN, LEAST_OF_MEAN = 4.0, 0.125  # bounds of a share
CONSTANT = ModelConfig(1, 1, (2, 2, 2), hidden_layers=0, bias=True, storage="float32")  # of a brick of one value


def brick_models(
    survey: Survey, layout: BrickLayout, grid: Grid, model: ModelConfig, parameters: int, constant: bool = True
) -> tuple[ModelConfig, ...]:
    """The network of each brick.

    Args:
        survey: Of the bricks.
        layout, grid: The bricks, and the lattice of the data.
        model: What a brick has on the average; with `output_components` set.
        parameters: Of all bricks together; 0: those of `model` for each brick that is not constant.
        constant: Whether a constant brick gets `CONSTANT`, which can hold nothing else; otherwise the least share.

    Returns:
        One config for each brick, fitted to its values; of a constant brick `CONSTANT`.
    """
    needing = [b for b, summary in enumerate(survey.bricks) if not (summary.constant and constant)]
    total = parameters or len(needing) * model.parameter_count(model.output_components)
    shares = dict(zip(needing, share_out(total, [survey.details[b] for b in needing])))
    if layout.count == 1:
        return (_fitted(model.with_parameters(parameters) if parameters else model, model, grid),)
    grids = [layout.grid_of(brick, grid) for brick in range(layout.count)]
    return tuple(
        _fitted(model.with_parameters(int(shares[b])), model, part) if b in shares
        else constant_model(model.output_components, part)
        for b, part in enumerate(grids)
    )  # fmt: skip


def constant_model(components: int, grid: Grid) -> ModelConfig:
    """The network of a brick of one value."""
    return replace(CONSTANT, output_components=components).fitted_to(grid)


def _fitted(chosen: ModelConfig, model: ModelConfig, grid: Grid) -> ModelConfig:
    return replace(chosen, output_components=model.output_components).fitted_to(grid)


def share_out(total: float, details: list[float]) -> list[float]:
    """Shares of a total, in proportion to detail^NEED_POWER, between LEAST_OF_MEAN and MOST_OF_MEAN times the mean."""
    if not details:
        return []
    largest = max(details) or 1.0
    weights = [max(d / largest, 1e-9) ** NEED_POWER for d in details]
    mean, low, high = total / len(details), 0.0, len(details) / min(weights)
    for _ in range(100):  # the scale at which bounded shares add up to the total
        scale = (low + high) / 2
        shares = [mean * min(max(w * scale, LEAST_OF_MEAN), MOST_OF_MEAN) for w in weights]
        low, high = (scale, high) if sum(shares) < total else (low, scale)
    return shares
