"""What goes wrong while a network learns: it dies, its numbers grow beyond all bounds, its device fails."""

from __future__ import annotations

import logging

import numpy as np
import torch

from ..errors import ApmgsrnError, DeviceError, MemoryShortage, one_line
from ..kernels.memory import is_of_accelerator, is_short
from ..network.model import Network, evaluate

logger = logging.getLogger(__name__)

ALIVE_POINTS = 256  # on which a network is seen to be dead
ALIVE_FROM = 100  # steps; before, a network may be dead and come to life again by the momentum of its optimizer
MOST_BACK_OFFS = 8  # from one place on
KEPT_EVERY = 50  # steps at least: a copy of the state costs about a tenth of a step
MOST_LOSS = 1e3  # mean squared error relative to the range; a constant is below 1


class DeadNetwork(ApmgsrnError):
    """All neurons of a layer have stopped: the output is one value everywhere and no gradient comes through."""


def failed_device(error: Exception, brick: int, device: torch.device, may_move: bool) -> tuple[str]:
    """What is noted when a brick is trained on the CPU instead of a device that has failed.

    A step is never made with less than its batch: that would be another training.

    Raises:
        MemoryShortage, DeviceError: The device has failed, but the CPU may not take its place. Otherwise the error itself.
    """
    if not (is_short(error) or is_of_accelerator(error)):
        raise error
    if not (is_of_accelerator(error) and may_move):
        expected = f"brick {brick}: expected a training on {device}"
        if is_short(error):
            raise MemoryShortage(f"{expected}, found {one_line(error)}; more bricks or a smaller batch need less memory") from error
        raise DeviceError(f"{expected}, found {one_line(error)}; with auto the CPU would go on") from error
    line = f"trained on the CPU, since {device} has failed: {one_line(error)}"
    logger.warning("brick %d is %s", brick, line)
    return (line,)


def check_alive(network: Network, batch, iteration: int) -> None:
    """DeadNetwork when the output is the same at points whose values differ; never before ALIVE_FROM."""
    targets = batch.targets[:ALIVE_POINTS][batch.weights[:ALIVE_POINTS, 0] > 0]
    if iteration < ALIVE_FROM or not len(targets) or bool((targets == targets[0]).all()):
        return
    outputs = evaluate([network], batch.points[:ALIVE_POINTS].to(network.features.device))
    if bool((outputs == outputs[0]).all()):
        raise DeadNetwork(f"training failed: at iteration {iteration} the network gives one value everywhere")


def is_finite(network: Network) -> bool:
    """Whether all numbers of a network are numbers."""
    sums = torch.stack([parameter.detach().sum() for parameter in network.parameters() if parameter.numel()])
    return bool(torch.isfinite(sums).all())


class BackOff:
    """Takes a training back to where its numbers were good, at half the learning rate, when they are none any more.

    Looked at are the loss of each step and, at the rows of the history, the network. What is good there is kept now and then, and
    after a restart what is in the checkpoint: the same training backs off in the same way.

    Args:
        training: The `BrickTraining`, before its next step.
    """

    def __init__(self, training):
        self._training = training
        self._keep()

    def is_good(self) -> None:
        """Where the training stands, at a row of the history, may be gone back to."""
        if self._training.done - self._good["iteration"] >= KEPT_EVERY:
            self._keep()

    def _keep(self) -> None:
        self._good, self._rate, self._in_a_row = _copied(self._training.state()), self._training.step.groups[0].rate, 0

    def has_failed(self, loss: float) -> bool:
        """Whether the training cannot go on from here."""
        bad = not loss <= MOST_LOSS and self._training.step.has_loss
        return bad or not is_finite(self._training.network)

    def step_back(self, loss: float) -> int:
        """Go back, and say so in the log and in the history; returns the iteration to go on from.

        Raises:
            ApmgsrnError: It has failed MOST_BACK_OFFS times from there already.
        """
        training, good = self._training, self._good
        start, rate = good["iteration"], self._rate * 0.5**self._in_a_row
        found = f"a loss of {loss:g}" if is_finite(training.network) else "numbers in the network that are not finite"
        if self._in_a_row == MOST_BACK_OFFS:
            raise ApmgsrnError(
                f"training diverged at iteration {training.done}: found {found}, also with a learning rate of {rate:.3g}, "
                f"{MOST_BACK_OFFS} times halved from iteration {start} on; expected finite numbers, which a lower learning rate may give"
            )
        self._in_a_row += 1
        line = f"diverged at iteration {training.done} ({found}): back to {start}, with a learning rate of {rate / 2:.3g}"
        logger.warning("training %s", line)
        notes, seconds = [*training.history.notes, line], training.history.seconds  # time goes on
        training.restore({**_copied(good), "history": {**good["history"], "seconds": seconds, "notes": notes}})
        training.slow_down(self._in_a_row)
        training.done = start
        return start


def _copied(state):
    """A state that does not change with the training."""
    if isinstance(state, dict):
        return {key: _copied(child) for key, child in state.items()}
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    return state.copy() if isinstance(state, np.ndarray) else state

