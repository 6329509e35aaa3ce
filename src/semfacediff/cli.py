"""``semfacediff``: subcommands, each in its file of :mod:`semfacediff.commands`, and the three Hydra runs."""

import argparse
import importlib
import os
import sys

from semfacediff import __version__
from semfacediff.errors import EXIT_INTERRUPTED, EXIT_MISTAKE, UserError
from semfacediff.scripts import COMMANDS, start
from semfacediff.threads import announce

SUBCOMMANDS = (
    "tables figures prepare doctor fetch thesis parse export edit merge track compare strata leakage report web "
    "gpu-check init list score rescore check-data import"
).split()


def command_line() -> argparse.ArgumentParser:
    """The parser of all subcommands; those that Hydra reads stand there for ``--help``."""
    parser = argparse.ArgumentParser("semfacediff", description="Train, evaluate, edit; records to tables")
    parser.add_argument("--version", action="version", version=f"semfacediff {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        commands.add_parser(name, help=f"KEY=VALUE ...: the same as {COMMANDS[name]}.py in a checkout")
    for name in SUBCOMMANDS:
        module = importlib.import_module(f"semfacediff.commands.{name.replace('-', '_')}")
        command = commands.add_parser(name, help=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(words: list[str] | None = None) -> int:
    """Parse the command line and run the subcommand; returns its exit code."""
    words = sys.argv[1:] if words is None else words
    if words and words[0] in COMMANDS:  # Hydra reads the other words
        start(COMMANDS[words[0]], words[1:], f"semfacediff {words[0]}")
    arguments = command_line().parse_args(words)
    announce()
    try:
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return EXIT_MISTAKE
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
