"""``mbrl demo``: the main job, complete."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mbrl_control.config import add_flags, from_flags
from mbrl_control.errors import MbrlError

SUMMARY = "the main job, complete: a simulated arm, planner, guard and a verdict"
TEACH = """\
The simulated Panda is not what its file says: it carries 2 kg that nobody was told of, on a soft servo. The planner
makes up for it with a learned model, models/panda; --model kinematic shows what comes of none, --arm ideal is the arm
of the file. Other robots are ideal, unless models/ has a folder of their name.

Exit status: 0 if every goal was reached and no promise was broken, as judged by an independent observer.

examples:
  mbrl demo                               45 s on a simulated Panda
  mbrl demo --seconds 20 --json out.json
  mbrl demo --speed 0.3 --seed 7
  mbrl demo --model kinematic             the same arm, the nominal model: it misses its goals by some 5 cm
  mbrl demo --arm ideal
"""


def add(parser: argparse.ArgumentParser) -> None:
    from mbrl_control.runtime.demo import DemoConfig

    add_flags(parser, DemoConfig)


def run(args: argparse.Namespace) -> tuple[int, Mapping[str, Any]]:
    from mbrl_control.runtime.demo import DemoConfig

    options = from_flags(DemoConfig, args)
    try:
        from mbrl_control.nodes import demo
    except ModuleNotFoundError as error:
        needed = "pip install 'mbrl_control[demo]', or source ROS 2's setup file"
        raise MbrlError(f"demo: no module '{error.name}' is installed; {needed}") from None
    return demo.run(options)
