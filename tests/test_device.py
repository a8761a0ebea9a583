"""Devices: listed without torch, resolved with it, clear when torch is missing."""

import subprocess
import sys

import pytest
import torch

from apmgsrn_core import DeviceError, devices_of_rank, list_devices, resolve_device
from apmgsrn_core.device import LAUNCHERS, memory_for_values, place_from_environment


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()


def test_listing_does_not_import_torch():
    assert run("import sys, apmgsrn_core as a; print(a.list_devices()[:2], 'torch' in sys.modules)") == (
        "['auto', 'cpu'] False"
    )


def test_without_torch_the_light_part_works_and_the_rest_says_what_to_do():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import apmgsrn_core as a\n"
        "a.ModelConfig(); a.Grid((2, 2, 2)); a.list_devices()\n"
        "try: a.train_volume\n"
        "except a.DeviceError as error: print(error)"
    )
    assert "torch cannot be imported" in run(code) and "plugin/env.sh" in run(code)


def test_every_listed_device_resolves():
    for text in list_devices():
        if text.startswith("cuda") and not torch.cuda.is_available():
            continue
        assert resolve_device(text).type in ("cpu", "cuda")
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("text", ["tpu", "cuda:77", "cuda:-1", "cpu0"])
def test_unknown_devices_are_named_with_those_there_are(text):
    with pytest.raises(DeviceError, match=f"{text}.*auto, cpu"):
        resolve_device(text)


@pytest.mark.parametrize(
    "gpus, ranks, expected",
    [
        (1, 1, [[0]]), (4, 1, [[0, 1, 2, 3]]), (1, 4, [[0]] * 4), (2, 4, [[0], [1], [0], [1]]),
        (4, 2, [[0, 2], [1, 3]]), (4, 4, [[0], [1], [2], [3]]), (3, 2, [[0, 2], [1]]), (4, 3, [[0, 3], [1], [2]]),
    ],
)  # fmt: skip
def test_the_ranks_of_a_computer_share_its_gpus(monkeypatch, gpus, ranks, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    found = [[d.index for d in devices_of_rank("auto", (rank, ranks))] for rank in range(ranks)]
    assert found == expected


def test_several_devices_by_name():
    assert devices_of_rank("cpu, cpu") == [torch.device("cpu")] * 2
    with pytest.raises(DeviceError, match="tpu"):
        devices_of_rank("cpu,tpu")
    assert devices_of_rank("auto")[0].type in ("cpu", "cuda")


def test_the_place_of_a_rank_by_its_launcher(monkeypatch):
    for name in sum(LAUNCHERS, ()):
        monkeypatch.delenv(name, raising=False)
    assert place_from_environment() == (0, 1)
    monkeypatch.setenv("SLURM_LOCALID", "2")
    assert place_from_environment() == (0, 1)
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "4(x2),3")
    assert place_from_environment() == (2, 4)
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "2")
    assert place_from_environment() == (1, 2)


def test_the_memory_of_a_brick_is_a_part_of_the_computers():
    cpu = [torch.device("cpu")]
    assert memory_for_values(cpu * 2) == memory_for_values(cpu) > 1 << 20
