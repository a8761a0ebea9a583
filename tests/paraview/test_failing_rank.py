"""A source that fails on one rank: no rank waits for it, the error is told once, and when it is mended all is well."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT
from small_models import train_models
from test_compare_parallel import ENVIRONMENT, mpirun

HERE = Path(__file__).parent
PLUGIN = str(ROOT / "xml" / "apmgsrn.xml")
LIMIT = 100  # seconds: ranks that wait for each other wait for ever

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return train_models(tmp_path_factory.mktemp("models"))["wavelet"]


@pytest.mark.parametrize(
    "ranks, name",
    [*((2, f"{work}NeuralVolume") for work in ("Sample", "Compare", "Train", "Render")), (3, "CompareNeuralVolume"), (2, "CompareTrained")],
)
def test_no_rank_waits_for_one_whose_source_has_failed(tmp_path, model, ranks, name):
    shutil.copy(model, tmp_path / "m.apmgsrn")
    script = str(HERE / "failing_rank_script.py")
    command = [*mpirun(ranks), "pvbatch", script, PLUGIN, str(tmp_path), name]
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ["PYTHONPATH"]])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    for rank, told in zip((ranks - 1, 0), report):
        expected = f"input: expected data on all ranks, found that the pipeline above has failed on rank {rank}"
        assert told == {"Status": "failed: " + expected, "LastError": expected}
        assert len(re.findall(rf"Compare\w+: {expected}" if "Compare" in name else f"{name}: {expected}", done.stderr)) == 1, done.stderr
    assert report[2]["LastError"] == "" and not report[2]["Status"].startswith("failed")
