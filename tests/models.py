"""Model files made of networks at hand, for the tests."""

from __future__ import annotations

from apmgsrn_core import BrickLayout, DataError, Grid, TrainConfig
from apmgsrn_core.file.manifest import ArrayInfo
from apmgsrn_core.network.model import Network
from apmgsrn_core.file.model_writer import StoredBrick, pack_model
from apmgsrn_core.file.weights import describe_brick, describe_model, pack_section


def pack_networks(
    networks: list[Network],
    grid: Grid,
    arrays: tuple[ArrayInfo, ...],
    times: tuple[float | None, ...],
    train: TrainConfig,
    key: str,
    layout: BrickLayout | None = None,
) -> bytes:
    """The model file of trained networks, one for each brick of the layout (None: one brick); see `model_file`.

    The manifest's `model` is the first network's config.
    """
    layout = layout or BrickLayout(grid.value_dims)
    if len(networks) != layout.count:
        raise DataError(f"expected {layout.count} networks, one a brick, found {len(networks)}")
    model = networks[0].config
    bricks = [
        StoredBrick.of_bytes(brick, describe_brick(network, layout, brick, model), pack_section(network))
        for brick, network in enumerate(networks)
    ]
    return pack_model(describe_model(grid, layout, arrays, times, model, train, key), bricks)
