"""A trained network as it is stored: the bytes of its section, and what is read from them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .coded_network import DecodedNetwork, code_network, decode_network
from .model import Network
from .weights import pack_coded, pack_section, round_to_stored


@dataclass(frozen=True)
class StoredNetwork:
    """A network with the numbers that a reader finds, its section and how that is coded."""

    network: Network
    section: bytes = field(repr=False)
    coder: str


def store_network(
    network: Network, batch, share: float, before: DecodedNetwork | None, mask: np.ndarray | None
) -> StoredNetwork:
    """Store a trained network.

    Args:
        network: On the CPU; not changed.
        batch: Values of its data, see `code_network`.
        share: Of its error, what rounding may add; 0: its numbers are kept in its storage type.
        before: The network of the time step before, when the numbers may be stored as differences to it.
        mask: Packed, of the brick; None: it has none.
    """
    if not share:
        return StoredNetwork(round_to_stored(network), pack_section(network, mask), "none")
    data, coder = code_network(network, batch, share, before)
    decoded = decode_network(data, network.config, before if coder == "delta" else None)
    return StoredNetwork(decoded.network(), pack_coded(data, mask), coder)
