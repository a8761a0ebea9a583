"""Between the simulation and ParaView Catalyst, by the bridge that is a part of ParaView's Python.

With a ParaView that was built with libcatalyst (Catalyst 2; Debian's were not) the same script can be run by its Conduit calls;
this class is what has to be written anew then. That is left out here, where it cannot be tried.
"""

from __future__ import annotations

from pathlib import Path

from flow_image import flow_image, whole_extent

CHANNEL = "input"  # what the script calls the flow


class CatalystAdaptor:
    """Hands a flow to the pipeline of a script (all ranks together); ParaView starts here.

    Args:
        script: Of Catalyst's version 2.

    Raises:
        ImportError, RuntimeError: Catalyst is not there, cannot be started, or takes no such script.
    """

    def __init__(self, script: Path):
        from paraview.catalyst import bridge

        self._bridge = bridge
        bridge.initialize()
        bridge.add_pipeline(str(script), 2)

    def execute(self, flow) -> None:
        """Give the time step as it is."""
        extent = whole_extent(flow.points)
        self._bridge.coprocess(flow.time, flow.steps, flow_image(flow), name=CHANNEL, wholeExtent=extent)

    def finish(self) -> None:
        self._bridge.finalize()
