"""Training one network on one brick, in one flat loop that can be held after any step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from time import perf_counter

import torch

from ..errors import ConfigError, ModelFileError, one_line
from ..network.model import Network, evaluate
from ..training.array_errors import ArrayErrors
from ..training.checkpoint import Checkpoint, check_alike
from ..training.device_sampler import DeviceSampler
from ..training.history import History, TrainingState, psnr_of
from ..training.sampler import Sampler
from ..training.schedule import make_schedule
from ..training.time_start import FeaturePull
from ..training.train_config import TrainConfig
from ..training.training_step import make_step
from .failing import BackOff, check_alive, is_finite

ROWS = 100  # of the history, about; more when that would leave too many steps between two
MOST_STEPS_A_ROW = 200
PROGRESS_SECONDS = 0.2
CHECK_POINTS = 1 << 16  # values on which a PSNR is measured

OnProgress = Callable[[TrainingState], bool | None]

logger = logging.getLogger(__name__)


class BrickTraining:
    """What changes from step to step in the training of one network.

    Attributes:
        done: Steps.
        checkpoint: Where its state can be kept; None: nowhere.
        back_offs: How often it was taken back and its rates were halved, see `failing.BackOff`.
    """

    def __init__(
        self, network: Network, sampler: Sampler | DeviceSampler, config: TrainConfig, history: History,
        checkpoint: Checkpoint | None = None, values: int = 0,
    ):  # fmt: skip
        self.network, self.sampler, self.history, self.checkpoint, self.done = network, sampler, history, checkpoint, 0
        self.back_offs = 0
        self.step = make_step(network, config, values)
        self.schedule = make_schedule(self.step, config)
        self._kind = [type(sampler).__name__, type(self.step).__name__, network.features.device.type]

    def begin(self) -> int:
        """The first iteration: that of the checkpoint, where the training then is, or 0.

        Raises:
            ModelFileError: The checkpoint is whole, and yet no state of a training.
        """
        checkpoint = self.checkpoint
        state = None if checkpoint is None else checkpoint.load()
        if state is None:
            return 0
        try:
            self._check(state)
            self.restore(state)
        except ConfigError as error:
            logger.warning("checkpoint %s cannot be used, the training starts anew: %s", checkpoint.path, error)
            return 0
        except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"{checkpoint.path}: expected a state of this training, found another one: {one_line(error)}; remove it to begin anew"
            ) from error
        logger.info("goes on at iteration %d, from the checkpoint %s", state["iteration"], checkpoint.path)
        return state["iteration"]

    def report(self) -> TrainingState:
        """Where it stands."""
        self.history.loss = self.step.loss()
        return self.history.state(self.done, self.step.groups[0].rate)

    def keep(self) -> None:
        """Write the checkpoint, if there is a place for it; numbers that are none are never written."""
        if self.checkpoint is not None and is_finite(self.network):
            self.checkpoint.save(self.state())

    def slow_down(self, times: int) -> None:
        """Halve all rates, those to come too, so many times."""
        self.back_offs += times
        for group in self.step.groups:
            group.rate *= 0.5**times
        self.schedule.slow_down(0.5**self.back_offs)

    def state(self) -> dict:
        """All of it, for a checkpoint: live tensors, to be packed at once."""
        return {
            "iteration": self.done, "kind": self._kind, "network": dict(self.network.named_parameters()),
            "sampler": self.sampler.state(), "step": self.step.state(), "schedule": self.schedule.state(),
            "history": self.history.checkpoint(), "back_offs": self.back_offs,
        }  # fmt: skip

    def _check(self, state: dict) -> None:
        """Before the first step: ConfigError unless a state is one of such a training."""
        if state.get("kind") != self._kind:
            raise ConfigError(f"state of a training: expected one of {self._kind}, found {state.get('kind')}")
        like = {**self.state(), "sampler": {}}  # its arrays may have another cut
        like.pop("back_offs", None)  # older ones have none
        check_alike(state, like, "state of a training")

    def restore(self, state: dict) -> None:
        """Go on from a `state` of this training. ConfigError: the device has no room for its data; nothing is changed."""
        self.sampler.restore(state["sampler"])  # the only one that may refuse
        self.step.restore(state["step"])
        self.schedule.restore(state["schedule"])
        self.back_offs = state.get("back_offs", 0)
        self.schedule.slow_down(0.5**self.back_offs)
        self.history.restore(state["history"])
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(state["network"][name])


def train_brick(*arguments, **settings) -> tuple[str, History]:
    """Train one network in place until one of the limits is reached; see `brick_steps`."""
    return run_to_end(brick_steps(*arguments, **settings))


def run_to_end(steps: Generator):
    """What a generator returns, whatever it yields."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value


def brick_steps(
    network: Network,
    sampler: Sampler | DeviceSampler,
    config: TrainConfig,
    on_progress: OnProgress,
    constant: bool = False,
    checkpoint: Checkpoint | None = None,
    must_live: bool = False,
    errors: ArrayErrors | None = None,
    pull: FeaturePull | None = None,
    values: int = 0,
) -> Generator[BrickTraining, None, tuple[str, History]]:
    """Train one network in place until one of the limits is reached; yields after each step but the last.

    The time between two steps that others take does not count.

    Args:
        network: On its device.
        sampler: Draws the batches.
        config: Resolved.
        on_progress: See `train_volume`.
        constant: Nothing to learn: the output layer is set to zero.
        checkpoint: Where the training goes on, if it was saved there, and saves itself; it stays when all is done.
        must_live: Whether to raise DeadNetwork as soon as the network is seen to be dead.
        errors: Measures the arrays one by one for the history; None: it has no columns for them.
        pull: Moves the features after each step so that they take fewer bits; None: nothing does.
        values: Of the data that the network stands for; only a training for bytes asks.

    Returns:
        (why it stopped, the history).

    Raises:
        DeadNetwork: The network cannot learn any more; with another seed or a lower rate it may.
        ApmgsrnError: It diverges whatever the learning rate is.
    """
    history = History(config.iterations, config.time_budget, errors.names if errors is not None else ())
    wanted = config.stop_psnr and config.stop_psnr - psnr_of(1 + config.rounding)  # rounding takes the rest off again
    if constant:
        _silence(network)
        history.add_row(0, 0.0, 0.0, _of_arrays(errors, network))
        return "constant data", history
    training = BrickTraining(network, sampler, config, history, checkpoint, values)
    step, schedule = training.step, training.schedule
    row_every = min(max(1, config.iterations // ROWS), MOST_STEPS_A_ROW)
    reported = 0.0
    reason, iteration = "iterations", training.begin()
    back_off = BackOff(training)
    while iteration < config.iterations:
        rate = step.groups[0].rate
        batch = sampler.draw()
        progress = history.progress(iteration)
        direct = bool(config.transform_gradient) and config.transform_start <= progress < config.transform_stop
        squared_error = step.run(batch, direct, progress)
        if pull is not None:
            pull.step(rate)
        sampler.report(iteration, batch, squared_error)
        schedule.step(history.progress(iteration + 1), step.last_loss, step.settled)

        done = training.done = iteration + 1
        if schedule.finished:
            reason = "converged"
        elif config.time_budget and history.seconds >= config.time_budget:
            reason = "time budget"
        at_row = done % row_every == 0 or done == config.iterations
        if step.lost or at_row or reason != "iterations":
            history.loss = step.loss()
            if back_off.has_failed(history.loss):
                reason, iteration = "iterations", back_off.step_back(history.loss)
                continue
        if at_row:
            history.add_row(done, history.loss, rate, _of_arrays(errors, network))
            back_off.is_good()
            if must_live:
                check_alive(network, batch, done)
            if wanted and _reached(network, sampler, history.loss, wanted):
                reason = "psnr reached"
        if history.seconds - reported > PROGRESS_SECONDS or done == config.iterations:
            history.loss = step.loss()
            reported = history.seconds
            stop = on_progress(history.state(done, rate)) is False
            if stop and reason == "iterations" and done < config.iterations:
                reason = "stopped by user"
        if reason != "iterations":
            break
        if checkpoint is not None and done < config.iterations and checkpoint.due(history.seconds):
            training.keep()
        iteration = done
        held = perf_counter()
        yield training
        history.leave_out(perf_counter() - held)
    history.loss = step.loss()
    if back_off.has_failed(history.loss):  # when it was stopped
        done = back_off.step_back(history.loss)
        history.loss = step.loss()
    history.add_row(done, history.loss, rate, _of_arrays(errors, network))
    return reason, history


def _of_arrays(errors: ArrayErrors | None, network: Network) -> tuple[float, ...]:
    return () if errors is None else errors.psnr(network)


def _silence(network: Network) -> None:
    """Make the network's output zero everywhere."""
    with torch.no_grad():
        for layer in (network.layers[-1], network.skip):
            for parameter in layer.parameters() if layer is not None else ():
                parameter.zero_()


def mean_squared_error(networks, sampler: Sampler | DeviceSampler) -> float:
    """Measured at CHECK_POINTS random values, relative to the range."""
    batch = sampler.draw_uniform(CHECK_POINTS)
    device = networks[0].features.device
    predicted = evaluate(networks, batch.points.to(device)).cpu()
    error = ((predicted - batch.targets.cpu()) ** 2).mean(dim=1, keepdim=True) * batch.weights.cpu()
    return float(error.sum() / batch.weights.cpu().sum().clamp(min=1))


def _reached(network: Network, sampler: Sampler | DeviceSampler, loss: float, wanted: float) -> bool:
    """Whether a PSNR is reached: measured once the smoothed loss says that it is near."""
    if psnr_of(loss) < wanted - 0.5:
        return False
    return psnr_of(mean_squared_error([network], sampler)) >= wanted
