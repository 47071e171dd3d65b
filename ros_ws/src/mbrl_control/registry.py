"""A name is a file: ``planners/mppi.py`` is the planner ``mppi``, in the CLI, the ROS parameters and the tests.

A plugin file has a frozen dataclass ``Config`` and a function (or class) ``make``:

    robots      make(config) -> Robot
    tasks       make(config, robot) -> Task
    dynamics    make(config, robot, xp) -> Dynamics
    planners    make(config, task, dynamics, xp) -> Planner
    learners    make(config, lab) -> Learner

A task's file may have ``SETTINGS``, parameters of planners that suit it, as ``{"mppi.sigma": 1.0}``; so may a robot's,
of planners and of models that are no folders; a learner's has those of the parts that it uses.

A name with a dot is a module of somebody else's (``mypkg.foo``), which follows the same rule. An installed package
declares its own in the entry point groups ``mbrl_control.planners`` and so on, with the module as the value; then
they are listed, and under the contract tests, like ours.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mbrl_control.config import build, nearest, params
from mbrl_control.errors import MbrlError

KINDS = ("robots", "tasks", "dynamics", "planners", "learners")


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
    settings: Mapping[str, Any] = field(default_factory=dict)
    """``SETTINGS`` of its file: what other parts take with it where nobody says otherwise, as ``mppi.sigma``."""


def names(kind: str) -> list[str]:
    """The names of one kind: our own files, then the modules that installed packages declare, each sorted."""
    own = ours(kind)
    return own + [name for name in _declared(kind, tuple(sys.path)) if name not in own]


def ours(kind: str) -> list[str]:
    """The names of our own files of one kind, sorted."""
    if kind not in KINDS:
        raise RegistryError(f"kind '{kind}': {nearest(kind, KINDS)}")
    package = importlib.import_module(f"mbrl_control.{kind}")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


@functools.cache
def _declared(kind: str, path: tuple[str, ...]) -> list[str]:
    """The modules declared for one kind by the packages that are installed on a search path."""
    from importlib import metadata  # takes its time, and only listing needs it

    found: set[str] = set()
    for package in metadata.distributions(path=list(path)):
        try:
            points = package.entry_points
        except Exception:  # noqa: S112 - what is wrong with somebody's installation hides that package, not the others
            continue
        found.update(point.value for point in points if point.group == f"mbrl_control.{kind}")
    return sorted(found)


def load(kind: str, name: str) -> Entry:
    """The plugin of that kind and name; ``name`` may be a dotted module outside this package."""
    one = kind.removesuffix("s") if kind != "dynamics" else kind
    if "." not in name and name not in ours(kind):
        raise RegistryError(f"{one} '{name}': {nearest(name, names(kind))}, or a module as 'package.{name or 'name'}'")
    path = name if "." in name else f"mbrl_control.{kind}.{name}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise RegistryError(f"{one} '{name}': no module '{error.name}' is installed") from None
    except Exception as error:
        if "." not in name:
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        at = "" if isinstance(error, SyntaxError) else f" ({place.filename}, line {place.lineno})"
        raise RegistryError(f"{one} '{name}': {type(error).__name__}: {' '.join(str(error).split())}{at}") from error
    if not hasattr(module, "Config") or not callable(getattr(module, "make", None)):
        raise RegistryError(f"{one} '{name}': {path} needs a Config dataclass and a function make()")
    try:
        params(module.Config)
    except (TypeError, NameError, AttributeError) as error:
        wanted = f"{path}.Config takes a dataclass whose fields are declared with param()"
        raise RegistryError(f"{one} '{name}': {wanted}; {error}") from error
    doc = (module.__doc__ or "").strip().splitlines()
    settings = getattr(module, "SETTINGS", {})
    return Entry(kind, name, module.Config, module.make, doc[0] if doc else "", settings)


def make(kind: str, name: str, *args: Any, overrides: Mapping[str, Any] | None = None) -> Any:
    """Load a plugin and make it, its ``Config`` built from overrides."""
    entry = load(kind, name)
    return entry.make(build(entry.config, overrides or {}, where=f"{name}."), *args)
