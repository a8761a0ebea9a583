"""torch: whether it can be imported, for which devices it was built, and which of them it can use."""

from __future__ import annotations

from pathlib import Path

from ..device import list_devices, require_torch
from ..errors import TorchError, one_line
from .finding import PROBLEM, Finding, HostProgram
from .packages import elsewhere, how_to_get, install_command
from .requirements import wrong_version

AREA = "torch"


def torch_findings(host: HostProgram | None) -> list[Finding]:
    """torch and its devices; one problem when there is none."""
    try:
        torch = require_torch()
    except TorchError as error:
        text, advice = " ".join(error.problem.split()), (host and host.torch_advice) or how_to_get("torch")
        return [Finding(AREA, "torch", f"{text}{elsewhere('torch')}", PROBLEM, advice)]
    except Exception as error:  # of any kind: a broken installation
        text = f"cannot be imported: {one_line(error)}{elsewhere('torch')}"
        return [Finding(AREA, "torch", text, PROBLEM, how_to_get("torch"))]
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"HIP {torch.version.hip}" if torch.version.hip else "CPU"
    text = f"{torch.__version__} ({build} build) in {Path(torch.__file__).parent.parent}"
    wrong = wrong_version("torch", torch.__version__)
    first = Finding(AREA, "torch", text)
    if wrong:
        first = Finding(AREA, "torch", f"{text}; {wrong}", PROBLEM, install_command("torch"))
    return [first, *_devices(torch)]


def _devices(torch) -> list[Finding]:
    """Each CUDA device with its memory, and those that torch cannot use."""
    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = []
    for index in range(usable):
        free, total = torch.cuda.mem_get_info(index)
        text = f"{torch.cuda.get_device_name(index)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        found.append(Finding(AREA, f"cuda:{index}", text))
    unused = list_devices()[2 + usable :]
    if unused and not torch.version.cuda:
        again = f"{install_command('torch')} --force-reinstall --no-deps"
        found.append(Finding(AREA, "GPU", f"{', '.join(unused)}: this torch was built without CUDA", PROBLEM, again))
    elif unused:
        text = f"{', '.join(unused)}: torch cannot use it; its CUDA {torch.version.cuda} may be newer than the driver's"
        found.append(Finding(AREA, "GPU", text, PROBLEM, "nvidia-smi   # shows the newest CUDA that the driver can do"))
    return found or [Finding(AREA, "devices", "the CPU; no GPU was found")]
