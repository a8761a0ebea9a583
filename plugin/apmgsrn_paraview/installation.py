"""What the doctor of the core finds in the program of ParaView that runs the pipeline: on a server, the server's side."""

from __future__ import annotations

from pathlib import Path

import paraview
from vtkmodules.vtkCommonCore import vtkVersion

import apmgsrn_core as core  # names are looked up when they are asked for

from .panel_refresh import refresh_panel
from .torch_advice import torch_advice
from .vtk_bridge import rank_and_size

NOT_ASKED = "not looked at yet (Check Installation)"


class InstallationCheck:
    """The button and the text of a proxy; nothing is looked at before the button is pressed."""

    installation = NOT_ASKED

    def CheckInstallation(self) -> None:
        """Look at everything, on every rank."""
        self.installation = core.findings_as_narrow_text(core.examine_installation(host_program()))
        if rank_and_size()[1] == 1:  # no panel is of several ranks
            refresh_panel(self)

    def GetInstallation(self) -> str:
        return self.installation


def host_program() -> core.HostProgram:
    """The program of ParaView that runs this."""
    return core.HostProgram(program_name(), paraview.__version__, vtkVersion.GetVTKVersion(), rank_and_size()[1], torch_advice())


def program_name() -> str:
    """As it was started; by its kind where the system does not tell."""
    from paraview.modules.vtkRemotingCore import vtkProcessModule

    try:
        started = Path(Path("/proc/self/cmdline").read_bytes().split(b"\0")[0].decode()).name
    except (OSError, UnicodeDecodeError):
        started = ""
    kinds = {vtkProcessModule.PROCESS_SERVER: "pvserver", vtkProcessModule.PROCESS_BATCH: "pvbatch"}
    kind = kinds.get(vtkProcessModule.GetProcessType(), "paraview")
    return started if started.startswith(("paraview", "pv")) else kind
