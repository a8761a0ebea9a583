"""How long a followed view waits: `pvpython tests/bench/level_of_detail.py MODEL.apmgsrn [--scale 8] [--budget 16000000]`.

Prints, for a view of 1280 x 720 pixels that zooms in: points, share of the finest resolution along an axis, seconds to decode the
coarse lattice and what is seen, and to find the latter again; and seconds of a still picture of a contour of it.
"""

from __future__ import annotations

import argparse
import time

from paraview import simple

import apmgsrn


def seconds(act) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--scale", type=float, default=8)
    parser.add_argument("--budget", type=int, default=16_000_000)
    options = parser.parse_args()
    view = simple.CreateView("RenderView", ViewSize=[1280, 720])
    source = simple.NeuralVolume(FileName=options.model, Scale=options.scale, Budget=options.budget)
    apmgsrn.follow(view, source)
    algorithm = source.GetClientSideObject()
    finest = min(map(abs, algorithm.lattice_grid().spacing))
    print(f"{algorithm.GetModelInformation()}; finest lattice {algorithm.lattice_grid().dims}")
    side, arrays = next(found for found in (("POINTS", source.PointData), ("CELLS", source.CellData)) if len(found[1]))
    array = arrays[0]
    contour = simple.Contour(Input=source, ContourBy=[side, array.GetName()], Isosurfaces=[sum(array.GetRange()) / 2])
    simple.Hide(source, view)
    simple.Show(contour, view)
    print("zoom       points  finest/spacing  coarse_s  full_s  again_s  picture_coarse_s  picture_full_s")
    for zoom in (1, 4, 16):
        view.ResetCamera()
        view.GetActiveCamera().Zoom(zoom)
        view.SMProxy.SynchronizeCameraProperties()
        times = []
        algorithm.decoded.forget()
        for detail in ("Coarse", "Full", "Coarse", "Full"):
            source.Detail = detail
            times.append((seconds(source.UpdatePipeline), seconds(lambda: simple.Render(view))))
        image = algorithm.GetOutputDataObject(0)
        share = finest / min(map(abs, image.GetSpacing()))
        print(
            f"{zoom:4d} {image.GetNumberOfPoints():12d} {share:15.2f} {times[0][0]:9.3f} {times[1][0]:7.2f} {times[3][0]:8.3f}"
            f" {times[2][1]:17.2f} {times[3][1]:15.2f}"
        )


main()
