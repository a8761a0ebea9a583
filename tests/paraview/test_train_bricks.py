"""The example for clusters: examples/train_bricks.py on one and on two ranks, and the batch scripts of examples/slurm."""

import os
import re
import signal
import subprocess
import time

import pytest
from conftest import ROOT
from paraview import simple
from test_parallel import ENVIRONMENT, MPIRUN

SCRIPT = str(ROOT / "examples" / "train_bricks.py")
BATCH_SCRIPTS = sorted((ROOT / "examples" / "slurm").glob("*.sbatch"))
TRAINING = ["--bricks", "2", "1", "1", "--iterations", "20", "--report", "0.01", "--device", "cpu"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small file with a point array."""
    path = tmp_path_factory.mktemp("data") / "wave.vti"
    wavelet = simple.Wavelet(WholeExtent=[-10, 10, -9, 9, -8, 8])
    simple.SaveData(str(path), proxy=wavelet, DataMode="Binary")
    simple.Delete(wavelet)
    return str(path)


def run(*arguments, start=("pvpython",), **environment):
    """(exit status, standard output, standard error) of the example."""
    command = [*start, SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**ENVIRONMENT, **environment})
    return done.returncode, done.stdout, done.stderr


def ours(errors):
    """What the script itself says on standard error."""
    return [line for line in errors.splitlines() if line.startswith("train_bricks")]


def table(text):
    """The lines of the final table, as words."""
    return [line.split() for line in text.splitlines() if re.match(r" +\d+ ", line)]


def figures(text):
    return dict(re.findall(r"^(\w+): (.+)$", text, re.MULTILINE))


@pytest.mark.slow
def test_one_rank_trains_and_a_second_run_finds_the_model(data, tmp_path):
    model = tmp_path / "one.apmgsrn"
    status, text, errors = run(data, "--model", model, *TRAINING)
    assert status == 0, errors
    lines = table(text)
    assert [line[:5] for line in lines] == [["0", "0", "0", "0", str(11 * 19 * 17)], ["1", "1", "0", "0", str(11 * 19 * 17)]]
    assert all(int(line[5]) > 70000 and line[6] == "20" and float(line[7]) > 10 for line in lines)
    told = figures(text)
    assert told["status"].startswith("trained (iterations)") and told["ranks"] == "1"
    assert f"{told['psnr_db']} dB" in told["status"]
    assert int(told["model_bytes"]) == model.stat().st_size
    assert not (tmp_path / "one.apmgsrn.training").exists()

    before = model.read_bytes()
    status, text, errors = run(data, "--model", model, *TRAINING)
    assert status == 0, errors
    assert figures(text)["status"].startswith("loaded from") and "psnr_db" not in figures(text)
    assert len(table(text)) == 2 and "rank 0:" not in text
    assert model.read_bytes() == before


@pytest.mark.mpi
def test_two_ranks_tell_of_their_bricks_and_give_the_model_of_one(data, tmp_path):
    assert run(data, "--model", tmp_path / "one.apmgsrn", *TRAINING)[0] == 0
    two = tmp_path / "two.apmgsrn"
    status, text, errors = run(data, "--model", two, *TRAINING, start=(*MPIRUN, "pvbatch"))
    assert status == 0, errors
    for rank in (0, 1):
        assert re.search(rf"rank {rank}: brick \d \(\d of 2 done\): iteration \d+ of 20", text)
    assert len(table(text)) == 2 and figures(text)["ranks"] == "2"
    assert two.read_bytes() == (tmp_path / "one.apmgsrn").read_bytes()


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--array", "abacus"], "'abacus', found point arrays: RTData"),
        (["--model", "/no/such/folder/x.apmgsrn"], "/no/such/folder"),
        (["--bricks", "2", "1"], "expected 3 arguments"),
    ],
)
def test_on_two_ranks_an_error_is_one_line_and_ends_the_job(data, tmp_path, arguments, expected):
    model = tmp_path / "x.apmgsrn"
    status, _, errors = run(data, "--model", model, *TRAINING, *arguments, start=(*MPIRUN, "pvbatch"))
    assert status != 0
    assert len(ours(errors)) == 1 and expected in ours(errors)[0], errors
    assert "Traceback" not in errors
    assert not model.exists()


@pytest.mark.slow
def test_errors_before_the_training():
    status, _, errors = run("nothing.vti")
    assert status == 1 and ours(errors) == ["train_bricks: nothing.vti: no such file"]
    status, _, errors = run("nothing.vti", SLURM_STEP_NUM_TASKS="4")
    assert status == 1 and "4 processes were started, but each of them is alone" in ours(errors)[0]
    without = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PV_PLUGIN_CONFIG_FILE")}
    done = subprocess.run(["pvpython", SCRIPT], capture_output=True, text=True, timeout=60, env=without)
    assert done.returncode == 1 and "source plugin/env.sh" in ours(done.stderr)[0]


@pytest.mark.slow
def test_the_plugin_is_loaded_where_nothing_has_loaded_it(data, tmp_path):
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "PV_PLUGIN_CONFIG_FILE"}
    command = ["pvpython", SCRIPT, data, "--model", str(tmp_path / "m.apmgsrn"), *TRAINING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0 and len(table(done.stdout)) == 2, done.stderr


@pytest.mark.parametrize("preset", ["small", "compact"])
def test_a_dry_run_shows_the_bricks_of_each_rank(data, tmp_path, preset):
    model = tmp_path / "x.apmgsrn"
    status, text, errors = run(data, "--bricks", 4, 2, 1, "--dry-run", "--ranks", 3, "--model", model, "--preset", preset)
    assert status == 0, errors
    assert "values: 21 x 19 x 17 (points)" in text and "bricks: 4 x 2 x 1 = 8" in text
    assert sum(int(n) for n in re.findall(r"^rank \d: looks at (\d) bricks", text, re.MULTILINE)) == 8
    assert "3 bricks one after the other" in text
    assert not model.exists()


# -- batch scripts -------------------------------------------------------------------------


@pytest.mark.parametrize("script", BATCH_SCRIPTS, ids=lambda path: path.name)
def test_bash_reads_the_batch_scripts(script):
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=20)
    lines = script.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert all(number < first for number, line in enumerate(lines) if line.startswith("#SBATCH"))  # Slurm stops there


def start_batch(tmp_path, name, srun, *arguments):
    """A batch script under commands that stand for Slurm's and leave their arguments in files."""
    commands = tmp_path / "bin"
    commands.mkdir()
    texts = {
        "srun": f'cd {tmp_path}; printf "%s\\n" "$@" >srun.new; echo $$ >pid; mv srun.new srun; {srun}',
        "scontrol": f'cd {tmp_path}; echo "$@" >scontrol; kill "$(cat pid)"',
    }
    for command, text in texts.items():
        (commands / command).write_text(f"#!/bin/bash\n{text}\n")
        (commands / command).chmod(0o755)
    environment = ENVIRONMENT | {
        "PATH": f"{commands}:{os.environ['PATH']}", "SLURM_JOB_ID": "4711", "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_CPUS_PER_TASK": "8",
    }  # fmt: skip
    return subprocess.Popen(
        ["bash", str(ROOT / "examples/slurm" / name), *arguments], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_a_job_hands_over_its_arguments_and_ends_as_the_training_does(tmp_path):
    job = start_batch(tmp_path, "train_bricks.sbatch", "exit 3", "my data.vti", "--bricks", "2", "2", "2")
    job.communicate(timeout=20)
    assert job.returncode == 3
    given = (tmp_path / "srun").read_text().splitlines()
    assert given[-7:] == ["pvbatch", SCRIPT, "my data.vti", "--bricks", "2", "2", "2"]
    assert "--kill-on-bad-exit=1" in given and "--cpus-per-task=8" in given


def test_a_job_is_requeued_before_its_time_is_over(tmp_path):
    job = start_batch(tmp_path, "train_bricks.sbatch", "exec sleep 30", "a.vti")
    end = time.time() + 15
    while not (tmp_path / "srun").exists() and time.time() < end:
        time.sleep(0.05)
    job.send_signal(signal.SIGUSR1)
    text, _ = job.communicate(timeout=20)
    assert (tmp_path / "scontrol").read_text().split() == ["requeue", "4711"]
    assert "requeued" in text and job.returncode != 0


def test_a_server_says_how_to_reach_it(tmp_path):
    job = start_batch(tmp_path, "pvserver.sbatch", "exit 0")
    text, _ = job.communicate(timeout=20)
    assert job.returncode == 0
    port = str(11111 + 711)
    assert re.search(rf"ssh -N -L {port}:\S+:{port} ", text) and f"port {port}" in text
    assert (tmp_path / "srun").read_text().splitlines()[-2:] == ["pvserver", f"--server-port={port}"]
