"""The in-situ example: a simulation on two ranks trains its time steps in Catalyst, is restarted, and its model opens."""

import csv
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, output, values_of
from paraview import simple
from test_parallel import ENVIRONMENT, MPIRUN
from vtkmodules.vtkIOImage import vtkPNGReader

from apmgsrn_core import ModelFile

EXAMPLE = ROOT / "examples" / "in_situ"
PYTHON = str(ROOT / ".venv" / "bin" / "python")
SMALL = "--points 16 --reynolds 50 --time-step 0.1 --every 4 --grids 16 --iterations 300 150".split()
TIMES = pytest.approx((0.0, 0.4, 0.8))

pytestmark = pytest.mark.mpi


def simulate(folder, *arguments, ranks=1, status=0):
    """(figures at the end, standard output, standard error) of a simulation."""
    start = [*MPIRUN[:-1], str(ranks)] if ranks > 1 else []
    command = [*start, PYTHON, str(EXAMPLE / "simulate.py"), *SMALL, "--output", str(folder), *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=200)
    assert done.returncode == status, done.stdout + done.stderr
    return dict(re.findall(r"^(\w+): (\S+)$", done.stdout, re.MULTILINE)), done.stdout, done.stderr


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """(folder, figures, standard output) of three outputs, with pictures."""
    folder = tmp_path_factory.mktemp("in_situ")
    figures, printed, _ = simulate(folder, "--steps", "8", "--pictures", ranks=2)
    return folder, figures, printed


def opened(path):
    """(times, velocity [time, z, y, x, c]) of a model."""
    volume = simple.NeuralVolume(FileName=str(path))
    volume.UpdatePipelineInformation()
    times, fields = tuple(volume.TimestepValues), []
    for time in times:
        volume.UpdatePipeline(time)
        fields.append(values_of(output(volume), "velocity").reshape(17, 17, 17, 3).astype(float))
    simple.Delete(volume)
    return times, np.array(fields)


def solver_rows(folder):
    with open(folder / "energy.csv", newline="") as file:
        return [{name: float(text) for name, text in row.items()} for row in csv.DictReader(file)]


def test_every_output_is_in_the_model_with_the_energy_of_the_flow(two_ranks):
    folder, figures, printed = two_ranks
    times, velocity = opened(folder / "flow.apmgsrn")
    rows = solver_rows(folder)
    assert times == TIMES and [row["time"] for row in rows] == list(times)
    energies = (velocity[:, :-1, :-1, :-1] ** 2).sum(axis=4).mean(axis=(1, 2, 3)) / 2
    np.testing.assert_allclose(energies, [row["energy"] for row in rows], rtol=0.03)
    assert rows[0]["energy"] == pytest.approx(1 / 8) and rows[0]["enstrophy"] == pytest.approx(3 / 8)
    assert printed.count("trained 1 of 1 time step") == 3


def test_a_step_starts_from_the_one_before(two_ranks):
    sections = ModelFile(two_ranks[0] / "flow.apmgsrn").sections  # (brick, time step): offset, length, sha256, coder
    assert {coder for (_, step), (*_, coder) in sections.items() if step == 0} == {"rounded"}
    assert {coder for (_, step), (*_, coder) in sections.items() if step > 0} == {"delta"}  # cheaper than by itself
    assert {brick for brick, _ in sections} == {0, 1}


def test_what_it_costs_and_saves_is_printed(two_ranks):
    folder, figures, _ = two_ranks
    assert figures["ranks"] == "2" and figures["time_steps"] == "3"
    assert int(figures["raw_bytes"]) == 3 * 17**3 * 4 * 4
    assert int(figures["model_bytes"]) == (folder / "flow.apmgsrn").stat().st_size
    seconds = {name: float(figures[f"{name}_seconds"]) for name in ("start", "solver", "in_situ")}
    assert min(seconds.values()) > 0
    assert float(figures["overhead"]) == pytest.approx(seconds["in_situ"] / seconds["solver"], rel=2e-3)  # four digits each


def test_pictures_are_drawn_while_it_runs(two_ranks):
    folder = two_ranks[0]
    assert [path.name for path in sorted(folder.glob("tubes_*.png"))] == [f"tubes_{step:06d}.png" for step in (0, 4, 8)]
    assert colours_of(folder / "tubes_000008.png") > 100


def colours_of(path: Path) -> int:
    """How many different ones a picture has."""
    reader = vtkPNGReader()
    reader.SetFileName(str(path))
    reader.Update()
    return len(np.unique(values_of(reader.GetOutput(), "PNGImage"), axis=0))


def test_one_rank_gives_the_same_model(two_ranks, tmp_path):
    figures, _, _ = simulate(tmp_path, "--steps", "8")
    assert figures["ranks"] == "1" and figures["time_steps"] == "3"
    one, two = (opened(folder / "flow.apmgsrn") for folder in (tmp_path, two_ranks[0]))
    assert one[0] == two[0]
    np.testing.assert_allclose(one[1], two[1], atol=0.01)


def test_a_restart_appends_and_another_simulation_is_refused(two_ranks, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(two_ranks[0], folder)
    before = opened(folder / "flow.apmgsrn")[1]
    figures, printed, _ = simulate(folder, "--steps", "12", "--restart")
    assert figures["time_steps"] == "4" and printed.count("trained 1 of 1 time step") == 1
    times, velocity = opened(folder / "flow.apmgsrn")
    assert times == pytest.approx((0.0, 0.4, 0.8, 1.2)) and np.array_equal(velocity[:3], before)
    rows = solver_rows(folder)
    assert [row["step"] for row in rows] == [0, 4, 8, 12]
    energy = (velocity[3, :-1, :-1, :-1] ** 2).sum(axis=3).mean() / 2
    assert energy == pytest.approx(rows[3]["energy"], rel=0.03) and rows[3]["energy"] < rows[2]["energy"]

    kept = (folder / "flow.apmgsrn").read_bytes()
    for other in (["--reynolds", "400"], ["--restart", "--points", "12"], ["--time-step", "0.05", "--steps", "40"]):
        _, printed, errors = simulate(folder, *other, status=2)
        assert "expected a flow of " in errors and "found 16 points, Re = 50 and time steps of 0.1: take another --output" in errors
        assert "trained" not in printed and (folder / "flow.apmgsrn").read_bytes() == kept
    (folder / "state.npz").unlink()  # then the model itself is in the way
    _, printed, errors = simulate(folder, "--steps", "4", "--reynolds", "400", status=1)  # the same at time 0
    assert "no training needed" in printed and "2 later steps that would be lost" in errors
    assert "simulate: 1 of 2 outputs are not in" in errors
    assert (folder / "flow.apmgsrn").read_bytes() == kept


def test_a_damaged_model_does_not_stop_the_simulation(tmp_path):
    (tmp_path / "flow.apmgsrn").write_bytes(b"nothing that is known")
    figures, printed, errors = simulate(tmp_path, "--steps", "8", status=1)
    assert printed.count("not stored, see its error") == 3
    assert errors.count("will not overwrite a file that is no model") == 3 and "simulate: 3 of 3 outputs are not in" in errors
    assert figures["time_steps"] == "0" and len(solver_rows(tmp_path)) == 3
    assert (tmp_path / "flow.apmgsrn").read_bytes() == b"nothing that is known"


def test_the_file_opens_as_an_animation(two_ranks, tmp_path):
    shutil.copytree(two_ranks[0], tmp_path, dirs_exist_ok=True)
    command = ["pvpython", str(EXAMPLE / "animation.py"), str(tmp_path), "--between", "1", "--scale", "1"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^ +(\d\.\d{3}) +(\d\.\d{6}) +(\d\.\d{6}) +(-?\d\.\d\d)%$", done.stdout, re.MULTILINE)
    assert [float(row[0]) for row in rows] == [0, 0.4, 0.8] and all(abs(float(row[3])) < 3 for row in rows)
    frames = sorted(tmp_path.glob("frame_*.png"))
    assert len(frames) == 5 and min(map(colours_of, frames)) > 100
    command = [PYTHON, str(EXAMPLE / "animation.py"), str(tmp_path / "none")]
    empty = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=100)
    assert empty.returncode != 0 and "animation: expected flow.apmgsrn of simulate.py" in empty.stderr


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--points", "3"], "simulate: points: expected at least 4"),
        (["--reynolds", "-1"], "simulate: reynolds: expected a number above 0, found -1.0"),
        (["--script", "none.py"], "--script: expected a file, found none at none.py"),
        (["--restart"], "state.npz: expected the state of a simulation to go on from, found none"),
        (["--output", "damaged"], "state.npz: expected the state of a simulation, found another or a damaged file"),
        (["--output", "file"], "File exists"),
        (["--every", "0"], "expected --every from 1 on"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(tmp_path, arguments, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "state.npz").write_bytes(b"PK\3\4 cut off")
    (tmp_path / "file").touch()
    done = simulate(tmp_path, *arguments, status=2)
    assert words in done[2] and "Traceback" not in done[2]
