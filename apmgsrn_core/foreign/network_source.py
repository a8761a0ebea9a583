"""Where a foreign network comes from, and whether opening it runs code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..errors import ConfigError, DataError, TrustError
from ..validation import check

# kind -> fields that it must have, fields that it may have
FIELDS = {
    "torchscript": ({"file"}, set()), "export": ({"file"}, set()), "onnx": ({"file"}, set()),
    "class": ({"class", "file"}, {"arguments", "code"}), "registered": ({"name"}, set()),
}  # fmt: skip
KINDS = tuple(FIELDS)
OWN_CLASSES = tuple(
    f"apmgsrn_core.baselines.{name}" for name in ("siren.Siren", "fvsrn.FVSRN", "hash_grid.HashGrid", "dense_grids.DenseGrids")
)
ANYTHING = "which can do anything that you can"
RUNS_CODE = {
    "torchscript": f"a TorchScript file holds a program, {ANYTHING}",
    "export": f"a torch.export file holds a program, {ANYTHING}",
    "class": f"importing a Python class runs its module, {ANYTHING}",
    "onnx": "an ONNX file holds a program for onnxruntime, which can name other files to read and take all memory and time",
}


@dataclass(frozen=True)
class NetworkSource:
    """What is evaluated; see `network_description.py`.

    Args:
        kind: One of KINDS.
        file: Of the network or its weights; None for "registered".
        class_path: package.module.Class.
        arguments: Of its constructor, by name.
        code: The Python file that defines the class; None: it is imported.
        name: Of a registered network.
    """

    kind: str
    file: Path | None = None
    class_path: str = ""
    arguments: dict = field(default_factory=dict)
    code: Path | None = None
    name: str = ""

    @classmethod
    def of_dict(cls, data: dict, folder: Path) -> "NetworkSource":
        """Of a description's `network`, with files in a folder. Raises ConfigError."""
        check(isinstance(data, dict), "network", "a JSON object", type(data).__name__)
        check(data.get("kind") in KINDS, "network: kind", f"one of {KINDS}", data.get("kind"))
        needed, allowed = FIELDS[data["kind"]]
        wrong = sorted((needed - set(data)) | (set(data) - needed - allowed - {"kind"}))
        if wrong:
            raise ConfigError(
                f"network of kind {data['kind']!r}: expected {', '.join(sorted(needed))}"
                + (f" and perhaps {', '.join(sorted(allowed))}" if allowed else "")
                + f", found {', '.join(sorted(set(data) - {'kind'})) or 'nothing'}"
            )
        path, arguments = data.get("class", ""), data.get("arguments", {})
        if data["kind"] == "class":
            good = isinstance(path, str) and re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", path)
            check(good and ("." in path or "code" in data), "network: class", "package.module.Class", path)
            check(isinstance(arguments, dict), "network: arguments", "a JSON object", arguments)
        file, code = (_beside(folder, key, data[key]) if key in data else None for key in ("file", "code"))
        return cls(data["kind"], file, path, arguments, code, str(data.get("name", "")))

    @property
    def byte_count(self) -> int:
        """Of the file; 0 when there is none."""
        try:
            return self.file.stat().st_size if self.file is not None else 0
        except OSError:  # told when it is opened
            return 0

    @property
    def runs_code(self) -> str:
        """Why opening or evaluating it runs code that comes with it; "" when it does not, as of our own classes."""
        own = self.kind == "class" and self.code is None and self.class_path in OWN_CLASSES
        return "" if own else RUNS_CODE.get(self.kind, "")

    def check_trust(self, trust: bool, name: str) -> None:
        """Raise TrustError when opening it runs code and it is not trusted; messages call it `name`."""
        if self.runs_code and not trust:
            raise TrustError(
                f"{name}: {self.runs_code}. If you trust whoever made it, open it"
                " with trust=True (apmgsrn --trust, in ParaView TrustFile); found it not trusted"
            )


def _beside(folder: Path, key: str, name) -> Path:
    """The path of a file that a description names. Raises ConfigError."""
    relative = PurePosixPath(name if isinstance(name, str) else "")
    good = isinstance(name, str) and name and not relative.is_absolute() and ".." not in relative.parts
    check(good and "\\" not in name, f"network: {key}", "the name of a file in the folder of the description", name)
    return folder / relative


# -- networks that a script registers ----------------------------------------------------------------

REGISTERED = "registered:"  # a path that begins so names a registered network
_registered: dict[str, tuple[Callable, dict, int]] = {}  # name -> network, description, number of the registration
_registrations = 0


def register_network(name: str, network: Callable, description: dict) -> str:
    """Make a callable a volume that can be opened in this process.

    Args:
        name: Of the network; one of the same name is replaced.
        network: (n, 3) torch tensor of points in [-1, 1] -> (n, c), see `network_description.py`; a torch module is
            evaluated where its parameters are, and in the mode (training or evaluation) that it is in.
        description: With `grid`, `arrays` and perhaps `outputs`, `derivatives`, `most_points`, as in a file.

    Returns:
        What `open_volume` and FileName in ParaView take in place of a path: "registered:NAME".

    Raises:
        ConfigError: No name, or not a callable. ModelFileError: the description is wrong.
    """
    global _registrations
    from .network_description import FORMAT, VERSION, description_of

    check(isinstance(name, str) and name, "name of a network", "a text", name)
    check(callable(network), f"network {name!r}", "a callable", type(network).__name__)
    data = {"format": FORMAT, "version": VERSION, **description, "network": {"kind": "registered", "name": name}}
    description_of(data, REGISTERED + name, Path())
    _registrations += 1
    _registered[name] = network, data, _registrations
    return REGISTERED + name


def registered_network(name: str) -> tuple[Callable, dict, int]:
    """(network, description, number of the registration: another one after each). Raises DataError: there is none."""
    if name not in _registered:
        known = ", ".join(map(repr, _registered)) or "none"
        raise DataError(
            f"registered network {name!r}: expected a name given to register_network in this process, found {known}"
        )
    return _registered[name]
