"""The ``mbrl`` command: finds the sub-commands, reads the command line, tells mistakes in one line.

What each of them does stands in ``commands/``. Nothing heavy is imported here, so that ``mbrl --help`` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import signal
import sys
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mbrl_control import commands
from mbrl_control.config import nearest
from mbrl_control.errors import MbrlError

TEACH = """\
first steps:
  mbrl demo                               a simulated arm reaches, is pushed, and is judged; about a minute
  mbrl list                               the robots, tasks, models and planners there are
  mbrl list planners mppi                 every parameter of one of them
  mbrl launch sim --show-args             what can be launched, and with what
  mbrl launch sim robot:=panda speed:=0.5

'mbrl COMMAND --help' tells more of each.
"""


class UsageError(MbrlError):
    """A command line that is not understood."""


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, with the nearest thing that exists."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see '{self.prog} --help')")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise UsageError(f"'{value}': no such {action.dest}; {nearest(str(value), action.choices)}")

    def options(self) -> list[str]:
        return list(self._option_string_actions)


def parsers(words: Container[str] | None = None) -> tuple[_Parser, Mapping[str, _Parser]]:
    """The parser of the whole command line, and that of each sub-command.

    Where ``words`` of a command line are given, the sub-commands that are not among them have no arguments: what they
    would take to declare them is not needed.
    """
    top = _Parser(
        prog="mbrl",
        description="Learned-model MPC and local controllers for ROS 2, and a guard that has the last word.",
        epilog=TEACH,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="store_true", help="print the version and exit")
    found = top.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    known: dict[str, _Parser] = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(commands.__path__)):
        command = importlib.import_module(f"mbrl_control.commands.{name}")
        known[name] = parser = found.add_parser(
            name,
            help=command.SUMMARY,
            description=command.SUMMARY[0].upper() + command.SUMMARY[1:] + ".",
            epilog=command.TEACH,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if words is None or name in words:
            command.add(parser)
        parser.add_argument("--json", metavar="FILE", default=None, help="also write the result to this file as JSON")
        parser.set_defaults(run=command.run)
    return top, known


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except MbrlError as error:
        print(f"mbrl: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # as in `mbrl list | head -1`; the interpreter must not find out again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(argv: list[str]) -> int:
    top, known = parsers(argv)
    check_options(argv, top, known)
    args, rest = top.parse_known_args(argv)
    if args.version:
        from importlib.metadata import version

        print("mbrl_control", version("mbrl_control"))
        return 0
    if args.command is None:
        top.print_help()
        return 2
    if "arguments" in args:  # argparse does not see positional arguments that follow an option
        args.arguments += rest
    elif rest:
        raise UsageError(f"'{rest[0]}': mbrl {args.command} takes no further argument")
    if args.json:
        _check_writable(Path(args.json))
    status, result = args.run(args)
    if args.json:
        _write_json(Path(args.json), result)
    sys.stdout.flush()
    return status


def check_options(argv: Sequence[str], top: _Parser, known: Mapping[str, _Parser]) -> None:
    """Tell a misspelt option by itself, before its value is taken for something else."""
    parser = top
    for word in argv:
        name = word.split("=")[0]
        if parser is top and word in known:
            parser = known[word]
        elif parser is top and name[:1] != "-":
            return  # no command of ours: that is what is to be told, not its options
        elif name[:1] == "-" and not name[1:2].isdigit() and name not in (*parser.options(), "-", "--"):
            raise UsageError(f"{name}: {parser.prog} has no such option; {nearest(name, parser.options())}")


def _check_writable(path: Path) -> None:
    """Before long work, not after it."""
    new = not path.exists()
    try:
        with path.open("a"):
            pass
        if new:
            path.unlink()
    except OSError as error:
        raise _unwritable(path, error) from None


def _write_json(path: Path, result: Mapping[str, Any]) -> None:
    try:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> MbrlError:
    return MbrlError(
        f"--json {path}: {(error.strerror or 'cannot be written').lower()}; it takes a file that can be written"
    )


if __name__ == "__main__":
    sys.exit(main())
