"""What is told of the training of several time steps."""

from __future__ import annotations

import os

import numpy as np

from .trained_model import HISTORY_COLUMNS, TrainedModel, kept_bounds, quality, save


class SeriesResult:
    """The results of time steps, as they come.

    Args:
        times: Of the steps that are trained.
    """

    def __init__(self, times: tuple):
        self._times, self._results, self._bytes = times, [], 0

    def add(self, result, job) -> None:
        """The result of the next time step."""
        self._results.append(result)
        self._bytes = (job.step + 1) * job.byte_count

    def describe(self, target: str) -> TrainedModel:
        """The model with all steps, saved; see `trained_model.describe`."""
        last, trained = self._results[-1], [r for r in self._results if len(r.history["iteration"])]
        data = last.to_bytes()
        history = self._history() if trained else {name: () for name in HISTORY_COLUMNS}
        model = TrainedModel(last.key, data, target, history=history)
        steps = f"{len(self._results)} time step{'s' if len(self._results) > 1 else ''}"
        if trained:
            seconds = sum(r.seconds for r in trained)
            model.status = (
                f"trained {len(trained)} of {steps} ({trained[-1].stop_reason}): {self._range(trained)} in {seconds:.1f} s,"
                f" {len(data)} bytes, ratio {self._bytes / len(data):.1f}{kept_bounds(last.shares_of_all, len(last.array_psnr))}"
            )
        else:
            model.status = f"loaded from {target}, no training needed ({steps})"
        if target and os.path.exists(target) and last.stop_reason == "taken from the file":
            return model  # the file may have more steps than were asked for
        save(model, target)
        return model

    def _range(self, trained: list) -> str:
        """The worst and the best PSNR of the steps, of each array."""
        parts = []
        for name in trained[0].array_psnr:
            found = [r.array_psnr[name] for r in trained]
            label = f"{name} " if len(trained[0].array_psnr) > 1 else ""
            parts.append(f"{label}{min(found):.2f} to {max(found):.2f} dB")
        return ", ".join(parts) if len(trained) > 1 else quality(trained[0])

    def _history(self) -> dict:
        """The tables of all steps, one after the other, with a column `time`."""
        tables = [(t, r.history) for t, r in zip(self._times, self._results) if len(r.history["iteration"])]
        columns = {name: np.concatenate([table[name] for _, table in tables]) for name in tables[0][1]}
        return {**columns, "time": np.concatenate([np.full(len(t["iteration"]), float(time)) for time, t in tables])}
