"""A trained network as it is stored: the bytes of its section, and what is read from them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from ..file.coded_network import DecodedNetwork, code_network, decode_network
from ..file.weights import pack_coded, pack_section, round_to_stored
from ..network.model import Network
from ..network.model_config import ModelConfig


OVER, THINNED = 1.02, 1.005  # times the bytes that are wanted: when features are left out, and until when
HALVINGS = 8  # of the share of the features that are left out


@dataclass(frozen=True)
class StoredNetwork:
    """A network with the numbers that a reader finds, its section and how that is coded."""

    network: Network
    section: bytes = field(repr=False)
    coder: str


def store_network(
    network: Network,
    batch,
    share: float,
    before: DecodedNetwork | None,
    mask: np.ndarray | None,
    cells_of: Callable[[Network, int], np.ndarray | None] = lambda network, size: None,
    feature_step: float = 0.0,
    most_bytes: int = 0,
) -> StoredNetwork:
    """Store a trained network.

    Args:
        network: On the CPU; not changed.
        batch: Values of its data, see `code_network`.
        share: Of its error, what rounding may add; 0: its numbers are kept in its storage type.
        before: The network of the time step before, when the numbers may be stored as differences to it.
        mask: Packed, of the brick; None: it has none.
        cells_of: The network as it is stored, and the bytes of its section so far -> its packed macrocells; None: it has none.
        feature_step: See `rounding_steps`.
        most_bytes: Of the coded numbers of a network trained for bytes, about; 0: any.
    """
    if not share:
        rounded, size = round_to_stored(network), len(pack_section(network, mask))
        return StoredNetwork(rounded, pack_section(network, mask, cells_of(rounded, size)), "none")
    data, coder = code_network(network, batch, share, before, feature_step)
    if most_bytes and len(data) > OVER * most_bytes:
        data, coder = _thinned(
            network, feature_step, THINNED * most_bytes, lambda thin: code_network(thin, batch, share, before, feature_step)
        )  # fmt: skip
    decoded = decode_network(data, network.config, before if coder == "delta" else None)
    rounded = decoded.network()
    return StoredNetwork(rounded, pack_coded(data, mask, cells_of(rounded, len(data))), coder)


def _thinned(network: Network, step: float, most_bytes: float, code: Callable[[Network], tuple]) -> tuple[bytes, str]:
    """What `code` gives for a network without those of its features that are nearest to zero, as few as so many bytes ask for; where
    the training has not quite come to its bytes."""
    sizes = network.features.detach().abs()
    order = torch.argsort(sizes, stable=True)[int((sizes < step / 2).sum()) :]  # of those that are not rounded to zero
    low, high, best = 0.0, 1.0, None
    for _ in range(HALVINGS):
        middle, thin = (low + high) / 2, copy.deepcopy(network)
        with torch.no_grad():
            thin.features[order[: round(middle * len(order))]] = 0.0
        coded = code(thin)
        small = len(coded[0]) <= most_bytes
        low, high = (low, middle) if small else (middle, high)
        best = coded if small or best is None else best
    return best


def network_of_one_value(model: ModelConfig, value: tuple[float, ...]) -> Network:
    """A network that puts out one number for each component everywhere."""
    network = Network(model, torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.layers[-1].weight.zero_()
        network.layers[-1].bias.copy_(torch.tensor(value))
    return network
