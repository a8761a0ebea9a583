"""Opening the networks that descriptions name. The one file that runs what comes with a file, after `check_trust`.

A TorchScript or torch.export file holds a program, and its reader unpickles parts of it; a Python class runs its module. An
ONNX file holds a graph of known operators, without Python: a program all the same, for a large runtime in C++, with loops and
with names of other files that hold its numbers. safetensors files hold numbers.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..device import resolve_device
from ..errors import ApmgsrnError, DeviceError, ModelFileError, one_line
from .network_description import NetworkDescription
from .network_source import NetworkSource, registered_network

MOST_LAYERS = 1024  # of one of our own classes


def load_network(description: NetworkDescription, device: torch.device, trust: bool) -> Callable:
    """The network of a description, on a device and, unless it is registered, in evaluation mode.

    Raises:
        TrustError: Opening it runs code, and it is not trusted.
        ModelFileError: A file is missing or cannot be opened, or a package that is needed is missing.
        DataError: No network of that name is registered.
    """
    source = description.source
    source.check_trust(trust, description.name)
    if source.kind == "registered":
        return registered_network(source.name)[0]
    for path in filter(None, (source.file, source.code)):
        if not path.is_file():
            raise ModelFileError(f"{description.name}: expected the file {str(path)!r} beside it, found none")
    opener = {"torchscript": _torchscript, "export": _export, "onnx": _onnx, "class": _class}[source.kind]
    try:
        return opener(source, device)
    except ApmgsrnError:
        raise
    except Exception as error:  # of any kind: it is foreign
        raise ModelFileError(
            f"{description.name}: expected a network of kind {source.kind!r} in {source.file.name!r}, found that it cannot"
            f" be opened: {one_line(error)}"
        ) from error


def device_of_network(network: Callable, asked, chosen: torch.device) -> torch.device:
    """Where a registered network is evaluated: where its parameters are, otherwise where it was asked for.

    Raises:
        DeviceError: A device was asked for that is not that of the parameters.
    """
    tensor = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    if tensor is None:
        return chosen
    if asked != "auto" and resolve_device(asked) != tensor.device:
        raise DeviceError(f"device: expected {tensor.device}, where the registered network is, or 'auto', found {asked!r}")
    return tensor.device


def _torchscript(source: NetworkSource, device: torch.device) -> Callable:
    with warnings.catch_warnings():  # torch advises against writing such files; those that are there must be read
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)  # of torch 2.14 with Python 3.14
        network = torch.jit.load(str(source.file), map_location=device).eval()
    return PlainScript(network) if device.type == "cpu" else network


class PlainScript:
    """A TorchScript network run as it is written: Debian 13's torch 2.6 optimises some by LLVM, for ever."""

    def __init__(self, network: nn.Module):
        self._network = network

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """(n, 3) -> (n, c)."""
        with torch.jit.optimized_execution(False):
            return self._network(points)


def _export(source: NetworkSource, device: torch.device) -> nn.Module:
    from torch.export.passes import move_to_device_pass

    program = torch.export.load(str(source.file))
    return move_to_device_pass(program, str(device)).module()  # evaluation mode is part of the program


def _class(source: NetworkSource, device: torch.device) -> nn.Module:
    from safetensors.torch import load_file

    module, _, name = source.class_path.rpartition(".")
    if source.code is not None:
        owner = _module_of_file(source.code)
    else:
        owner = importlib.import_module(module)
    if not source.runs_code:
        _check_size(source, getattr(owner, name))
    network = getattr(owner, name)(**source.arguments)
    if not isinstance(network, nn.Module):
        raise ModelFileError(f"class {source.class_path!r}: expected a torch module, found {type(network).__name__}")
    network.load_state_dict(load_file(str(source.file)))
    return network.to(device).eval()


def _check_size(source: NetworkSource, kind: type) -> None:
    """Raise ModelFileError when one of our own classes would need more memory than its file has numbers for."""
    for argument in ("hidden_layers", "levels"):
        found = source.arguments.get(argument, 1)
        if not isinstance(found, int) or found > MOST_LAYERS:
            raise ModelFileError(f"{argument}: expected at most {MOST_LAYERS}, found {found!r}")
    with torch.device("meta"):  # without memory
        count = sum(parameter.numel() for parameter in kind(**source.arguments).parameters())
    if count > source.byte_count:
        raise ModelFileError(
            f"{source.file}: expected the {count} numbers of the class, found {source.byte_count} bytes: it is truncated, or of"
            " another network"
        )


def _module_of_file(path: Path):
    """The module that a Python file defines, run anew at each call and not left where imports find it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _onnx(source: NetworkSource, device: torch.device) -> Callable:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelFileError(
            f"{source.file}: expected the package onnxruntime, which opens ONNX files (pip install onnxruntime into the"
            f" .venv of the plugin), found: {error}"
        ) from error
    return OnnxNetwork(onnxruntime, source.file, device)


class OnnxNetwork:
    """An ONNX graph of one input and one output as a function of torch tensors; it has no autograd.

    Args:
        runtime: The module onnxruntime.
        file: Of the graph.
        device: The CUDA provider is used for a GPU. Raises DeviceError when onnxruntime lacks it.
    """

    def __init__(self, runtime, file: Path, device: torch.device):
        providers = ["CPUExecutionProvider"]
        if device.type == "cuda":
            if "CUDAExecutionProvider" not in runtime.get_available_providers():
                raise DeviceError(f"{file.name}: expected an onnxruntime with CUDA for device {device}, found one without")
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = runtime.InferenceSession(str(file), options, providers=providers)
        found = len(self._session.get_inputs()), len(self._session.get_outputs())
        if found != (1, 1):
            raise ModelFileError(f"{file.name}: expected a graph of one input and one output, found {found[0]} and {found[1]}")
        self._input = self._session.get_inputs()[0].name

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """(n, 3) -> (n, c)."""
        values = self._session.run(None, {self._input: points.detach().cpu().numpy().astype(np.float32)})[0]
        return torch.from_numpy(values).to(points.device)
