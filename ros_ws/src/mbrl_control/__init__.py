"""mbrl_control: learned-model MPC and local controllers for ROS 2, and a guard that has the last word.

The public API on one screen: the types of the stack, and how plugins are found.

    >>> from mbrl_control import make, names
    >>> names("learners")
    ['pddm', 'pets']
    >>> make("robots", "panda").nj
    7
"""

import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if sys.argv[:1] == ["-m"]:  # a node that is only being imported: Ctrl-C ends it without a traceback
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

if TYPE_CHECKING:
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
_REGISTRY = ("load", "make", "names")


def __getattr__(name: str) -> Any:
    """What is public is imported when it is asked for: a command line that needs none of it answers at once."""
    if name not in __all__:
        raise AttributeError(f"module 'mbrl_control' has no attribute '{name}'")
    return getattr(importlib.import_module(f"mbrl_control.{'registry' if name in _REGISTRY else 'core'}"), name)
