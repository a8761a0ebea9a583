"""What was chosen for a training and why, beside its history: two columns of words in the table's field data."""

from __future__ import annotations

from vtkmodules.vtkCommonCore import vtkStringArray

COLUMNS = ("Choice", "Because")


def aim_text(chosen: dict) -> str:
    """What is wanted, in words."""
    if chosen["aim"] == "size":
        wanted = f"{chosen['target_bytes']} bytes" if chosen["target_bytes"] else f"{chosen['target_ratio']:g} times smaller than the data"
        return f"size: {wanted}"
    if chosen["aim"] == "quality":
        return f"quality: {chosen['target_psnr']:g} dB"
    return f"time: {chosen['time_budget']:g} s" if chosen["aim"] == "time" else "settings: as they are"


def preset_reason(chosen: dict, preset: str) -> str:
    """Why it is this preset, in words."""
    if chosen["preset"] != "automatic":
        return "Preset"
    best = "the best for its bytes" if preset == "compact" else "other settings do not go with compact, or there are no native kernels"
    return f"Preset automatic: {best}"


def add_choices(table, rows: list[tuple[str, str]]) -> None:
    """Put (choice, reason) rows into the field data of a table."""
    for name, texts in zip(COLUMNS, zip(*rows)):
        array = vtkStringArray()
        array.SetName(name)
        for text in texts:
            array.InsertNextValue(text)
        table.GetFieldData().AddArray(array)
