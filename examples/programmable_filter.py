"""Train with ParaView's own Programmable Filter: no plugin is loaded, only `apmgsrn_core` is needed.

Paste this as the filter's `Script` (Output Data Set Type: vtkImageData). It trains on the input's first point array,
writes the model and gives the reconstruction. Change the four settings to your needs. The same from pvpython:

    image = ProgrammableFilter(Input=..., OutputDataSetType="vtkImageData", Script=open(...).read())
"""

import os
import tempfile

import numpy as np

from apmgsrn_core import Grid, ModelConfig, TrainConfig, psnr, train_volume

MODEL_FILE = os.environ.get("APMGSRN_MODEL", os.path.join(tempfile.gettempdir(), "programmable.apmgsrn"))
ITERATIONS = int(os.environ.get("APMGSRN_ITERATIONS", "1000"))
MODEL = ModelConfig.preset("small")
DEVICE = "auto"

image = inputs[0].VTKObject  # noqa: F821  (given by the Programmable Filter)
name = inputs[0].PointData.keys()[0]  # noqa: F821
direction = [[image.GetDirectionMatrix().GetElement(i, j) for j in range(3)] for i in range(3)]
grid = Grid(image.GetDimensions(), image.GetPoint(0), image.GetSpacing(), direction)
values = np.asarray(inputs[0].PointData[name])  # noqa: F821
values = values.reshape(grid.dims[::-1] + values.shape[1:])


def on_progress(state):
    self.SetProgressText(state.message)  # noqa: F821
    self.UpdateProgress(state.fraction)  # noqa: F821


train = TrainConfig(iterations=ITERATIONS)
result = train_volume(values, grid, name=name, model=MODEL, train=train, device=DEVICE, on_progress=on_progress)
result.save(MODEL_FILE)
reconstruction = result.volume.reconstruct()
print(f"{MODEL_FILE}: {psnr(values, reconstruction):.2f} dB, {len(result.to_bytes())} bytes")
output.PointData.append(reconstruction.reshape((-1,) + values.shape[3:]), name)  # noqa: F821
