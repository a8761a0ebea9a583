"""kill -9 at any moment: the file is absent, the older one or whole, and the same command again ends with the same model."""

import shutil

import pytest
from kills import kill_at_random, kill_in_last_writes

SEED = 20261129
MOST_DIFFERENCE = 0.2  # dB; what is wanted. In fact the models are the same
needs_mpi = pytest.mark.skipif(shutil.which("mpirun") is None, reason="no mpirun")


def assert_unharmed(training, kills):
    """`kills.py` has looked after each kill and run whether the files are as they must be."""
    print(f"seed {SEED}, {training.seconds:.1f} s, {training.psnr:.2f} dB:", *kills, sep="\n")  # shown when it fails
    assert training.psnr > 40
    assert max(abs(kill.psnr - training.psnr) for kill in kills) <= MOST_DIFFERENCE
    assert all(kill.same for kill in kills)


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    assert_unharmed(*kill_at_random(tmp_path, 1, 4, SEED))


@pytest.mark.mpi
@needs_mpi
def test_two_ranks_killed_at_random_moments(tmp_path):
    assert_unharmed(*kill_at_random(tmp_path, 2, 2, SEED))


@pytest.mark.slow
def test_killed_while_the_model_is_written(tmp_path):
    training, kills = kill_in_last_writes(tmp_path, every=7)
    assert_unharmed(training, kills)
    found = [kill.found for kill in kills]
    assert found[0].startswith("4 bricks, ") and found[0].endswith(", the older model"), found
    assert found[-1].endswith(", the model"), found


@pytest.mark.long
@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=[pytest.mark.mpi, needs_mpi])])
def test_killed_at_fifty_random_moments(tmp_path, ranks):
    """As `tests/bench/kills.py`, whose figures are in tests/bench/results/kills.json."""
    assert_unharmed(*kill_at_random(tmp_path, ranks, 50, SEED + ranks))


@pytest.mark.long
def test_killed_before_each_of_the_last_writes(tmp_path):
    training, kills = kill_in_last_writes(tmp_path)
    assert len(kills) > 10
    assert_unharmed(training, kills)
