"""Run by test_time_series.py as `[mpirun -np N] pvbatch series_script.py plugin.xml folder`: steps and bricks on ranks."""

from paraview import simple

# fmt: off
import hashlib
import json
import sys

import numpy as np
# fmt: on

TINY = dict(Preset="Custom", NumberOfGrids=8, GridResolution=[4, 4, 4], HiddenWidth=16, Iterations=60, BatchSize=500)


def write_series(folder):
    """Three steps of a moving wave, as a .pvd of image files."""
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkIOXML import vtkXMLImageDataWriter

    lines = []
    for step in range(3):
        image = vtkImageData()
        image.SetDimensions(11, 9, 7)
        z, y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in (7, 9, 11)), indexing="ij")
        array = numpy_to_vtk((np.sin(4 * x + step) * y + z).astype("float32").ravel(), deep=1)
        array.SetName("f")
        image.GetPointData().AddArray(array)
        writer = vtkXMLImageDataWriter()
        writer.SetFileName(f"{folder}/step{step}.vti")
        writer.SetInputData(image)
        writer.SetDataModeToBinary()
        writer.Write()
        lines.append(f'<DataSet timestep="{step}" file="step{step}.vti"/>')
    with open(f"{folder}/series.pvd", "w", encoding="utf-8") as file:
        file.write('<VTKFile type="Collection" version="0.1"><Collection>' + "".join(lines) + "</Collection></VTKFile>")


def main(plugin, folder):
    simple.LoadPlugin(plugin, remote=False, ns=vars(simple))
    write_series(folder)  # the script runs on rank 0
    series = simple.PVDReader(FileName=f"{folder}/series.pvd")
    report = {}
    for name, settings in (("one", {}), ("bricks", {"Bricks": [2, 1, 2]})):
        path = f"{folder}/{name}.apmgsrn"
        filter_ = simple.TrainNeuralVolume(Input=series, TimeSteps="All", ModelFile=path, **TINY, **settings)
        filter_.UpdatePipeline(1.0)
        filter_.UpdatePropertyInformation()
        filter_.UpdatePipeline(2.0)
        report[name] = [filter_.GetPropertyValue("Status"), filter_.GetPropertyValue("LastError")]
        with open(path, "rb") as file:
            report[name].append(hashlib.sha256(file.read()).hexdigest())
    broken = simple.TrainNeuralVolume(Input=series, TimeSteps="Range", TimeStepRange=[0, 7], **TINY)
    broken.UpdatePipeline(1.0)
    broken.UpdatePropertyInformation()
    report["error"] = broken.GetPropertyValue("LastError")
    with open(f"{folder}/report.json", "w", encoding="utf-8") as file:
        json.dump(report, file)


main(*sys.argv[1:3])
