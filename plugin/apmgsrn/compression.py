"""Data replaced by a neural volume of it."""

from __future__ import annotations

import itertools
import os

from apmgsrn_core import ConfigError

SIDES = ("POINTS", "CELLS")
NO_VALUES = ("vtkGhostType", "vtkValidPointMask")
EXTENSION = ".apmgsrn"


def compress(source=None, file: str = "", array: str = "", **settings):
    """Train a model of data with the usual settings, save it, and put it into the pipeline in place of the data.

    Filters below the data then read the neural volume, which has this array alone, and where the data was shown it is shown in
    the same way and colours. The data itself stays, hidden.

    Args:
        source: A source or filter; the active one when None.
        file: Of the model, .apmgsrn, on the computer that has the data. "": beside the file of the data, or in the folder that
            ParaView was started from, under a name that is free.
        array: Its name; "": the one by which the active view colours the data, else the first.
        settings: Other properties of Train Neural Volume (`Preset="Medium"`, `TimeBudget=60`).

    Returns:
        The Neural Volume.

    Raises:
        ConfigError: There is nothing to compress, no such array or property, or the training has failed.
    """
    from paraview import simple

    source = simple.GetActiveSource() if source is None else source
    if source is None:
        raise ConfigError("source: expected data to compress, found nothing")
    source.UpdatePipeline()
    chosen = _array_of(simple, source, array)
    path = _train(simple, source, chosen, file or _free_name(source), settings)
    volume = simple.NeuralVolume(registrationName=os.path.basename(path), FileName=path)
    volume.UpdatePipeline()
    _feed_filters(source, volume)
    _show_instead(source, volume, chosen)
    simple.SetActiveSource(volume)
    return volume


def _array_of(simple, source, array: str) -> tuple[str, str]:
    """POINTS or CELLS, and the name."""
    known = [
        (side, found.GetName())
        for side, arrays in zip(SIDES, (source.PointData, source.CellData))
        for found in arrays
        if found.GetName() not in NO_VALUES
    ]
    names = [name for _, name in known]
    if not known or (array and array not in names):
        raise ConfigError(f"array: expected {array or 'one'} in the data, found {', '.join(names) or 'none'}")
    if array:
        return known[names.index(array)]
    view = simple.GetActiveView()
    for shown in _representations(view, source) if view is not None else ():
        if (coloured := tuple(shown.ColorArrayName)[:2]) in known:
            return coloured
    return known[0]


def _representations(view, source) -> list:
    """How a view shows a source."""
    return [r for r in view.Representations if getattr(r, "Input", None) is not None and r.Input.SMProxy is source.SMProxy]


def _free_name(source) -> str:
    """A path for a model beside the file of the data, where that may be written; ConfigError for data of a server without one."""
    from paraview import servermanager

    remote = servermanager.ActiveConnection.IsRemote()
    found = next((source.GetPropertyValue(n) for n in ("FileName", "FileNames") if source.GetProperty(n) is not None), None)
    path = str(found[0] if isinstance(found, (list, tuple)) or hasattr(found, "GetData") else found or "")
    if remote:
        if not path:
            raise ConfigError("file: expected a path on the server, for the data is of no file there; found none")
        return _free(os.path.splitext(path)[0], _is_on_server)
    folder, name = os.path.split(os.path.splitext(path)[0])
    if not name or not os.access(folder or ".", os.W_OK):
        folder, name = os.getcwd(), name or "volume"
    return _free(os.path.join(folder, name), os.path.exists)


def _free(stem: str, is_there) -> str:
    """The first path of stem, stem-2, ... where nothing is."""
    paths = (stem + number + EXTENSION for number in itertools.chain([""], map("-{}".format, itertools.count(2))))
    return next(path for path in paths if not is_there(path))


def _is_on_server(path: str) -> bool:
    """Whether the server has a file there."""
    from paraview import servermanager

    helper, found = servermanager.ProxyManager().NewProxy("misc", "FileInformationHelper"), servermanager.vtkPVFileInformation()
    helper.GetProperty("Path").SetElement(0, path)
    helper.UpdateVTKObjects()
    helper.GatherInformation(found)
    return bool(found.GetType())


def _train(simple, source, array: tuple[str, str], path: str, settings: dict) -> str:
    """Write the model; returns its path."""
    trainer = simple.TrainNeuralVolume(registrationName="Compression", Input=source)
    try:
        if unknown := [name for name in settings if trainer.GetProperty(name) is None]:
            raise ConfigError(f"expected properties of Train Neural Volume, found {', '.join(unknown)}")
        for name, value in {"TargetArray": array, "ModelFile": path, "OutputReconstruction": 0, **settings}.items():
            trainer.SetPropertyWithName(name, value)
        trainer.UpdatePipeline()
        trainer.UpdatePropertyInformation()
        if error := trainer.GetPropertyValue("LastError"):
            raise ConfigError(f"training failed: {error}")
    finally:
        simple.Delete(trainer)
    return path


def _feed_filters(source, volume) -> None:
    """Let the filters below a source read the volume."""
    proxy = source.SMProxy
    consumers = [(proxy.GetConsumerProxy(i), proxy.GetConsumerProperty(i)) for i in range(proxy.GetNumberOfConsumers())]
    for consumer, inputs in consumers:
        if consumer is None or consumer.GetXMLGroup() != "filters" or not inputs.IsA("vtkSMInputProperty"):
            continue
        for number in range(inputs.GetNumberOfProxies()):
            if inputs.GetProxy(number) is proxy:
                inputs.SetInputConnection(number, volume.SMProxy, 0)
        consumer.UpdateVTKObjects()


def _show_instead(source, volume, array: tuple[str, str]) -> None:
    """In every view that shows the source, the volume in the same way."""
    from paraview import simple

    for view in simple.GetRenderViews():
        for shown in [r for r in _representations(view, source) if r.Visibility]:
            ours = simple.Show(volume, view)
            kind = shown.GetProperty("Representation").GetData()
            if kind in ours.GetProperty("Representation").Available:
                ours.SetRepresentationType(kind)
            if tuple(shown.ColorArrayName)[:2] == array:
                simple.ColorBy(ours, array)
            ours.Opacity = shown.Opacity
            simple.Hide(source, view)
