"""How the training of a time step starts from the stored step before, and is kept near it.

Measured (`tests/bench/time_series.py`): where the step before explains nine tenths of the variance, starting from it
saves steps, and its differences are cheaper to store; where it does not, a network of its own is better.
"""

from __future__ import annotations

import torch

from ..data.array_values import scaled_range
from ..file.manifest import ArrayInfo
from ..network.model import Network, evaluate
from .sampler import Sampler

LOOKED_AT = 1 << 14  # values
UNEXPLAINED = 0.1  # share of the variance
DECAY = 0.3  # of the features, per step and learning rate
PULL = 0.01  # of the features towards the step before, per step and learning rate


def unexplained_share(before: Network, sampler: Sampler) -> float:
    """Mean squared error of a network on the values of another time step, relative to their variance; 0 when they are
    constant and met.

    Args:
        before: Of the step before.
        sampler: Of the new step.
    """
    batch = sampler.draw_uniform(LOOKED_AT)
    valid = batch.weights[:, 0] > 0
    targets = batch.targets[valid]
    outputs = evaluate([before], batch.points[valid].to(before.features.device)).to(targets)
    error = float(((outputs - targets) ** 2).mean())
    variance = float(targets.var(dim=0, unbiased=False).mean())
    return error / variance if variance else (float("inf") if error else 0.0)


def follow_ranges(network: Network, before: tuple[ArrayInfo, ...], now: tuple[ArrayInfo, ...]) -> None:
    """Change the last layer in place so that the values stay when the ranges of the arrays change; without a bias the lowest
    value moves."""
    scale, shift = [], []
    for old, new in zip(before, now):
        (old_low, old_span), (low, span) = scaled_range(old), scaled_range(new)
        usable = old_span > 0 and span > 0
        scale += [old_span / span if usable else 1.0] * new.components
        shift += [(old_low - low) / span if usable else 0.0] * new.components
    with torch.no_grad():
        factor = torch.tensor(scale, dtype=torch.float32)
        last = network.layers[-1]
        for layer in (last, network.skip):
            if layer is not None:
                layer.weight.mul_(factor[:, None])
        if last.bias is not None:
            last.bias.mul_(factor).add_(torch.tensor(shift, dtype=torch.float32))


def starts_from_before(before: Network, sampler: Sampler) -> bool:
    """Whether a time step is so like the one before that its training should start there."""
    return unexplained_share(before, sampler) <= UNEXPLAINED


class FeaturePull:
    """Moves features a little after each training step, so that they take fewer bits.

    Without a reference they shrink by DECAY * rate (decoupled weight decay: Loshchilov and Hutter 2019, ICLR). With one,
    their differences to it are made smaller by PULL * rate and those below it vanish (soft threshold: Beck and Teboulle
    2009, SIAM J. Imaging Sciences 2(1), the proximal step of an absolute value).

    Args:
        features: Of the network that is trained.
        reference: Features of the stored step before; None: a key frame.
    """

    def __init__(self, features: torch.Tensor, reference: torch.Tensor | None = None):
        self._features = features.detach()
        self._reference = None if reference is None else reference.detach().to(features.device).clone()

    def step(self, rate: float) -> None:
        """Once, after the optimizer's step at this learning rate."""
        if self._reference is None:
            self._features.mul_(1 - DECAY * rate)
            return
        difference = self._features - self._reference
        self._features.copy_(torch.nn.functional.softshrink(difference, PULL * rate).add_(self._reference))
