"""The errors that the package raises. Each message names the thing, what was expected and what was found."""


MOST_CHARACTERS = 1500  # of a message: what was found in a file may be any text


class ApmgsrnError(Exception):
    """Base of every error that this package raises on purpose. A message that is too long is cut."""

    def __init__(self, message: str = ""):
        text = str(message)
        super().__init__(text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}... ({len(text)} characters)")


class ConfigError(ApmgsrnError, ValueError):
    """A setting has a value that is not allowed."""


class DataError(ApmgsrnError, ValueError):
    """The data cannot be trained on or sampled."""


class FieldError(ApmgsrnError, KeyError):
    """An array of that name does not exist."""

    __str__ = Exception.__str__  # KeyError would print the repr of the message


class ModelFileError(ApmgsrnError, OSError):
    """A model file is missing, foreign, damaged or cannot be written."""


class TrustError(ApmgsrnError, PermissionError):
    """Opening a file would run code of whoever made it, and nobody has said that this is wanted."""


class DeviceError(ApmgsrnError, RuntimeError):
    """A device is unknown or cannot be used, or torch cannot be imported."""


class MemoryShortage(ApmgsrnError, MemoryError):
    """The memory of the computer or of a device does not suffice, also for smaller parts."""


class TorchError(DeviceError):
    """torch cannot be imported: `problem` says why, and the message also what to do outside of ParaView."""

    def __init__(self, problem: str, advice: str = ""):
        super().__init__(f"{problem}. {advice}" if advice else problem)
        self.problem = problem


def one_line(error: BaseException) -> str:
    """What an error of someone else's code says, with its kind, in one line that is not too long."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
