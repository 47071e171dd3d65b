"""``mbrl list``: the robots, tasks, dynamics and planners there are."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mbrl_control import registry
from mbrl_control.config import Param, params
from mbrl_control.errors import MbrlError
from mbrl_control.registry import KINDS

SUMMARY = "the robots, tasks, dynamics and planners there are"
TEACH = """\
examples:
  mbrl list                               everything
  mbrl list robots
  mbrl list planners mppi                 its parameters: default, unit, what is accepted
  mbrl list --json plugins.json           the same for a program
"""
PARAMETER_FIELDS = ("name", "default", "unit", "low", "high", "choices", "live", "doc")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", nargs="?", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("name", nargs="?", metavar="NAME", help="tell all about this one; package.module works too")


def run(args: argparse.Namespace) -> tuple[int, Mapping[str, Any]]:
    if args.name:
        entry = registry.load(args.kind, args.name)
        print(f"{args.kind} {args.name}: {entry.doc}")
        for parameter in params(entry.config).values():
            print(_explained(parameter))
        return 0, {args.kind: [_entry(entry)]}
    found: dict[str, list[dict[str, Any]]] = {}
    for kind in [args.kind] if args.kind else KINDS:
        found[kind] = []
        for name in registry.names(kind):
            try:
                found[kind].append(_entry(registry.load(kind, name)))
            except MbrlError as error:  # an optional package that is not installed hides one plugin, not the list
                found[kind].append({"name": name, "error": str(error)})
    width = max((len(entry["name"]) for entries in found.values() for entry in entries), default=0)
    for kind, entries in found.items():
        print(kind)
        for entry in entries:
            print(f"  {entry['name']:{width}}  {entry['doc'] if 'doc' in entry else 'not usable: ' + entry['error']}")
    return 0, found


def _explained(p: Param) -> str:
    unit = f" [{p.unit}]" if p.unit else ""
    live = "; can be changed while running" if p.live else ""
    return f"\n  {p.name} = {_default(p)}{unit}\n      {p.doc}\n      takes {p.accepts()}{live}"


def _default(p: Param) -> str:
    if isinstance(p.default, bool):
        return str(p.default).lower()
    return " ".join(map(str, p.default)) if isinstance(p.default, tuple) else str(p.default)


def _entry(entry: Any) -> dict[str, Any]:
    """A plugin as JSON."""
    parameters = [
        {
            **{name: getattr(p, name) for name in PARAMETER_FIELDS},
            "type": "list" if p.type is tuple else p.type.__name__,
        }
        for p in params(entry.config).values()
    ]
    return {"name": entry.name, "doc": entry.doc, "parameters": parameters}
