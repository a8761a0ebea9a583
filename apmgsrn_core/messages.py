"""What is told while the package works: how much, where, and each warning once.

The environment variable APMGSRN_LOG=error|warning|info|debug says how much; without it warnings and errors are shown.
Messages go to standard error, and the plugin sends them where ParaView's own go. A script that sets up Python's logging
(a handler of the root logger) gets them there instead.
"""

from __future__ import annotations

import logging
import os
import sys

from .device import world_from_environment

VARIABLE = "APMGSRN_LOG"
LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}
LOGGERS = ("apmgsrn_core", "apmgsrn_paraview")
EVERYWHERE = {"everywhere": True}  # `extra` of a message that all ranks give: the first one shows it, the others from "info" on
MOST_KEPT = 4096  # warnings that are known to have been shown


def level() -> int:
    """How much is shown, as `logging` counts it; an unknown word counts as "warning"."""
    return LEVELS.get(os.environ.get(VARIABLE, "").lower(), logging.WARNING)


def unknown_word() -> str:
    """What is wrong with the environment variable; "" when nothing is."""
    word = os.environ.get(VARIABLE, "")
    return f"{VARIABLE}: expected one of {', '.join(LEVELS)}, found {word!r}" if word and word.lower() not in LEVELS else ""


class Line(logging.Formatter):
    """`apmgsrn: warning: TEXT`, with the rank where there are several, and time and module from "debug" on."""

    def format(self, record: logging.LogRecord) -> str:
        rank, ranks = world_from_environment()
        where = f" rank {rank}" if ranks > 1 else ""
        if level() <= logging.DEBUG:
            module = record.name.partition(".")[2]
            where += f" {self.formatTime(record, '%H:%M:%S')}.{int(record.msecs):03d} {module}".rstrip()
        return f"apmgsrn{where}: {record.levelname.lower()}: {super().format(record)}"


class Once(logging.Filter):
    """Lets each warning and error through once in a process; of those that all ranks give, the first rank's."""

    def __init__(self):
        super().__init__()
        self._shown: set[tuple[int, str]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a message is to be shown."""
        if logging.getLogger().handlers:  # the script's own way of showing messages
            return False
        if record.levelno < logging.WARNING:
            return True
        if getattr(record, "everywhere", False) and world_from_environment()[0] and level() > logging.INFO:
            return False
        key = record.levelno, record.getMessage()
        if key in self._shown:
            return False
        if len(self._shown) < MOST_KEPT:
            self._shown.add(key)
        return True


class StandardError(logging.Handler):
    """Writes lines to whatever standard error is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


_once = Once()


def show_by(handler: logging.Handler) -> None:
    """Have the messages of the package and of the plugin shown by this handler and no other of ours."""
    handler.setFormatter(Line())
    handler.addFilter(_once)
    handler.setLevel(level())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        if os.environ.get(VARIABLE):
            logger.setLevel(level())


def set_up() -> None:
    """Once, when the package is imported: show messages on standard error, unless a handler is there already."""
    logger = logging.getLogger(LOGGERS[0])
    if not logger.handlers:
        show_by(StandardError())
    if problem := unknown_word():
        logger.warning(problem, extra=EVERYWHERE)
