"""Messages of the core and of the plugin, where ParaView's own go."""

from __future__ import annotations

import logging

from vtkmodules.vtkCommonCore import vtkOutputWindow


class OutputWindow(logging.Handler):
    """Output Messages of the window; standard error of programs without one."""

    def emit(self, record: logging.LogRecord) -> None:
        window, line = vtkOutputWindow.GetInstance(), self.format(record) + "\n"
        if record.levelno >= logging.ERROR:
            window.DisplayErrorText(line)
        elif record.levelno >= logging.WARNING:
            window.DisplayWarningText(line)
        else:
            window.DisplayText(line)


handler = OutputWindow()
logging.getLogger("apmgsrn_core").addHandler(handler)  # before the core is imported, which tells something at once

from apmgsrn_core import messages  # noqa: E402

messages.show_by(handler)
