"""Sizes of other networks in the benchmark of equal bytes: as many parameters as wanted, counted as the networks have them."""

import sys
from pathlib import Path

import pytest

from apmgsrn_core import BASELINES

sys.path.insert(0, str(Path(__file__).parent / "bench"))
from baseline_sizes import MORE, count_of, settings_for  # noqa: E402


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("dims, outputs", [((128, 128, 128), 1), ((125, 125, 25), 1), ((64, 64, 64), 3), ((240, 360, 60), 1)])
def test_the_count_is_that_of_the_network_and_fits(name, dims, outputs):
    settings = settings_for(name, 1 << 16, dims, outputs)
    count = sum(parameter.numel() for parameter in BASELINES[name](**settings).parameters())
    assert count == count_of(name, settings, outputs)
    assert 1 << 16 <= count <= (1 + MORE) * (1 << 16)


@pytest.mark.parametrize("name", BASELINES)
def test_a_number_of_parameters_that_cannot_be_is_named(name):
    with pytest.raises(ValueError, match=f"{name}: expected a size with 100 parameters"):
        settings_for(name, 100, (32, 32, 32), 1)
