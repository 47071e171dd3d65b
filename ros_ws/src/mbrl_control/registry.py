"""A name is a file: ``planners/mppi.py`` is the planner ``mppi``, in the CLI, the ROS parameters and the tests.

A plugin file has a frozen dataclass ``Config`` and a function (or class) ``make``:

    robots      make(config) -> Robot
    tasks       make(config, robot) -> Task
    dynamics    make(config, robot, xp) -> Dynamics
    planners    make(config, task, dynamics, xp) -> Planner

A name with a dot is a module of somebody else's (``mypkg.foo``), which follows the same rule.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mbrl_control.config import build, nearest
from mbrl_control.core import MbrlError

KINDS = ("robots", "tasks", "dynamics", "planners")


class RegistryError(MbrlError):
    """A name that stands for nothing, or a file that is not a plugin."""


@dataclass(frozen=True)
class Entry:
    """One plugin file."""

    kind: str
    name: str
    config: type
    make: Callable[..., Any]
    doc: str
    """First line of the file's docstring."""


def names(kind: str) -> list[str]:
    """The names of our own files of one kind, sorted."""
    if kind not in KINDS:
        raise RegistryError(f"kind '{kind}': {nearest(kind, KINDS)}")
    package = importlib.import_module(f"mbrl_control.{kind}")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def load(kind: str, name: str) -> Entry:
    """The plugin of that kind and name; ``name`` may be a dotted module outside this package."""
    one = kind.removesuffix("s") if kind != "dynamics" else kind
    if "." not in name and name not in names(kind):
        raise RegistryError(f"{one} '{name}': {nearest(name, names(kind))}, or a module as 'package.{name or 'name'}'")
    path = name if "." in name else f"mbrl_control.{kind}.{name}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise RegistryError(f"{one} '{name}': no module '{error.name}' is installed") from None
    if not hasattr(module, "Config") or not callable(getattr(module, "make", None)):
        raise RegistryError(f"{one} '{name}': {path} needs a Config dataclass and a function make()")
    doc = (module.__doc__ or "").strip().splitlines()
    return Entry(kind, name, module.Config, module.make, doc[0] if doc else "")


def make(kind: str, name: str, *args: Any, overrides: Mapping[str, Any] | None = None) -> Any:
    """Load a plugin and make it, its ``Config`` built from overrides."""
    entry = load(kind, name)
    return entry.make(build(entry.config, overrides or {}, where=f"{name}."), *args)
