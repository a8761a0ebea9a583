"""Messages: how much is shown, where, each warning once, and on one rank what all of them say."""

import logging
import os
import subprocess
import sys

import pytest

from apmgsrn_core import messages

CORE = logging.getLogger("apmgsrn_core")


@pytest.fixture
def shown(monkeypatch, capsys):
    """Sets the environment variables up and gives a function with the lines shown since."""
    monkeypatch.setattr(messages, "_once", messages.Once())
    kept = {name: (list(logging.getLogger(name).handlers), logging.getLogger(name).level) for name in messages.LOGGERS}
    for names in messages.world_from_environment.__globals__["WORLDS"]:
        for name in names:
            monkeypatch.delenv(name, raising=False)

    def start(word="", rank=0, ranks=1):
        monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own would have them all
        monkeypatch.setenv(messages.VARIABLE, word)
        monkeypatch.setenv("OMPI_COMM_WORLD_RANK", str(rank))
        monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", str(ranks))
        CORE.handlers[:] = []
        messages.set_up()
        return lambda: capsys.readouterr().err.splitlines()

    yield start
    for name, (handlers, level) in kept.items():
        logging.getLogger(name).handlers[:] = handlers
        logging.getLogger(name).setLevel(level)


def say_all():
    logger = logging.getLogger("apmgsrn_core.bricks")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logger.log(level, "%s here", logging.getLevelName(level))


@pytest.mark.parametrize("word, count", [("", 2), ("error", 1), ("warning", 2), ("info", 3), ("DEBUG", 4)])
def test_the_word_says_how_much(shown, word, count):
    lines = shown(word)
    say_all()
    found = lines()
    assert len(found) == count and found[-1].endswith(": error: ERROR here")
    assert ("bricks: " in found[-1]) == (word == "DEBUG"), "from debug on a line says where it comes from"


def test_an_unknown_word_is_one_warning_that_names_the_known_ones(shown):
    lines = shown("loud")
    say_all()
    assert lines() == [
        "apmgsrn: warning: APMGSRN_LOG: expected one of error, warning, info, debug, found 'loud'",
        "apmgsrn: warning: WARNING here", "apmgsrn: error: ERROR here",
    ]  # fmt: skip


def test_a_warning_is_shown_once_and_others_are_not_held_back(shown):
    lines = shown("info")
    for number in (1, 1, 2):
        CORE.warning("brick %d", number)
        CORE.info("again")
    assert lines() == [
        "apmgsrn: warning: brick 1", "apmgsrn: info: again", "apmgsrn: info: again", "apmgsrn: warning: brick 2",
        "apmgsrn: info: again",
    ]  # fmt: skip


@pytest.mark.parametrize("word, rank, expected", [("", 0, 2), ("", 3, 1), ("info", 3, 2)])
def test_what_all_ranks_say_comes_from_the_first(shown, word, rank, expected):
    lines = shown(word, rank, 4)
    CORE.warning("the same everywhere", extra=messages.EVERYWHERE)
    CORE.warning("mine alone")
    found = lines()
    assert len(found) == expected and all(line.startswith(f"apmgsrn rank {rank}: warning: ") for line in found)
    assert found[-1].endswith("mine alone")


def test_a_script_with_its_own_logging_gets_them_there(shown):
    lines = shown("info")
    taken = []

    class Own(logging.Handler):
        def emit(self, record):
            taken.append(record.getMessage())

    logging.getLogger().handlers.append(Own())
    CORE.warning("told")
    assert taken == ["told"] and lines() == []


def test_a_handler_that_is_there_first_is_the_only_one(shown):
    shown("info")
    before = logging.NullHandler()
    CORE.handlers[:] = [before]
    messages.set_up()
    assert CORE.handlers == [before]


def test_a_process_says_once_what_computes_and_why():
    """As a user sees it; the kernels are asked for many times."""
    code = (
        "import torch; from apmgsrn_core.kernels import choose\n"
        "[choose(torch.device('cpu'), p) for p in ('full', 'fast', 'full')]"
    )
    environment = {**os.environ, "APMGSRN_LOG": "info", "APMGSRN_KERNELS": "torch"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == ["apmgsrn: info: cpu: computing with torch, since APMGSRN_KERNELS=torch"]
