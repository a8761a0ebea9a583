"""One training step as a CUDA graph: replayed without Python between its kernels and without waiting for the device."""

from __future__ import annotations

import threading

import torch

from ..errors import ConfigError
from .history import SMOOTHING_STEPS
from .optimizer import ParameterGroup
from .train_config import TrainConfig

WARM_UP = 3  # steps of each kind before its capture; they are steps of the training like all others
DECAY = 1 - 1 / SMOOTHING_STEPS

_CAPTURING = threading.Lock()  # other threads train other bricks


class GraphStep:
    """Runs training steps of one network: gradients to zero, loss, backward, Adam; and the published grid placement.

    There are up to four kinds of steps: with and without the direct gradient of the transforms, with and without the
    placement by the density loss. On a CUDA device the first three steps of a kind run as usual, on a side stream;
    then it is captured. Batches are copied into tensors that stay, learning rates too. Elsewhere every step runs as
    usual, the same code.

    Use::

        step = GraphStep(network, kernel, config)
        schedule = CosineSchedule(step, config)  # sets the rates in step.groups
        for iteration in range(config.iterations):
            squared_error = step.run(sampler.draw(), direct=...)  # (n,), overwritten by the next step
            sampler.report(iteration, batch, squared_error)
            schedule.step(...)
            if row_is_due: loss = step.loss()  # waits for the device

    Nothing may change the network's parameters in another way than in place once this object exists.

    Args:
        network: On its device.
        kernel: Anything with the contract of `kernels.triton.TritonKernel` that does not wait for the device.
        config: Resolved. Transforms learn directly when `transform_gradient`, by the density loss when the placement
            is "published".

    Attributes:
        groups: Of features, decoder and, with `transform_gradient`, transforms; a schedule changes their `rate`.
        density_group: Of the placement, likewise.
        squared_error: (n,) of the last step.
    """

    def __init__(self, network, kernel, config: TrainConfig):
        self._network, self._kernel = network, kernel
        self._device = network.features.device
        self._on_cuda = self._device.type == "cuda"
        self._rates = torch.zeros(4, device=self._device)
        decoder = [p for n, p in network.named_parameters() if n not in ("features", "transforms")]
        self.groups = [ParameterGroup(p, config.learning_rate) for p in ([network.features], decoder)]
        self.density_group = ParameterGroup([network.transforms], config.transform_learning_rate)
        if config.transform_gradient:
            self.groups.append(ParameterGroup([network.transforms], config.transform_learning_rate))
        self._optimizer = self._adam(self.groups, config, 0)
        self._density_optimizer = self._adam([self.density_group], config, 3)
        self._set: list[float] = []  # the rates that are on the device
        self._running = torch.zeros(4, dtype=torch.float64, device=self._device)  # loss, weight, density loss, steps
        self._graphs: dict[tuple[bool, bool], torch.cuda.CUDAGraph] = {}
        self._warm: dict[tuple[bool, bool], int] = {}
        self._stream = torch.cuda.Stream(self._device) if self._on_cuda else None
        self._batch: tuple[torch.Tensor, ...] = ()
        self.squared_error = torch.zeros(0, device=self._device)

    def run(self, batch, direct: bool = False, placement: bool = False) -> torch.Tensor:
        """One step; returns the squared error of each point, (n,), which the next step overwrites.

        Args:
            batch: Points (n, 3), targets (n, components), weights (n, 1) on the device; n is the same in all steps.
            direct: Whether the loss moves the grids through the interpolation.
            placement: Whether the density loss moves them.

        Raises:
            ConfigError: The batch has another shape than the first one.
        """
        with torch.cuda.device_of(self._rates):
            self._take(batch)
            self._send_rates()
            self._step((direct, placement))
        return self.squared_error

    @property
    def has_loss(self) -> bool:
        """Whether a batch had a value yet. Waits for the device."""
        return bool(self._running[1] > 0)

    def loss(self) -> float:
        """Running mean of the loss, smoothed as `History` does; NaN before the first step. Waits for the device."""
        mean, weight = self._running[:2].tolist()
        return mean / weight if weight else float("nan")

    def density_loss(self) -> float:
        """Mean density loss since the last call; NaN without a placement step since then. Waits for the device."""
        total, steps = self._running[2:].tolist()
        self._running[2:].zero_()
        return total / steps if steps else float("nan")

    def state(self) -> dict:
        """For a checkpoint: rates, sums and moments, on the device; the network's parameters are not in it."""
        return {
            "rates": [group.rate for group in self.groups], "density_rate": self.density_group.rate,
            "running": self._running, "optimizer": _adam_state(self._optimizer),
            "density_optimizer": _adam_state(self._density_optimizer),
        }  # fmt: skip

    def restore(self, state: dict) -> None:
        """Go on from a `state`, in place: graphs that were captured stay valid."""
        for group, rate in zip(self.groups, state["rates"]):
            group.rate = rate
        self.density_group.rate = state["density_rate"]
        self._running.copy_(state["running"])
        _restore_adam(self._optimizer, state["optimizer"])
        _restore_adam(self._density_optimizer, state["density_optimizer"])

    def _step(self, kind: tuple[bool, bool]) -> None:
        """As usual, or as a graph."""
        if not self._on_cuda:
            self._work(*kind)
        elif self._warm.get(kind, 0) < WARM_UP:
            self._warm[kind] = self._warm.get(kind, 0) + 1
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                self._work(*kind)
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
        else:
            if kind not in self._graphs:
                self._graphs[kind] = self._captured(*kind)
            self._graphs[kind].replay()

    def _adam(self, groups: list[ParameterGroup], config: TrainConfig, first_rate: int) -> torch.optim.Adam:
        """Rates are elements of one tensor on a CUDA device; elsewhere numbers, which `_send_rates` sets."""
        tensors = [self._rates[first_rate + i] if self._on_cuda else 0.0 for i in range(len(groups))]
        return torch.optim.Adam(
            [{"params": group.parameters, "lr": rate} for group, rate in zip(groups, tensors)],
            betas=(config.beta_1, config.beta_2), eps=config.epsilon, fused=True, capturable=self._on_cuda,
        )  # fmt: skip

    def _take(self, batch) -> None:
        """Copy a batch into the tensors that a graph reads."""
        given = (batch.points, batch.targets, batch.weights)
        if not self._batch:
            self._batch = tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in given)
            self.squared_error = torch.zeros(len(batch.points), device=self._device)
        shapes, expected = [tuple(t.shape) for t in given], [tuple(t.shape) for t in self._batch]
        if shapes != expected:
            raise ConfigError(f"batch: expected the shapes of the first one, {expected}, found {shapes}")
        for static, tensor in zip(self._batch, given):
            static.copy_(tensor, non_blocking=True)

    def _send_rates(self) -> None:
        rates = [group.rate for group in self.groups]
        rates += [0.0] * (3 - len(rates)) + [self.density_group.rate]
        if rates == self._set:
            return
        self._set = rates
        if self._on_cuda:
            for i, rate in enumerate(rates):
                self._rates[i].fill_(rate)
            return
        for group, rate in zip(self._optimizer.param_groups, rates):
            group["lr"] = rate
        self._density_optimizer.param_groups[0]["lr"] = rates[3]

    def _work(self, direct: bool, placement: bool) -> None:
        """The step itself, from and to tensors that stay."""
        points, targets, weights = self._batch
        self._network.zero_grad(set_to_none=True)
        loss, error = self._kernel.loss(self._network, points, targets, weights, direct)
        loss.backward()
        self._optimizer.step()
        self.squared_error.copy_(error)
        if placement:
            self._network.transforms.grad = None
            density = self._kernel.density_loss(self._network.transforms, points, error)
            density.backward()
            self._density_optimizer.step()
            self._running[2:].add_(torch.stack((density.detach().double(), torch.ones_like(self._running[3]))))
        share = (weights > 0).double().mean()
        usable = share > 0
        mean = self._running[0] * DECAY + loss.detach() / share * (1 - DECAY)
        weight = self._running[1] * DECAY + (1 - DECAY)
        self._running[:2].copy_(torch.where(usable, torch.stack((mean, weight)), self._running[:2]))

    def _captured(self, direct: bool, placement: bool) -> torch.cuda.CUDAGraph:
        """A graph of the step; capturing runs nothing. Gradients are its own: there are none before."""
        self._network.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        # On our own stream: torch's default one is of the device of the first capture in the process. One after the other: torch
        # waits for the device before it begins, which is an error while another thread captures there.
        with _CAPTURING, torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            self._work(direct, placement)
        return graph


def _adam_parameters(optimizer: torch.optim.Adam) -> list[torch.nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _adam_state(optimizer: torch.optim.Adam) -> dict:
    """Moments and steps by the position of the parameter; one that has made no step has none."""
    parameters = enumerate(_adam_parameters(optimizer))
    return {str(i): dict(optimizer.state[p]) for i, p in parameters if optimizer.state.get(p)}


def _restore_adam(optimizer: torch.optim.Adam, state: dict) -> None:
    """In place where there are tensors, which `load_state_dict` would replace, as it would the rates."""
    for i, parameter in enumerate(_adam_parameters(optimizer)):
        saved, present = state.get(str(i), {}), optimizer.state[parameter]
        for name, tensor in present.items():
            tensor.copy_(saved[name]) if saved else tensor.zero_()  # zeros are the start
        for name in saved.keys() - present.keys():
            present[name] = saved[name].to(parameter.device, copy=True)
