"""Which kernels compute on each device, why no better ones, and whether they give what the readable ones give."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import one_line
from .finding import NOTE, OK, PROBLEM, Finding, is_for_paraview, set_up_command
from .packages import install_command

AREA = "kernels"
NEEDS = {  # of the processor, as Linux calls it; see cpu/dispatch.cpp
    "amx": ("amx_tile", "amx_bf16", "avx512_bf16", "avx512f", "avx512dq", "avx512bw", "avx512vl"),
    "avx512": ("avx512f", "avx512dq", "avx512bw", "avx512vl"),
    "avx2": ("avx2", "fma"),
    "portable": (),
}  # best first
TOLERANCE = 2e-5  # of the range of the values
WITHOUT = "export APMGSRN_KERNELS=torch   # and report this"


def kernel_findings() -> list[Finding]:
    """Of the CPU, then of each GPU; torch can be imported."""
    import torch

    found = [_of_cpu()]
    if found[0].fix.startswith("unset") and found[0].level == PROBLEM:
        return found  # nothing can be chosen
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices += [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
        found.append(_of_gpu(devices[1]))
    return found + [_self_test(device) for device in devices]


def _of_cpu() -> Finding:
    """The path in use, and why none of the better ones is."""
    from ..kernels import cpu_library

    library, why = cpu_library.load()
    forced, path = os.environ.get("APMGSRN_KERNELS"), os.environ.get("APMGSRN_CPU")
    if forced not in (None, "", "torch", "native"):
        text = f"APMGSRN_KERNELS: expected torch or native, found {forced!r}"
        return Finding(AREA, "CPU", text, PROBLEM, "unset APMGSRN_KERNELS")
    if library is None:
        return Finding(AREA, "CPU", f"torch, several times slower: {why}", PROBLEM, _build_command())
    if forced == "torch":
        return Finding(AREA, "CPU", "torch, several times slower: APMGSRN_KERNELS=torch", NOTE, "unset APMGSRN_KERNELS")
    if path and path not in cpu_library.paths():
        text = f"APMGSRN_CPU: expected one of {', '.join(cpu_library.paths())} on this computer, found {path!r}"
        return Finding(AREA, "CPU", text, PROBLEM, "unset APMGSRN_CPU")
    used, name = cpu_library.chosen_path(), Path(library._name).name
    better = list(NEEDS)[: list(NEEDS).index(used)]
    if path and better and better[-1] in cpu_library.paths():
        return Finding(AREA, "CPU", f"native {used}: APMGSRN_CPU={path} ({name})", NOTE, "unset APMGSRN_CPU")
    return _with_reasons(used, better, name)


def _with_reasons(used: str, better: list[str], name: str) -> Finding:
    """What the better paths lack: the processor, or the compiler that built the library."""
    flags = processor_flags()
    lacking = {path: [flag for flag in NEEDS[path] if flag not in flags] for path in better}
    unbuilt = [path for path in better if flags and not lacking[path]]
    reasons = [f"no {path}: the processor lacks {' '.join(words)}" for path, words in lacking.items() if flags and words]
    reasons += [f"no {path}: the library was built without it, or the system does not allow it" for path in unbuilt]
    text = "; ".join([f"native {used} ({name})", *reasons])
    fix = f"{_build_command()}   # with a newer C++ compiler" if unbuilt else ""
    return Finding(AREA, "CPU", text, NOTE if unbuilt else OK, fix)


def processor_flags() -> set[str]:
    """The instruction sets of the processor as Linux calls them; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def _build_command() -> str:
    return set_up_command("install") if is_for_paraview() else "bash plugin/install.sh && pip install .   # in the project"


def _of_gpu(device) -> Finding:
    from ..kernels import choose

    kernel = choose(device)
    if kernel.name != "torch" or os.environ.get("APMGSRN_KERNELS") == "torch":
        return Finding(AREA, "GPU", f"{kernel.name} kernels")
    found = "torch, several times slower: triton cannot be used; it takes the package, a C compiler and Python.h (python3-dev)"
    return Finding(AREA, "GPU", found, PROBLEM, install_command("triton"))


def _self_test(device) -> Finding:
    """A small network of each kind, random: values at points and on a lattice, as the readable kernels give them."""
    name = f"self-test on {device}"
    try:
        worst, names = compare_with_twin(device)
    except Exception as error:  # whatever a kernel, or what compiles it, raises
        return Finding(AREA, name, f"failed: {one_line(error)}", PROBLEM, WITHOUT)
    text = f"{' and '.join(sorted(names))} against readable: within {worst:.1e} of the range"
    if worst <= TOLERANCE:
        return Finding(AREA, name, text)
    return Finding(AREA, name, f"wrong values, {text}", PROBLEM, WITHOUT)


def compare_with_twin(device) -> tuple[float, set[str]]:
    """(largest difference of the values, relative to the largest value; the names of the kernels that were compared)."""
    import torch

    from ..kernels import kernel_for
    from ..kernels.readable import TorchKernel

    worst, names = 0.0, set()
    for network in _networks(device):
        kernel, twin = kernel_for(network), TorchKernel()
        points = (torch.rand(257, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1).to(device)
        axes = [torch.linspace(-1, 1, n, device=device) for n in (5, 4, 3)]
        pairs = [(kernel.values(network, points), twin.values(network, points))]
        pairs.append((kernel.lattice(network, *axes), twin.lattice(network, *axes)))
        for found, expected in pairs:
            worst = max(worst, float((found - expected).abs().max() / expected.abs().max()))
        names.add(kernel.name)
    return worst, names


def _networks(device):
    """Placed grids, and lattices of quadratic splines, with random numbers of order 1."""
    import torch

    from ..network.model import Network
    from ..network.model_config import LatticeConfig, ModelConfig

    common = {"hidden_layers": 1, "hidden_width": 16, "grid_resolution": (4, 4, 4), "output_components": 2}
    lattices = {"lattices": (LatticeConfig((5, 6, 7), 4),), "interpolation": "quadratic", "bias": True, "linear_skip": True}
    for options in ({"number_of_grids": 6}, {"number_of_grids": 0, **lattices}):
        generator = torch.Generator().manual_seed(7)
        network = Network(ModelConfig(**common, **options), generator)
        with torch.no_grad():
            network.features.normal_(generator=generator)
        yield network.to(device).requires_grad_(False)
