"""Training for bytes: features are rounded while they are learned, and the bits that they will take are a part of the loss.

Loss: mean squared error + price * bits / values. The price is steered so that the coded network has the bytes that are wanted, or
fewer where those give a PSNR that is wanted; how many bits the coder really takes is measured now and then. Where bytes are left
that cost nothing, as with very smooth data, the rounding step is halved. At first noise stands for the rounding; then features are
rounded, and a slope of a rounded feature is taken to be that of the feature.

Source: Balle, Laparra and Simoncelli 2017 (ICLR, arXiv:1611.01704); straight-through slopes: Bengio, Leonard and Courville 2013
(arXiv:1308.3432). The steering is our own.
"""

from __future__ import annotations

import math

import torch

from ..file.coded_network import coded_numbers
from ..kernels import native_number_coding
from ..network.feature_bits import expected_bits, scales_around, seed_of
from .history import psnr_of
from .train_config import TrainConfig

FIRST_PRICE = 2.5e-5  # low: fine features that die early do not come back
QUIET = 0.05  # share of the training in which the price stays
LOOKS, MOST_STEPS = 150, 40  # in a training, and between two: scales are found anew and the price is steered
PULL, DRIFT = 1.5, 80.0  # of the price's logarithm: how it follows the excess of bytes, and drifts with it in a training
LATE = 0.1  # the pull grows as 1 / (what is left of the training + LATE), for slow features follow slowly
AHEAD, SMOOTH, MOST_SLOPE = 0.08, 0.2, 10.0  # of the training: the excess is foreseen so far, by its smoothed slope
ALLOWED = 0.12  # of the bytes, that they may be more at the start: they go on falling when the price does not rise any more
MOST_EXCESS, MOST_PULL, MOST_DRIFT = 0.7, 1.0, 9.0  # of the bytes' and of the price's logarithm
MEASURED_AT = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.94, 0.97)  # of the training: the coder's own bytes
SELDOM_MEASURED_AT = (0.15, 0.4, 0.7, 0.9)  # where no native code does it: it takes seconds then
POINTS = 1 << 13  # on which the decoder's rounding is found for that
FREE = 2.0  # fall of the price's logarithm at which rounding becomes finer
AGAIN, LEAST_STEPS = 0.04, 200  # share of the training, and steps from its start, for that
REFINED_UNTIL, REFINED_BELOW = 0.72, 1.05  # shares of the training, and of the bytes, which a finer rounding raises at first
PSNR_REFINED_UNTIL, PSNR_REFINED_BELOW = 0.6, 0.85  # of a training for a PSNR, or it is exceeded
GAIN, GAINED_AT, GAIN_POWER = 4.5, 0.75, 1.5  # dB that a training gains from its start until that share of it is done, and how
DECIBELS = 6.0  # that e times as many bytes gain, about
NUMBER_BITS, CODED_PART = 8.0, 0.8  # of a number that is no feature, and of the expected bits of features, until it is measured


class RateTerm:
    """The bits of a network's features as a term of its loss.

    Args:
        network: On its device; features may be in global lattices and placed grids.
        config: Resolved, with `rate_bytes`.
        kernel: The network's.
        values: Of the data that the network stands for.

    Attributes:
        price: Mean squared error that one bit for each value may save.
        bits: Of the coded network, about.
        step: Rounding step of the features; that of the config, or finer where the bytes allow it.
    """

    def __init__(self, network, config: TrainConfig, kernel, values: int):
        self._network, self._config, self._kernel, self._values = network, config, kernel, max(values, 1)
        self._features = network.features.detach()
        self._kept, self._scales = torch.empty_like(self._features), torch.ones_like(self._features)
        self._points = torch.rand(POINTS, 3, generator=torch.Generator().manual_seed(config.seed)) * 2 - 1
        self._other_bits = NUMBER_BITS * (network.config.parameter_count() - network.table.feature_count)
        self.price, self.bits, self._coded_part, self.step = FIRST_PRICE, math.nan, CODED_PART, config.rate_step
        network.feature_step = self.step
        self._steps = self._measured = 0
        self._next_look, self._next_progress = 0, 0.0
        self._drifted = self._slope = self._refined = 0.0
        self._before: tuple[float, float] | None = None  # excess at a progress, of the last look
        self._noisy = True

    def begin(self, progress: float, loss: float) -> None:
        """Put disturbed or rounded features into the network for a step.

        Args:
            progress: Share of the training that is done.
            loss: Mean squared error so far; NaN: not known.
        """
        config = self._config
        if self._steps >= self._next_look or progress >= self._next_progress:
            self._look(progress, loss)
            self._next_look, self._next_progress = self._steps + MOST_STEPS, progress + 1 / LOOKS
        self._noisy = progress < config.rate_noise
        seed = seed_of(config.seed, self._steps) if self._noisy else None
        self._kept.copy_(self._features)
        self._features.copy_(self._kernel.disturbed(self._kept, self.step, seed))
        self._steps += 1

    def _look(self, progress: float, loss: float) -> None:
        """Find the scales and the bits, and steer the price."""
        self._scales = scales_around(self._network.table, self._features, self.step)
        self.bits = self._other_bits + self._coded_part * self._expected_bits()
        due = sum(progress >= at for at in (MEASURED_AT if native_number_coding() else SELDOM_MEASURED_AT))
        if self._measured < due and math.isfinite(loss):
            self._measured = due
            self._measure(loss)
        passed = progress - (self._before[1] if self._before is not None else progress)
        excess = self._foreseen_excess(progress, loss)
        if progress <= QUIET:
            return
        self._refine(progress)
        self._drifted = min(max(self._drifted + DRIFT * passed * excess, -MOST_DRIFT), MOST_DRIFT)
        pull = PULL / (1 - progress + LATE)
        self.price = FIRST_PRICE * math.exp(self._drifted + min(max(pull * excess, -MOST_PULL), MOST_PULL))

    def _refine(self, progress: float) -> None:
        """Halve the rounding step where bits cost next to nothing, whatever the price falls to: what rounding adds is then all of
        the error. (Where a step is right, the price rises: by e^2 to e^4 on turbulent volumes.)"""
        config = self._config
        until, below = (PSNR_REFINED_UNTIL, PSNR_REFINED_BELOW) if config.rate_psnr else (REFINED_UNTIL, REFINED_BELOW)
        free = self._drifted < -FREE and self.bits < 8.0 * below * config.rate_bytes
        if free and self._steps >= LEAST_STEPS and self._refined + AGAIN <= progress <= until:
            self.step, self._refined = 0.5 * self.step, progress
            self._network.feature_step = self.step

    def _foreseen_excess(self, progress: float, loss: float) -> float:
        """Of the bits a little later, as the logarithm of their ratio to what is wanted: beyond the bytes, or beyond what the
        PSNR needs."""
        wanted = 8.0 * self._config.rate_bytes * (1 + ALLOWED * (1 - progress))
        excess = math.log(max(self.bits, 1.0) / wanted)
        if self._config.rate_psnr and math.isfinite(loss):
            to_come = GAIN * max(1 - progress / GAINED_AT, 0.0) ** GAIN_POWER
            spare = psnr_of(loss * (1 + self._config.rounding)) + to_come - self._config.rate_psnr
            excess = max(excess, spare / DECIBELS)
        if self._before is not None and progress > self._before[1]:
            slope = (excess - self._before[0]) / (progress - self._before[1])
            self._slope += SMOOTH * (min(max(slope, -MOST_SLOPE), MOST_SLOPE) - self._slope)
        self._before = excess, progress
        foreseen = excess + min(AHEAD, 1 - progress) * self._slope
        return min(max(foreseen, -MOST_EXCESS), MOST_EXCESS)

    def end(self) -> None:
        """Take the features back, and add the bits' slopes to the gradient that the step has left."""
        step, weight = self.step, self.price / self._values
        at = self._features if self._noisy else self._kept
        self._kernel.add_bit_slopes(self._network.features.grad, at, self._scales, step, weight)
        self._features.copy_(self._kept)

    def _expected_bits(self) -> float:
        return expected_bits(self._features, self._scales, self.step)

    def _measure(self, loss: float) -> None:
        """How many bits the coder takes, relative to what is expected."""
        network, config = self._network, self._config
        errors = (loss,) * network.config.output_components
        self.bits = 8.0 * len(coded_numbers(network, self._points, errors, config.rounding, self.step))
        self._coded_part = max(self.bits - self._other_bits, 1.0) / max(self._expected_bits(), 1.0)

    def state(self) -> dict:
        """For a checkpoint."""
        return {
            "price": self.price, "bits": self.bits, "coded_part": self._coded_part, "steps": self._steps, "step": self.step,
            "refined": self._refined,
            "next_look": self._next_look, "next_progress": self._next_progress,
            "measured": self._measured, "drifted": self._drifted, "slope": self._slope, "before": self._before,
            "scales": self._scales,
        }  # fmt: skip

    def restore(self, state: dict) -> None:
        """Go on from a `state`."""
        self.price, self.bits, self._coded_part = state["price"], state["bits"], state["coded_part"]
        self._steps, self._measured, self._drifted = state["steps"], state["measured"], state["drifted"]
        self.step, self._refined = state["step"], state["refined"]
        self._network.feature_step = self.step
        self._next_look, self._next_progress = state["next_look"], state["next_progress"]
        self._slope, self._before = state["slope"], None if state["before"] is None else tuple(state["before"])
        self._scales = state["scales"].to(self._features)
