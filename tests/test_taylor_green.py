"""The simulation of the in-situ example, alone: what is known of the Taylor-Green vortex, on any number of ranks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parent / "examples" / "in_situ"
sys.path.insert(0, str(EXAMPLE))

from slab_transform import SlabTransform, share  # noqa: E402
from taylor_green import TaylorGreen, flat_vortex  # noqa: E402

SIZES = (12, 15, 16)  # even and odd, with and without a wave number at N / 3


def advanced(flow: TaylorGreen, time: float, steps: int) -> TaylorGreen:
    for _ in range(steps):
        flow.step(time / steps)
    return flow


@pytest.mark.parametrize("points", SIZES)
def test_the_vortex_in_two_dimensions_decays_exactly(points):
    flow = TaylorGreen(points, 10.0, start=flat_vortex)
    start = flow.velocity()
    advanced(flow, 2.0, 10)
    np.testing.assert_allclose(flow.velocity(), start * np.exp(-2 * 2.0 / 10), atol=1e-14)
    assert flow.energy() == pytest.approx(0.25 * np.exp(-4 * 2.0 / 10), rel=1e-13)


@pytest.mark.parametrize("points", SIZES)
def test_the_start_is_that_of_the_papers(points):
    flow = TaylorGreen(points, 100.0)
    assert flow.energy() == pytest.approx(1 / 8, rel=1e-14) and flow.enstrophy() == pytest.approx(3 / 8, rel=1e-14)
    assert (flow.velocity() ** 2).sum(axis=0).mean() / 2 == pytest.approx(1 / 8, rel=1e-14)
    assert (flow.vorticity() ** 2).sum(axis=0).mean() / 2 == pytest.approx(3 / 8, rel=1e-14)


def enstrophy_series(t: float, reynolds: float) -> float:
    """Taylor and Green 1937, the mean square of the vorticity to the fifth power of the time, halved."""
    r = 1 / reynolds
    return 3 / 8 * (
        1 - 6 * r * t + (5 / 48 + 18 * r**2) * t**2 - (5 / 3 + 36 * r**2) * r * t**3
        + (50 / (99 * 64) + 1835 / (9 * 16) * r**2 + 54 * r**4) * t**4
        - (361 / (44 * 32) + 761 / 12 * r**2 + 324 / 5 * r**4) * r * t**5
    )  # fmt: skip


@pytest.mark.parametrize("reynolds", [20.0, 50.0, 1e6])
def test_the_enstrophy_follows_the_series_of_taylor_and_green(reynolds):
    errors = []
    for time in (0.4, 0.2):
        flow = advanced(TaylorGreen(24, reynolds), time, 20)
        errors.append(abs(flow.enstrophy() - enstrophy_series(time, reynolds)))
    assert errors[0] < 2e-5 and errors[1] < errors[0] / 40  # what the series leaves out begins with t^6: 64


@pytest.mark.parametrize("points", [12, 15])
def test_the_energy_changes_by_the_enstrophy_alone(points):
    """Also where the flow is too fine for its points: Galerkin's truncation keeps the energy."""
    errors = []
    for count in (100, 200):
        flow, rates = TaylorGreen(points, 100.0), []
        start = flow.energy()
        for number in range(count + 1):
            rates.append(-2 * flow.enstrophy() / 100.0)
            if number < count:
                flow.step(5.0 / count)
        rates = np.array(rates)
        simpson = (rates[0] + rates[-1] + 4 * rates[1:-1:2].sum() + 2 * rates[2:-1:2].sum()) * 5.0 / count / 3
        errors.append(abs(flow.energy() - start - simpson))
    assert errors[0] < 1e-6 and errors[1] < errors[0] / 12  # of the fourth order: 16


@pytest.mark.parametrize("points", SIZES)
def test_the_flow_has_no_divergence(points):
    flow = advanced(TaylorGreen(points, 200.0), 3.0, 30)
    assert flow.divergence() < 1e-14
    assert flow.enstrophy() > 0.5  # it has become finer


def test_the_largest_dissipation_hardly_depends_on_the_points():
    """At Re = 100, against what 48 points a side give (0.012975 at time 4.89)."""
    flow, enstrophies = TaylorGreen(24, 100.0), []
    for _ in range(60):
        flow.step(0.1)
        enstrophies.append(flow.enstrophy())
    assert 2 * max(enstrophies) / 100 == pytest.approx(0.012975, rel=0.01)
    assert 0.1 * (np.argmax(enstrophies) + 1) == pytest.approx(4.89, abs=0.25)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(points=3), "points: expected at least 4 .*, found 3"),
        (dict(reynolds=0.0), "reynolds: expected a number above 0, found 0.0"),
        (dict(reynolds=float("nan")), "reynolds: expected a number above 0, found nan"),
    ],
)
def test_what_cannot_be_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        TaylorGreen(**{"points": 12, "reynolds": 100.0, **change})


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_a_step_that_is_too_long_is_told():
    with pytest.raises(FloatingPointError, match="time step 5: expected a finite flow, found none"):
        advanced(TaylorGreen(12, 1e6), 200.0, 40)


@pytest.mark.parametrize("count, parts", [(12, 1), (15, 4), (16, 3), (4, 4)])
def test_the_shares_make_the_whole(count, parts):
    shares = [share(count, parts, part) for part in range(parts)]
    assert shares[0][0] == 0 and shares[-1][1] == count
    assert all(a[1] == b[0] for a, b in zip(shares, shares[1:]))
    assert {stop - first for first, stop in shares} <= {count // parts, count // parts + 1}


@pytest.mark.parametrize("points", SIZES)
def test_fields_come_back_from_their_spectra(points):
    transform = SlabTransform(points)
    fields = np.random.default_rng(0).standard_normal((2, points, points, points))
    spectra = transform.forward(fields)
    np.testing.assert_allclose(spectra[:, 0, 0, 0], fields.mean(axis=(1, 2, 3)), atol=1e-14)
    np.testing.assert_allclose(spectra, np.fft.rfftn(fields, axes=(1, 2, 3)) / points**3, atol=1e-15)
    np.testing.assert_allclose(transform.backward(spectra), fields, atol=1e-13)


# -- on ranks ----------------------------------------------------------------------------------------


@pytest.mark.mpi
@pytest.mark.skipif(shutil.which("mpirun") is None, reason="mpirun not found")
def test_the_flow_is_the_same_on_any_number_of_ranks(tmp_path):
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("OMPI_", "PMIX_", "PRTE_"))}
    environment |= {"OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    for ranks in (1, 2, 3, 4):
        start = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks)]
        script = [sys.executable, str(HERE / "taylor_green_script.py"), str(EXAMPLE), str(tmp_path / f"{ranks}.json")]
        done = subprocess.run([*start, *script], env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
    one, *others = (json.loads((tmp_path / f"{ranks}.json").read_text()) for ranks in (1, 2, 3, 4))
    alone = advanced(TaylorGreen(15, 100.0), 1.0, 5)
    assert one["15"]["energy"] == pytest.approx(alone.energy(), rel=1e-13)
    for other in others:
        for points in ("12", "15"):
            np.testing.assert_allclose(other[points]["velocity"], one[points]["velocity"], atol=1e-13)
            for name in ("energy", "enstrophy", "restarted"):
                assert other[points][name] == pytest.approx(one[points][name], rel=1e-13), name
    assert "expected at least 4" in one["refused"] and all("found 3" in other["refused"] for other in others)
    assert all("time steps of 0.1, found 15 points, Re = 100 and time steps of 0.2" in other["another"] for other in (one, *others))
