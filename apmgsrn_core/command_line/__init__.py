"""`python -m apmgsrn_core`, also installed as `apmgsrn`: models without ParaView."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from .. import __version__
from ..errors import ApmgsrnError

COMMANDS = {  # command -> its module; only that of the command is imported, so that the doctor works where others cannot
    "info": "description", "train": "training", "sample": "points", "export": "export", "compare": "comparison",
    "render": "picture", "convert": "conversion", "doctor": "doctor",
}  # fmt: skip
FAILED, INTERRUPTED = 2, 130


class _Parser(argparse.ArgumentParser):
    """Tells a wrong option in one line."""

    def error(self, message: str):
        self.exit(FAILED, f"{self.prog}: {message} (--help tells more)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Behind the program's name; those of this process when None.

    Returns:
        The exit status: 0, 1 when the doctor finds a problem, 2 after an error, which is one line on standard error, 130 after
        Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser(arguments[:1]).parse_args(arguments)
    try:
        status = options.run(options) or 0
        sys.stdout.flush()
    except ApmgsrnError as error:
        message = " ".join(str(error).split())
    except MemoryError:
        message = "there is not enough memory"
    except BrokenPipeError:  # the reader of the output has enough
        sys.stderr.close()
        return FAILED
    except KeyboardInterrupt:
        print(f"\napmgsrn {options.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    else:
        return status
    print(f"apmgsrn {options.command}: {message}", file=sys.stderr)
    return FAILED


def _parser(first: list[str]) -> argparse.ArgumentParser:
    """Of all commands, or of one that is named first."""
    parser = _Parser(prog="apmgsrn", description="Neural volumes (APMGSRN) without ParaView.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name in [name for name in COMMANDS if [name] == first] or COMMANDS:
        module = importlib.import_module("." + COMMANDS[name], __name__)
        purpose = module.__doc__.partition(": ")[2].strip()
        own = commands.add_parser(
            name, help=purpose.splitlines()[0], description=purpose, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        module.add_arguments(own)
        own.set_defaults(run=module.run)
    return parser
