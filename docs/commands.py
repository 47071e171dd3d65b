"""The page ``commands.md``: the command line, as its parsers describe it. Written by ``generate.py``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mbrl_control import cli

INTRO = """\
# Commands

Every command, argument and flag there is, from the parsers themselves. Written by {command}; `mbrl COMMAND --help` says
the same. What the demo's parameters take is told once more, as a table, in [parameters.md](parameters.md).

The exit status is 0 for success, 1 where a command did its work and the verdict is bad, 2 for a mistake in the command
line, 130 after Ctrl-C. A mistake is told in one line: the thing, its value, and what would be accepted.
"""


def page(command: str) -> str:
    """The text of ``commands.md``; ``command`` is what writes it."""
    top, found = cli.parsers()
    parts = [INTRO.format(command=command), *section("mbrl", top)]
    for name, parser in found.items():
        parts += section(f"mbrl {name}", parser)
    return "\n".join(parts)


def section(title: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """One parser: what it is for, what it takes, and its examples."""
    yield f"## {title}\n"
    yield f"{parser.description}\n"
    yield "| takes | what |\n|---|---|"
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            yield f"| {taken(action)} | {said(parser, action)} |"
    for choice in subcommands(parser):
        yield f"| [`{choice.dest}`](#mbrl-{choice.dest}) | {choice.help} |"
    words, examples = "", parser.epilog or ""
    for heading in ("examples:\n", "first steps:\n"):
        if heading in examples:
            words, _, examples = examples.partition(heading)
    if words:
        yield f"\n{words.strip()}"
    lines = (line.removeprefix("  ") for line in examples.rstrip().splitlines())
    yield "\n```text\n" + "\n".join(lines) + "\n```\n"


def subcommands(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action._choices_actions


def taken(action: argparse.Action) -> str:
    """The flag with its value, or the name of what stands at this place."""
    value = str(action.metavar or action.dest)
    if not action.option_strings:
        several = {"?": f"[{value}]", "*": f"[{value} ...]", "+": f"{value} [...]"}
        return code(several.get(str(action.nargs), value))
    return ", ".join(code(name if action.nargs == 0 else f"{name} {value}") for name in action.option_strings)


def code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def said(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """The words of ``--help``."""
    return parser._get_formatter()._expand_help(action).replace("|", "\\|").replace("<", "&lt;")
