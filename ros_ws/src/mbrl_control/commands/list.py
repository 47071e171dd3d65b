"""``mbrl list``: the robots, tasks, dynamics, planners, learners and learned models there are."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mbrl_control import registry
from mbrl_control.config import Param, params
from mbrl_control.errors import MbrlError
from mbrl_control.registry import KINDS

MODELS = "models"
SUMMARY = "the robots, tasks, dynamics, planners, learners and learned models there are"
TEACH = """\
examples:
  mbrl list                               everything
  mbrl list robots
  mbrl list planners mppi                 its parameters: default, unit, what is accepted
  mbrl list models panda                  what a learned model is of, and how it was judged
  mbrl list --json plugins.json           the same for a program
"""
PARAMETER_FIELDS = ("name", "default", "unit", "low", "high", "choices", "live", "doc")


def add(parser: argparse.ArgumentParser) -> None:
    kinds = (*KINDS, MODELS)
    parser.add_argument("kind", nargs="?", choices=kinds, metavar="KIND", help=", ".join(kinds))
    parser.add_argument("name", nargs="?", metavar="NAME", help="tell all about this one; package.module works too")


def run(args: argparse.Namespace) -> tuple[int, Mapping[str, Any]]:
    if args.name and args.kind == MODELS:
        return 0, {MODELS: [_shown(args.name)]}
    if args.name:
        entry = registry.load(args.kind, args.name)
        print(f"{args.kind} {args.name}: {entry.doc}")
        for parameter in params(entry.config).values():
            print(_explained(parameter))
        return 0, {args.kind: [_entry(entry)]}
    from mbrl_control.models import shipped

    found: dict[str, list[dict[str, Any]]] = {}
    for kind in [args.kind] if args.kind else (*KINDS, MODELS):
        if kind == MODELS:
            found[kind] = [_model(name) for name in shipped()]
            continue
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


def _model(name: str) -> dict[str, Any]:
    """A model folder in a line."""
    from mbrl_control.models import card

    found = card(name)
    learned = found.get("learned") or {}
    how = "{task} by {learner} with {planner}".format(**learned) if learned else "data"
    return {"name": name, "doc": f"robot {found['robot']}, learned from {how}; steps of {found['dt']:g} s"}


def _shown(name: str) -> dict[str, Any]:
    """What the card of a model says of it, for people; all of it for a program."""
    from mbrl_control.models import card

    found, told = card(name), _model(name)
    print(f"{MODELS} {name}: {told['doc']}")
    data = found.get("data") or {}
    print(f"  fitted to {data.get('steps')} steps of {data.get('episodes')} episodes")
    if simulation := found.get("simulation"):
        print("  in simulation with " + ", ".join(f"{key} {value:g}" for key, value in simulation.items()))
    for check in found.get("validation") or ():
        verdict = "passed" if check["passed"] else "FAILED, forced"
        value = "-" if check["value"] is None else f"{check['value']:.4g}"
        print(f"  {verdict}   {check['name']:10s}   {value:>7s}   {check['accepts']}   {check['note']}".rstrip())
    print(f"  made by: {found.get('command')}")
    return {"name": name, "card": found}


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
