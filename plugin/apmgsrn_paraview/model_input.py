"""The model that a filter evaluates: which file it is, and what is kept open of it."""

from __future__ import annotations

from apmgsrn_core import FieldError, ModelFileError, TrustError, absolute_path, open_header, volume_stamp

from .proxy import setting
from .vtk_bridge import MODEL_FIELD, named_model

UNKNOWN_BOUNDS = (0.0, 1.0, 0.0, 1.0, 0.0, 1.0)


class ModelInput:
    """A model file that is read again when it changes, or when the device or the precision do.

    Trust is given to one file, the first that is opened after it was: the next one may be somebody else's.
    """

    def __init__(self):
        self._header = self._header_stamp = self._volume = self._volume_stamp = self._trusted = None

    def header(self, path: str):
        """What the file says about itself. Raises ModelFileError."""
        stamp = volume_stamp(path)
        if stamp != self._header_stamp:
            self._header, self._header_stamp = open_header(path), stamp
        return self._header

    def volume(self, path: str, device: str, precision: str, trust: bool = False, bounded: bool = True):
        """The model, or the foreign network of a description, ready to be sampled; unless `bounded` without what keeps error bounds.

        Raises:
            ModelFileError, DeviceError, and of a foreign network DataError. TrustError: it runs code and is not trusted.
        """
        if trust and self._trusted is None:
            self._trusted = path
        trusted = trust and path == self._trusted
        stamp = (*volume_stamp(path), device, precision, trusted, bounded)
        if stamp != self._volume_stamp:
            self._volume, self._volume_stamp = self._opened(path, device, trusted, precision, bounded, trust), stamp
        return self._volume

    def _opened(self, path: str, device: str, trusted: bool, precision: str, bounded: bool, trust: bool):
        from apmgsrn_core import open_volume

        try:
            return open_volume(path, device, trusted, precision, bounded)
        except TrustError as error:
            if not trust:
                raise
            raise TrustError(f"{error}: TrustFile was set for {self._trusted}; for this file set it to 0 and to 1 again") from None

    def forget_trust(self) -> bool:
        """Trust the file that is opened next, if any; returns whether another one was trusted."""
        trusted, self._trusted = self._trusted, None
        return trusted is not None

    @property
    def derivatives(self) -> str:
        """Where the derivatives of a foreign network come from; "" of a model, or when nothing is open."""
        return getattr(self._volume, "derivatives", "")

    @property
    def array_names(self) -> list[str]:
        """Of what was opened last; [] before."""
        known = self._volume or self._header
        return [array.name for array in known.arrays] if known is not None else []


class TrustedFile:
    """Of a proxy with `model` and `settings`: whether a file that can run code is opened."""

    _set_trust = setting("trust_file", False)

    def SetTrustFile(self, trust: int) -> None:
        """ParaView sends it when the user has set it, also to what it was."""
        if self.model.forget_trust():
            self.Modified()
        self._set_trust(trust)

    SetTrustFile.field, SetTrustFile.default = _set_trust.field, _set_trust.default


class ModelArrays:
    """Of a proxy with `model` and `settings`: which arrays of its model are chosen, as check boxes; none: all."""

    def SetArrayStatus(self, name: str, chosen: int) -> None:
        if chosen:
            self.settings["arrays"] += (name,)
            self.Modified()

    def ClearArrays(self) -> None:
        if self.settings["arrays"]:
            self.settings["arrays"] = ()
            self.Modified()

    def GetArrayInfo(self) -> list:
        """Name and first status of each array of the model, once it is known: none is chosen."""
        return [text for name in self.model.array_names for text in (name, "0")]


def find_model(file_name: str, model, data_sets: list) -> str:
    """The file of the model, by precedence: the property, the output connected as Model, the data's own field data.

    Args:
        file_name: The property FileName; "": not set.
        model: The data object at the port Model; None: nothing is connected.
        data_sets: The input and its leaves.

    Returns:
        An absolute path; "" when nothing names a model.

    Raises:
        ModelFileError: What is connected as Model is no output of a neural volume.
    """
    if file_name:
        return absolute_path(file_name)
    if model is not None:
        if not (path := named_model(model)):
            raise ModelFileError(
                f"Model: expected an output of Train Neural Volume or Neural Volume, with the field data"
                f" {MODEL_FIELD!r}, found {model.GetClassName()} without it"
            )
        return path
    return next(filter(None, map(named_model, data_sets)), "")


def no_model() -> ModelFileError:
    """What is told when nothing names a model."""
    return ModelFileError(
        "no model: expected a model file as FileName, an output of Train Neural Volume or Neural Volume as Model,"
        f" or an input with the field data {MODEL_FIELD!r}, found none of them"
    )


def chosen_arrays(arrays, names: tuple) -> list:
    """The arrays (ArrayInfo) of a model with some names, in the model's order; all without a name. Raises FieldError."""
    known = [array.name for array in arrays]
    missing = [name for name in names if name not in known]
    if missing:
        raise FieldError(f"Arrays: expected some of {', '.join(known)}, which the model has, found {', '.join(missing)}")
    return [array for array in arrays if not names or array.name in names]
