"""mbrl_control: learned-model MPC and local controllers for ROS 2, and a guard that has the last word.

The public API on one screen: the types of the stack, and how plugins are found.

    >>> from mbrl_control import make, names
    >>> names("robots")
    ['cartpole', 'panda', 'pendulum']
    >>> make("robots", "panda").nj
    7
"""

import os
import signal
import sys

if sys.argv[:1] == ["-m"]:  # a node that is only being imported: Ctrl-C ends it without a traceback
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from mbrl_control.core import (
    Block,
    Channels,
    Command,
    Dynamics,
    Goal,
    Info,
    Layout,
    Limits,
    MbrlError,
    Mode,
    Observation,
    Plan,
    Planner,
    Robot,
    State,
    Status,
    Task,
    Term,
    costs,
    rollout,
)
from mbrl_control.registry import load, make, names

__version__ = "0.1.0"
__all__ = [
    "Block",
    "Channels",
    "Command",
    "Dynamics",
    "Goal",
    "Info",
    "Layout",
    "Limits",
    "MbrlError",
    "Mode",
    "Observation",
    "Plan",
    "Planner",
    "Robot",
    "State",
    "Status",
    "Task",
    "Term",
    "costs",
    "load",
    "make",
    "names",
    "rollout",
]
