"""Devices: listed without torch, resolved with it, clear when torch is missing."""

import subprocess
import sys

import pytest
import torch

from apmgsrn_core import DeviceError, list_devices, resolve_device


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
