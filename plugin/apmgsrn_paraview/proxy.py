"""What every proxy has: settings that remember, one line per failure, outputs that stay valid."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from time import perf_counter

from vtkmodules.util.vtkAlgorithm import VTKPythonAlgorithmBase
from vtkmodules.vtkCommonCore import vtkOutputWindow

from apmgsrn_core import ApmgsrnError, TorchError

from .torch_advice import torch_advice

log = logging.getLogger(__name__)


def setting(field: str, default, words: tuple = ()):
    """Make the Set method of one property.

    It stores the value under `field` in the proxy's settings and marks the proxy modified only
    when the value differs; otherwise Apply with equal values would train again.

    Args:
        field: Key in the settings; for what a config dataclass has, the name of its field.
        default: First value; a tuple makes a property of several numbers.
        words: Of an enumeration: what its entries 0, 1, ... stand for.
    """

    def set_value(proxy, *values):
        value = _converted(values, default, words)
        if value != proxy.settings[field]:
            proxy.settings[field] = value
            proxy.setting_changed(field)

    set_value.field, set_value.default, set_value.words = field, default, words
    return set_value


def selection(field: str):
    """Make the Add and Clear methods of a property that is a list of names or numbers, kept under `field` as a tuple.

    ParaView clears the list and adds each one when the property has changed.
    """

    def add(proxy, entry: str | float) -> None:
        proxy.settings[field] += (entry,)
        proxy.Modified()

    def clear(proxy) -> None:
        proxy.settings[field] = ()
        proxy.Modified()

    add.field, add.default = field, ()
    return add, clear


def weakly(method: Callable) -> Callable:
    """A method of a proxy that does not keep the proxy alive. Python's collector does not look into VTK's objects: a proxy that holds
    its own method, if only in what a generator has begun, is never freed, nor is its model."""
    reference = weakref.WeakMethod(method)
    return lambda *arguments: reference()(*arguments)


def forget_frames(error: BaseException | None) -> None:
    """Let go of what was on the stack when an error was raised, and those before it: who remembers one would keep the filter, its input
    and itself alive, for Python's collector does not look into VTK's objects."""
    while error is not None:
        error.__traceback__, error = None, error.__cause__ or error.__context__


def _converted(values: tuple, default, words: tuple):
    """What the server manager sends, in the type of the default (an empty string arrives as None)."""
    if words:
        return values[0] if values[0] in words else words[int(values[0])]
    if isinstance(default, tuple):
        return tuple(type(old)(new) for old, new in zip(default, values))
    if isinstance(default, str):
        return values[0] or ""
    return type(default)(values[0])


class Proxy(VTKPythonAlgorithmBase):
    """Base of the proxies: a subclass writes `produce` and `leave_empty` and raises `ApmgsrnError`.

    ParaView does not turn a failing algorithm into an exception, prints several cryptic lines for
    it and runs it again. So a failure is shown as one line, kept in `LastError`, and the request
    ends well with empty outputs.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__(nInputPorts=inputs, nOutputPorts=outputs)
        makers = [getattr(type(self), name) for name in dir(type(self)) if name.startswith(("Set", "Add"))]
        self.settings = {maker.field: maker.default for maker in makers if hasattr(maker, "field")}
        self.status, self.last_error = "not run yet", ""
        self._warned: set[str] = set()

    def setting_changed(self, field: str) -> None:
        """Called when one of the settings has another value."""
        self.Modified()

    def GetStatus(self) -> str:
        return self.status

    def GetLastError(self) -> str:
        return self.last_error

    def RequestData(self, request, inputs, outputs) -> int:
        self.SetAbortExecute(0)  # in 5.11 an abort would otherwise stop the next run as well
        self.last_error = ""
        begun = perf_counter()
        try:
            self.produce(request, inputs, outputs)
        except Exception as error:
            self.fail(error)
            self.leave_empty(outputs)
            forget_frames(error)
        log.debug("%s: %s, after %.3f s", type(self).__name__, self.status, perf_counter() - begun)
        return 1

    def fail(self, error: Exception) -> None:
        """Keep the message of an error; show it unless it is marked as shown already."""
        message = " ".join(str(error).split())
        if isinstance(error, TorchError):
            message = f"{' '.join(error.problem.split())}. {torch_advice()}"
        if not isinstance(error, ApmgsrnError):
            message = f"unexpected {type(error).__name__}: {message} (please report this)"
            log.debug(message, exc_info=error)
        self.status, self.last_error = "failed: " + message, message
        if not getattr(error, "shown", False):
            error.shown = True
            vtkOutputWindow.GetInstance().DisplayErrorText(f"{type(self).__name__}: {message}\n")

    def warn(self, message: str) -> None:
        """Show one line in Output Messages, unless this proxy has shown it before."""
        if message in self._warned:
            return
        self._warned.add(message)
        vtkOutputWindow.GetInstance().DisplayWarningText(f"{type(self).__name__}: {message}\n")

    def produce(self, request, inputs, outputs) -> None:
        """Fill the outputs."""
        raise NotImplementedError

    def leave_empty(self, outputs) -> None:
        """Make the outputs empty, but such that filters downstream can live with them."""
        raise NotImplementedError
