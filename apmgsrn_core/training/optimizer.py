"""Adam with groups of learning rates; the native kernel makes the step where it is there.

Source: Kingma and Ba 2015 (ICLR), algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from .train_config import TrainConfig

MOMENTS = ("mean", "square", "steps")


@dataclass
class ParameterGroup:
    """Parameters that share a learning rate."""

    parameters: list[torch.nn.Parameter]
    rate: float
    moments: dict = field(default_factory=dict, repr=False)  # parameter -> (mean, mean square, steps)


class Adam:
    """Args:
    groups: With their learning rates, which a schedule changes.
    config: beta_1, beta_2, epsilon.
    kernel: Makes the step of one parameter (`adam`).
    """

    def __init__(self, groups: list[ParameterGroup], config: TrainConfig, kernel):
        self.groups = groups
        self._config = config
        self._kernel = kernel

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        config = self._config
        for group in self.groups:
            for parameter in group.parameters:
                if parameter.grad is None:
                    continue
                mean, square, steps = group.moments.get(parameter) or (
                    torch.zeros_like(parameter), torch.zeros_like(parameter), 0,
                )  # fmt: skip
                group.moments[parameter] = mean, square, steps + 1
                self._kernel.adam(
                    parameter.detach(), parameter.grad, mean.detach(), square.detach(), steps + 1, group.rate,
                    config.beta_1, config.beta_2, config.epsilon,
                )  # fmt: skip

    def state(self) -> dict:
        """For a checkpoint: rate and moments of each group; groups and parameters by their position."""
        return {
            str(g): {
                "rate": group.rate,
                "moments": {
                    str(p): dict(zip(MOMENTS, group.moments[parameter]))
                    for p, parameter in enumerate(group.parameters)
                    if parameter in group.moments
                },
            }
            for g, group in enumerate(self.groups)
        }

    def restore(self, state: dict) -> None:
        """Go on from a `state` of equal groups."""
        for g, group in enumerate(self.groups):
            group.rate = state[str(g)]["rate"]
            group.moments = {}
            for p, saved in state[str(g)]["moments"].items():
                parameter, shapes = group.parameters[int(p)], {saved[name].shape for name in MOMENTS[:2]}
                if shapes != {parameter.shape} or not isinstance(saved["steps"], int) or saved["steps"] < 0:
                    raise ValueError(f"moments of parameter {p}: expected shape {tuple(parameter.shape)} and steps, found others")
                mean, square = (torch.empty_like(parameter.detach()).copy_(saved[name]) for name in MOMENTS[:2])
                group.moments[parameter] = mean, square, saved["steps"]


def adam_step(values, gradient, mean, square, step: int, rate: float, beta_1: float, beta_2: float, epsilon: float) -> None:
    """One step in place, readable: tensors of one shape; `step` counts from 1."""
    mean.mul_(beta_1).add_(gradient, alpha=1 - beta_1)
    square.mul_(beta_2).addcmul_(gradient, gradient, value=1 - beta_2)
    root = square.sqrt().mul_((1 - beta_2**step) ** -0.5).add_(epsilon)
    values.addcdiv_(mean, root, value=-rate / (1 - beta_1**step))
