# script-version: 2.0
"""What Catalyst does with the flow at each output: train its time step and append it to one model.

The first step is trained from nothing, each later one from the network of the step before, where the two are alike.
Every rank gives its slab; values that a rank's training needs of another one travel between them. Settings come by the
environment, since Catalyst's bridge hands none on:

    APMGSRN_MODEL       the file of the series
    APMGSRN_ITERATIONS  of the first step and of each later one, "800 300"
    APMGSRN_BRICKS      along z, the ranks' own direction
    APMGSRN_GRIDS       of the network of a brick and step, each of 7 x 7 x 7 nodes
    APMGSRN_PICTURES    a folder for a picture of each step's reconstruction; needs a screen

and APMGSRN_OUTCOME is made "stored" where the step is in the model, for the simulation to see.
"""

import os
from pathlib import Path

import apmgsrn_paraview
from paraview import catalyst
from paraview.simple import *  # noqa: F403  (the names of ParaView's own scripts)
from vtkmodules.vtkParallelCore import vtkMultiProcessController

from apmgsrn_core import ModelFileError, read_header

MODEL = os.environ["APMGSRN_MODEL"]
FIRST, LATER = (int(word) for word in os.environ.get("APMGSRN_ITERATIONS", "800 300").split())
PICTURES = os.environ.get("APMGSRN_PICTURES", "")

if "TrainNeuralVolume" not in globals():  # `source plugin/env.sh` has it loaded
    LoadPlugin(str(Path(apmgsrn_paraview.__file__).parents[2] / "xml" / "apmgsrn.xml"), remote=False, ns=globals())

flow = TrivialProducer(registrationName="input")
trainer = TrainNeuralVolume(registrationName="trainer", Input=flow)
trainer.SeveralArrays = 1
trainer.PointArrays = ["velocity", "vorticity_magnitude"]
trainer.TimeSteps = "Append"
trainer.ModelFile = MODEL
trainer.Preset = "Custom"
trainer.Bricks = [1, 1, int(os.environ.get("APMGSRN_BRICKS", "2"))]
trainer.NumberOfGrids = int(os.environ.get("APMGSRN_GRIDS", "64"))
trainer.GridResolution = [7, 7, 7]
trainer.OutputReconstruction = 1 if PICTURES else 0  # else nobody asks for its values

options = catalyst.Options()
options.GlobalTrigger = "TimeStep"

if PICTURES:
    options.ExtractsOutputDirectory = PICTURES
    view = CreateView("RenderView")
    view.ViewSize = [800, 800]
    view.CameraPosition, view.CameraFocalPoint, view.CameraViewUp = (-9, -11, 12), (3.14, 3.14, 3.14), (0, 0, 1)
    tubes = Contour(Input=trainer, ContourBy=["POINTS", "vorticity_magnitude"], Isosurfaces=[1.5])
    ColorBy(Show(tubes, view), ("POINTS", "velocity"))
    Show(Outline(Input=trainer), view)
    picture = CreateExtractor("PNG", view, registrationName="tubes")
    picture.Trigger = "TimeStep"
    picture.Writer.FileName = "tubes_{timestep:06d}.png"
    picture.Writer.ImageResolution = view.ViewSize


def catalyst_execute(info):
    """Train the time step that has come; called on all ranks."""
    trainer.Iterations = LATER if has_earlier_steps(info.time) else FIRST
    OutputPort(trainer, 1).UpdatePipeline(info.time)  # errors of the pipeline are no exceptions
    trainer.UpdatePropertyInformation()
    error, status = (trainer.GetPropertyValue(name) for name in ("LastError", "Status"))
    os.environ["APMGSRN_OUTCOME"] = error or "stored"
    if vtkMultiProcessController.GetGlobalController().GetLocalProcessId() == 0:
        print(f"in situ, time {info.time:g}: {'not stored, see its error' if error else status}", flush=True)


def has_earlier_steps(time):
    """Whether the model has steps before a time; so a simulation that is run again asks for the same training."""
    try:
        return min(read_header(MODEL).times or (time,)) < time
    except ModelFileError:  # none is there yet; what else is wrong with it the trainer tells
        return False
