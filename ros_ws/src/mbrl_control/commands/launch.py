"""``mbrl launch``: start the nodes of a launch file."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mbrl_control.config import nearest
from mbrl_control.errors import MbrlError

SUMMARY = "start the nodes of a launch file"
TEACH = """\
FILE is a name in launch/ (sim) or the path of a launch file. Where ROS 2 is installed ('ros2' on the PATH)
it is handed to 'ros2 launch'; elsewhere, and with --own or --json, the same file is run here.

examples:
  mbrl launch sim                         simulation, guard and planner; Ctrl-C stops all of it
  mbrl launch sim task:=reach speed:=0.3
  mbrl launch sim --show-args             the arguments it takes
  mbrl launch sim --dry-run               the commands it would run
  mbrl launch ./my.launch.yaml --own
"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a name in launch/, as sim, or a path")
    parser.add_argument("arguments", metavar="NAME:=VALUE", nargs="*", help="arguments of the launch file")
    parser.add_argument("--show-args", action="store_true", help="print the arguments it takes and exit")
    parser.add_argument("--dry-run", action="store_true", help="print the commands it would run and exit")
    parser.add_argument("--own", action="store_true", help="run it here even where 'ros2 launch' exists")


def run(args: argparse.Namespace) -> tuple[int, Mapping[str, Any]]:
    from mbrl_control.runtime import launch, processes

    path, ours = launch_file(args.file)
    given = launch.assignments(args.arguments)
    if args.show_args:
        return 0, _show_arguments(launch.arguments(path))
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
    return status, {**result, "status": status}


def launch_file(name: str) -> tuple[Path, bool]:
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

    from mbrl_control.runtime import launch

    if which("ros2") is None:
        return
    if ours:  # ros2 launch ignores a misspelt argument or a file that is not there
        launch.expand(path, given)
    words = ["ros2", "launch", str(path), *(f"{name}:={value}" for name, value in given.items())]
    print("mbrl: " + " ".join(words), file=sys.stderr, flush=True)
    os.execvpe("ros2", words, launch.ros_environ(os.environ))  # noqa: S606 - becoming it is the point


def _show_arguments(found: Sequence[Any]) -> dict[str, Any]:
    for argument in found:
        default = "no default" if argument.default is None else f"default {argument.default}"
        choices = f"; one of {', '.join(argument.choices)}" if argument.choices else ""
        print(f"{argument.name}:=  {argument.description} ({default}{choices})")
    fields = ("name", "default", "description", "choices")
    return {"arguments": [{name: getattr(argument, name) for name in fields} for argument in found]}


def _shown(spec: Any) -> dict[str, Any]:
    import yaml

    def inline(file: Any) -> str:
        [(_, rule)] = yaml.safe_load(file.text).items()
        return yaml.safe_dump(rule["ros__parameters"], default_flow_style=True, width=1000).strip()

    env = {name: value for name, value in spec.env.items() if os.environ.get(name) != value}
    return {"name": spec.name, "command": spec.command(inline), "env": env, "respawn": spec.respawn}
