"""Drives a checkout of skywolf829/APMGSRN, the published code, step by step.

Nothing of that code is here: model, data sampling, optimisers, schedules and the training step are its own functions,
found in PATH/Code at run time. Its `train()` is called and left at the first step, with all that it has set up; from
there each step is a call of its `train_step_APMGSRN`. What it imports only to read and write files (netCDF4, h5py, vtk,
tensorboard) is replaced by empty modules while it is loaded, and its decoder is its own PyTorch one, not tinycudann.
`check_reference.py` compares our network with it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import types
import warnings
from pathlib import Path
from unittest.mock import patch

from measurement import Spans, now  # isort: skip (sets the path)

import numpy as np
import torch
from apmgsrn_core import psnr
from apmgsrn_core.network.model import Network
from torch import Tensor

FILE_MODULES = ("netCDF4", "h5py", "vtk", "vtkmodules", "vtkmodules.util", "torch.utils.tensorboard")


class _FirstStep(Exception):
    """Raised in place of the first training step; carries its arguments."""


class _Empty(types.ModuleType):
    """A module in which every name is an empty class."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class Reference:
    """The published model and its training, at a step that one chooses.

    Args:
        path: The checkout.
        volume: [z, y, x] in its own unit, which is the unit of its loss and its values.
        device: Of the model and of the data.
        grids, features, resolution: Of the model; the defaults are its own.
        iterations, batch: Of the training; its own.
        seed: Of its random numbers; its own.
    """

    def __init__(
        self, path: Path, volume: np.ndarray, device: str = "cpu", grids: int = 64, features: int = 2,
        resolution: int = 8, iterations: int = 10_000, batch: int = 100_000, seed: int = 42,
    ):  # fmt: skip
        self._code = _load(Path(path) / "Code")
        self.device = device
        options = self._code.Options.get_default()
        options.update(
            model="APMGSRN", n_grids=grids, n_features=features, feature_grid_shape=",".join([str(resolution)] * 3),
            device=device, data_device=device, iterations=iterations, points_per_iteration=batch,
            use_tcnn_if_available=False, save_name="apmgsrn_bench",
        )  # fmt: skip
        torch.manual_seed(seed)
        data = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None, None]
        with patch.object(sys.modules["Datasets.datasets"], "nc_to_tensor", lambda *_: (data, volume.shape)), _quiet():
            self._dataset = self._code.Dataset(options)
        options["data_min"], options["data_max"] = self._dataset.min().item(), self._dataset.max().item()
        self.minimum, self.span = options["data_min"], options["data_max"] - options["data_min"]
        self.model = self._code.create_model(options).to(device)
        self._set_up(options)

    def _set_up(self, options: dict) -> None:
        """Let its `train()` make optimisers and schedules."""

        def first_step(*arguments, early_stopping_data):
            raise _FirstStep(arguments, early_stopping_data)

        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau  # newer torch has no `verbose` any more
        silent = lambda *a, verbose=None, **k: plateau(*a, **k)  # noqa: E731
        try:
            with (
                patch.object(self._code, "train_step_APMGSRN", first_step),
                patch.object(torch.optim.lr_scheduler, "ReduceLROnPlateau", silent),
                _quiet(),
            ):
                self._code.train(self.model, self._dataset, options)
        except _FirstStep as caught:
            arguments, self._state = caught.args
        self._options, _, _, _, _, self.optimizers, self.schedules, self._writer = arguments

    # -- training --------------------------------------------------------------------------------

    def step(self, iteration: int) -> Tensor:
        """One training step with the number `iteration` (it moves grids from 501 to 80 % of all); its loss, ()."""
        return self.step_on(iteration, self._dataset[iteration])

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """(n, 3) points, (n, 1) targets in the data's unit, by its sampling."""
        return self._dataset.get_random_points(count)

    def step_on(self, iteration: int, batch: tuple[Tensor, Tensor]) -> Tensor:
        """`step` on a given batch."""
        with _quiet(), _its_precision():
            self._state = self._code.train_step_APMGSRN(
                self._options, iteration, batch, self._dataset, self.model, self.optimizers, self.schedules,
                self._writer, self._state,
            )  # fmt: skip
        return self._state[2][iteration]

    @property
    def finished(self) -> bool:
        """Whether it would do nothing any more: grids and features have converged."""
        return bool(self._state[0] and self._state[1])

    def step_parts(self, iteration: int) -> dict[str, float]:
        """{part: ms} of one step: its functions are timed where the step calls them."""
        spans = Spans(self.device)
        with self._timed_functions(spans):
            start = now(self.device)
            with spans("sampling"):
                batch = self._dataset[iteration]
            self.step_on(iteration, batch)
            total = (now(self.device) - start) * 1e3
        return {**spans.ms, "rest": total - sum(spans.ms.values())}

    @contextlib.contextmanager
    def _timed_functions(self, spans: Spans):
        """The first backward is split where the gradient reaches the features; the second ends the density loss."""
        model, encoder, marks = self.model, self.model.encoder, {}
        read, density = encoder.forward_pre_transformed, model.feature_density_pre_transformed
        backward = Tensor.backward

        def encode(local):
            with spans("encode forward"):
                features = read(local)
            features.register_hook(lambda _: marks.update(decoded=now(self.device)))
            return features

        def begin_density(local):
            marks["density"] = now(self.device)
            return density(local)

        def timed_backward(tensor, *arguments, **keywords):
            start = now(self.device)
            backward(tensor, *arguments, **keywords)
            end = now(self.device)
            if "density" in marks:
                spans.ms["density loss"] += (end - marks["density"]) * 1e3
            else:
                spans.ms["MLP backward"] += (marks["decoded"] - start) * 1e3
                spans.ms["encode backward"] += (end - marks["decoded"]) * 1e3

        changes = [(model, "transform", spans.timed(model.transform, "encode forward"))]
        changes += [(encoder, "forward_pre_transformed", encode), (Tensor, "backward", timed_backward)]
        changes += [(model.decoder, "forward", spans.timed(model.decoder.forward, "MLP forward"))]
        changes += [(model, "feature_density_pre_transformed", begin_density)]
        for owner in (*self.optimizers, *self.schedules):
            for name in {"step", "zero_grad"} & set(dir(owner)):
                changes.append((owner, name, spans.timed(getattr(owner, name), "optimizers")))
        with contextlib.ExitStack() as stack:
            for change in changes:
                stack.enter_context(patch.object(*change))
            yield

    # -- values ----------------------------------------------------------------------------------

    def values(self, points: Tensor, batch: int = 100_000) -> Tensor:
        """(n, 3) normalised points -> (n, 1) in the data's unit, by its own loop over batches."""
        forward = sys.modules["Models.models"].forward_maxpoints
        self.model.eval()
        with torch.no_grad(), _its_precision():
            values = forward(self.model, points, 1, batch, self.device, self.device)
        self.model.train()
        return values

    def lattice(self, shape: tuple[int, int, int]) -> Tensor:
        """(n, 3) its positions of the values of an array [z, y, x]."""
        return self._code.make_coord_grid(list(shape), self.device, flatten=True, align_corners=True)

    def psnr(self, volume: np.ndarray) -> float:
        """PSNR in dB at every value of [z, y, x]."""
        return psnr(volume, self.values(self.lattice(volume.shape)).cpu().numpy().reshape(volume.shape))

    # -- weights ---------------------------------------------------------------------------------

    def _pairs(self, network: Network) -> list[tuple[Tensor, Tensor]]:
        """(its tensor, ours) of everything that is trained; both are laid out alike."""
        its = [layer.linear.weight if hasattr(layer, "linear") else layer.weight for layer in self.model.decoder]
        pairs = [(a, layer.weight) for a, layer in zip(its, network.layers, strict=True)]
        grids = self.model.encoder.feature_grids
        matrices = self.model.encoder.transformation_matrices
        return pairs + [(grids, network.features.view(grids.shape)), (matrices[:, :3], network.transforms)]

    def parameters_into(self, network: Network) -> None:
        """Give our network its weights. The outputs are then ours * range + minimum."""
        with torch.no_grad():
            for its, ours in self._pairs(network):
                ours.copy_(its)

    def parameters_from(self, network: Network) -> None:
        """Take over the weights of our network."""
        with torch.no_grad():
            for its, ours in self._pairs(network):
                its.copy_(ours)


def _load(code: Path):
    """Its `train` module. Its folder is on the path, and the file modules are empty, only meanwhile."""
    if not (code / "train.py").is_file():
        raise FileNotFoundError(f"{code / 'train.py'}: expected a checkout of skywolf829/APMGSRN")
    before = {name: sys.modules.get(name) for name in FILE_MODULES}
    sys.modules.update({name: _Empty(name) for name in FILE_MODULES})
    try:
        with patch.object(sys, "path", [str(code), *sys.path]):
            module = importlib.import_module("train")
            importlib.import_module("Models.APMGSRN")
    finally:
        for name, real in before.items():
            sys.modules.pop(name)
            if real is not None:
                sys.modules[name] = real
    return module


@contextlib.contextmanager
def _quiet():
    """Without its prints and without warnings about its use of older names."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _its_precision():
    """TF32 products, as its `train.py` asks for; ours keep what they have."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
