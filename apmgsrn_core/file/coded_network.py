"""Networks whose numbers are rounded to what their error allows, alone or as differences to the time step before."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import torch

from ..errors import ModelFileError
from ..network.model import Network, evaluate
from ..network.model_config import ModelConfig
from .number_blocks import network_tensors
from .rounding import rounding_steps
from .time_coding import Tensors, pack_tensors, takes_reference, unpack_tensors

KEPT_BYTES = 64 << 20  # of decoded tensors: going forward in a series, or through the steps after a key frame, decodes one each


@dataclass(frozen=True)
class DecodedNetwork:
    """The tensors that some coded bytes stand for.

    Attributes:
        name: Hash of all that they depend on, the steps before included.
        config: Of the network.
        tensors: {name: float32 array}; shared, not to be changed.
    """

    name: bytes
    config: ModelConfig = field(repr=False)
    tensors: Tensors = field(repr=False)

    @classmethod
    def of(cls, network: Network) -> "DecodedNetwork":
        """That of a network which was not coded."""
        tensors = {name: p.detach().cpu().float().numpy().copy() for name, p in network_tensors(network).items()}
        digest = hashlib.sha256(_text(network.config))
        for name in sorted(tensors):
            digest.update(tensors[name].tobytes())
        return cls(digest.digest(), network.config, tensors)

    def network(self) -> Network:
        """A frozen network of its own."""
        network = Network(self.config)
        with torch.no_grad():
            for name, parameter in network_tensors(network).items():
                parameter.copy_(torch.from_numpy(self.tensors[name]))
        return network.requires_grad_(False)

    @property
    def byte_count(self) -> int:
        """Of the tensors in memory."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


class _Decoded:
    """The networks that were decoded last, up to some bytes but one at least; threads may share it."""

    def __init__(self, most_bytes: int):
        self._most, self._lock = most_bytes, threading.Lock()
        self._kept: OrderedDict[bytes, DecodedNetwork] = OrderedDict()

    def get(self, name: bytes) -> DecodedNetwork | None:
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
            return self._kept.get(name)

    def keep(self, network: DecodedNetwork) -> None:
        with self._lock:
            self._kept[network.name] = network
            while len(self._kept) > 1 and sum(kept.byte_count for kept in self._kept.values()) > self._most:
                self._kept.popitem(last=False)


_decoded = _Decoded(KEPT_BYTES)


def decode_network(data: bytes, config: ModelConfig, before: DecodedNetwork | None = None) -> DecodedNetwork:
    """The network that some bytes of `code_network` stand for; of those asked for last it is remembered.

    Args:
        data: Coded.
        config: Of the network, with `output_components` set.
        before: The network of the time step before; None for a key frame.

    Raises:
        ModelFileError: The bytes are damaged, or need a step before and there is none.
    """
    digest = hashlib.sha256(b"" if before is None else before.name)
    digest.update(_text(config))
    digest.update(data)
    known = _decoded.get(digest.digest())
    if known is not None:
        return known
    if before is not None and before.config != config:
        raise ModelFileError("coded network: expected the architecture of the time step before, found another one")
    tensors = unpack_tensors(data, config, None if before is None else before.tensors)
    found = DecodedNetwork(digest.digest(), config, tensors)
    _decoded.keep(found)
    return found


def _text(config: ModelConfig) -> bytes:
    return json.dumps(config.to_dict(), sort_keys=True).encode()


def code_network(
    network: Network, batch, share: float, before: DecodedNetwork | None = None, feature_step: float = 0.0
) -> tuple[bytes, str]:
    """Code a trained network.

    Args:
        network: On the CPU; not changed.
        batch: See `sampler.Batch`: values of the data spread over the volume, on which the error and what rounding adds to it
            are measured.
        share: Of the error, what rounding may add to it.
        before: The network of the time step before; None makes a key frame.
        feature_step: See `rounding_steps`.

    Returns:
        (bytes for `decode_network`, coder: "delta" where the step before is needed to read them, else "rounded").
    """
    points, errors = _errors_of_outputs(network, batch)
    data = coded_numbers(network, points, errors, share, feature_step, None if before is None else before.tensors)
    return data, "delta" if takes_reference(data, network.config) else "rounded"


def coded_numbers(
    network: Network, points: torch.Tensor, errors: tuple[float, ...], share: float, feature_step: float = 0.0,
    reference: Tensors | None = None,
) -> bytes:  # fmt: skip
    """The bytes of a network's numbers, see `rounding_steps` and `pack_tensors`."""
    steps = rounding_steps(network, points, errors, share, feature_step)
    tensors = {name: p.detach().cpu().float().numpy() for name, p in network_tensors(network).items()}
    return pack_tensors(tensors, steps, network.config, reference)


def _errors_of_outputs(network: Network, batch) -> tuple[torch.Tensor, tuple[float, ...]]:
    """(the points of a batch that have values, or all when none has; mean squared error of each output there)."""
    rows = np.flatnonzero(batch.weights[:, 0].cpu().numpy() > 0)
    if not len(rows):
        return batch.points, (0.0,) * network.config.output_components
    points, targets = batch.points[rows], batch.targets[rows]
    outputs = evaluate([network], points.to(network.features.device)).to(targets)
    return points, tuple(((outputs - targets).double() ** 2).mean(dim=0).tolist())
