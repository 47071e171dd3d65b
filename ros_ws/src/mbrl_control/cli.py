"""The ``mbrl`` command: what there is, launching it, and the demonstration.

Every heavy import stands inside the command that needs it, so that ``mbrl --help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mbrl_control.config import Param, add_flags, from_flags, nearest, params
from mbrl_control.core import MbrlError
from mbrl_control.registry import KINDS
from mbrl_control.runtime.demo import DemoConfig

PARAMETER_FIELDS = ("name", "default", "unit", "low", "high", "choices", "live", "doc")

TEACH = """\
first steps:
  mbrl demo                               a simulated arm reaches, is pushed, and is judged; about a minute
  mbrl list                               the robots, tasks, models and planners there are
  mbrl list planners mppi                 every parameter of one of them
  mbrl launch sim --show-args             what can be launched, and with what
  mbrl launch sim robot:=panda speed:=0.5

'mbrl COMMAND --help' tells more of each.
"""
TEACH_LIST = """\
examples:
  mbrl list                               everything
  mbrl list robots
  mbrl list planners mppi                 its parameters: default, unit, what is accepted
  mbrl list --json plugins.json           the same for a program
"""
TEACH_LAUNCH = """\
FILE is a name in launch/ (sim) or the path of a launch file. Where ROS 2 is installed ('ros2' on the PATH)
it is handed to 'ros2 launch'; elsewhere, and with --own or --json, the same file is run here.

examples:
  mbrl launch sim                         simulation, guard and planner; Ctrl-C stops all of it
  mbrl launch sim task:=reach speed:=0.3
  mbrl launch sim --show-args             the arguments it takes
  mbrl launch sim --dry-run               the commands it would run
  mbrl launch ./my.launch.yaml --own
"""
TEACH_DEMO = """\
Exit status: 0 if every goal was reached and no promise was broken, as judged by an independent observer.

examples:
  mbrl demo                               45 s on a simulated Panda
  mbrl demo --seconds 20 --json out.json
  mbrl demo --speed 0.3 --seed 7
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


def _parsers() -> tuple[_Parser, Mapping[str, _Parser]]:
    top = _Parser(
        prog="mbrl",
        description="Learned-model MPC and local controllers for ROS 2, and a guard that has the last word.",
        epilog=TEACH,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="store_true", help="print the version and exit")
    commands = top.add_subparsers(title="commands", dest="command", metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], summary: str, teach: str) -> _Parser:
        parser = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=teach,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.set_defaults(run=run)
        return parser

    demo = command("demo", _demo, "the main job, complete: a simulated arm, planner, guard and a verdict", TEACH_DEMO)
    add_flags(demo, DemoConfig)

    launch = command("launch", _launch, "start the nodes of a launch file", TEACH_LAUNCH)
    launch.add_argument("file", metavar="FILE", help="a name in launch/, as sim, or a path")
    launch.add_argument("arguments", metavar="NAME:=VALUE", nargs="*", help="arguments of the launch file")
    launch.add_argument("--show-args", action="store_true", help="print the arguments it takes and exit")
    launch.add_argument("--dry-run", action="store_true", help="print the commands it would run and exit")
    launch.add_argument("--own", action="store_true", help="run it here even where 'ros2 launch' exists")

    listing = command("list", _list, "the robots, tasks, dynamics and planners there are", TEACH_LIST)
    listing.add_argument("kind", nargs="?", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    listing.add_argument("name", nargs="?", metavar="NAME", help="tell all about this one; package.module works too")
    for parser in (launch, listing):
        parser.add_argument("--json", metavar="FILE", default=None, help="also write the result to this file as JSON")
    return top, {"demo": demo, "launch": launch, "list": listing}


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
    top, commands = _parsers()
    _known_options(argv, top, commands)
    args, rest = top.parse_known_args(argv)
    if args.version:
        from importlib.metadata import version

        print("mbrl_control", version("mbrl_control"))
        return 0
    if args.command is None:
        top.print_help()
        return 2
    if args.command == "launch":  # argparse does not see positional arguments that follow an option
        args.arguments += rest
    elif rest:
        raise UsageError(f"'{rest[0]}': mbrl {args.command} takes no further argument")
    if args.json:
        _check_writable(Path(args.json))
    status = args.run(args)
    sys.stdout.flush()
    return status


def _known_options(argv: Sequence[str], top: _Parser, commands: Mapping[str, _Parser]) -> None:
    """Tell a misspelt option by itself, before its value is taken for something else."""
    parser = top
    for word in argv:
        name = word.split("=")[0]
        if parser is top and word in commands:
            parser = commands[word]
        elif name[:1] == "-" and not name[1:2].isdigit() and name not in (*parser.options(), "-", "--"):
            raise UsageError(f"{name}: {parser.prog} has no such option; {nearest(name, parser.options())}")


# --- mbrl demo --------------------------------------------------------------------------------------


def _demo(args: argparse.Namespace) -> int:
    options = from_flags(DemoConfig, args)
    try:
        from mbrl_control.nodes import demo
    except ModuleNotFoundError as error:
        needed = "pip install 'mbrl_control[demo]', or source ROS 2's setup file"
        raise MbrlError(f"demo: no module '{error.name}' is installed; {needed}") from None
    return demo.run(options)


# --- mbrl launch ------------------------------------------------------------------------------------


def _launch(args: argparse.Namespace) -> int:
    from mbrl_control.runtime import launch, processes

    path, ours = _launch_file(args.file)
    given = launch.assignments(args.arguments)
    if args.show_args:
        return _show_arguments(args, launch.arguments(path))
    if not (args.own or args.dry_run or args.json):
        _hand_over(path, ours, given)
    specs = launch.expand(path, given)
    result: dict[str, Any] = {"file": str(path), "arguments": given}
    if args.dry_run:
        status = 0
        result["processes"] = [_shown(spec) for spec in specs]
        for shown in result["processes"]:
            changed = " ".join(f"{name}={value}" for name, value in shown["env"].items())
            print(f"[{shown['name']}] {changed} {' '.join(shown['command'])}")
    else:
        launcher = processes.run(specs)
        status = launcher.status
        result["exits"] = [
            {"name": end.name, "pid": end.pid, "status": end.status, "respawned": end.again is not None}
            for end in launcher.exits
        ]
    _write_json(args.json, {**result, "status": status})
    return status


def _launch_file(name: str) -> tuple[Path, bool]:
    """The path of a launch file, and whether it is one of ours."""
    from mbrl_control.paths import share

    if "/" in name or name.endswith((".yaml", ".yml", ".py", ".xml")):
        path = Path(name)
        if not path.is_file():
            raise MbrlError(f"{name}: no such file")
        return path, False
    folder = share() / "launch"
    path = folder / f"{name}.launch.yaml"
    if not path.is_file():
        known = [p.name.removesuffix(".launch.yaml") for p in folder.glob("*.launch.yaml")]
        raise MbrlError(f"'{name}': no such launch file in {folder}; {nearest(name, known)}, or give a path")
    return path, True


def _hand_over(path: Path, ours: bool, given: Mapping[str, str]) -> None:
    """Become ``ros2 launch`` where there is one; return where there is none."""
    from shutil import which

    from mbrl_control.config import ConfigError
    from mbrl_control.runtime import launch

    if which("ros2") is None:
        return
    if ours:  # ros2 launch ignores a misspelt argument without a word
        known = [argument.name for argument in launch.arguments(path)]
        for name in given:
            if name not in known:
                raise ConfigError(f"{name}: {path.name} has no such argument; {nearest(name, known)}")
    what = ["mbrl_control", path.name] if ours else [str(path)]
    words = ["ros2", "launch", *what, *(f"{name}:={value}" for name, value in given.items())]
    print("mbrl: " + " ".join(words), file=sys.stderr, flush=True)
    os.execvpe("ros2", words, launch.ros_environ(os.environ))  # noqa: S606 - becoming it is the point


def _show_arguments(args: argparse.Namespace, found: Sequence[Any]) -> int:
    for argument in found:
        default = "no default" if argument.default is None else f"default {argument.default}"
        choices = f"; one of {', '.join(argument.choices)}" if argument.choices else ""
        print(f"{argument.name}:=  {argument.description} ({default}{choices})")
    shown = [
        {name: getattr(argument, name) for name in ("name", "default", "description", "choices")} for argument in found
    ]
    return _write_json(args.json, {"arguments": shown})


def _shown(spec: Any) -> dict[str, Any]:
    import yaml

    def inline(file: Any) -> str:
        [(_, rule)] = yaml.safe_load(file.text).items()
        return yaml.safe_dump(rule["ros__parameters"], default_flow_style=True, width=1000).strip()

    env = {name: value for name, value in spec.env.items() if os.environ.get(name) != value}
    return {"name": spec.name, "command": spec.command(inline), "env": env, "respawn": spec.respawn}


# --- mbrl list --------------------------------------------------------------------------------------


def _list(args: argparse.Namespace) -> int:
    from mbrl_control import registry

    if args.name:
        entry = registry.load(args.kind, args.name)
        print(f"{args.kind} {args.name}: {entry.doc}")
        for parameter in params(entry.config).values():
            print(_explained(parameter))
        return _write_json(args.json, {args.kind: [_entry(entry)]})
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
    return _write_json(args.json, found)


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


# --- JSON -------------------------------------------------------------------------------------------


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


def _write_json(name: str | None, result: Mapping[str, Any]) -> int:
    if name:
        try:
            Path(name).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise _unwritable(Path(name), error) from None
    return 0


def _unwritable(path: Path, error: OSError) -> MbrlError:
    return MbrlError(
        f"--json {path}: {(error.strerror or 'cannot be written').lower()}; it takes a file that can be written"
    )


if __name__ == "__main__":
    sys.exit(main())
