"""The robots that there are, through the registry: a file put into ``robots/`` is under these tests by itself."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from mbrl_control import registry
from mbrl_control.config import params
from mbrl_control.core import Mode, Robot
from mbrl_control.rigid_body import Chain


def module_of(name: str) -> Any:
    """The file of a robot."""
    return importlib.import_module(registry.load("robots", name).config.__module__)


def made(name: str, **config: float) -> Robot:
    return registry.make("robots", name, overrides=config)


def _chain(module: ModuleType) -> Chain | None:
    """What the file calls ``chain(config)``, or ``CHAIN`` where it depends on nothing."""
    return module.chain(module.Config()) if hasattr(module, "chain") else getattr(module, "CHAIN", None)


CHAINS = {name: chain for name in registry.ours("robots") if (chain := _chain(module_of(name))) is not None}
"""Robots that are serial chains, with their default Config."""
ARMS = [name for name in registry.ours("robots") if made(name).channels.mode is Mode.VELOCITY_REFERENCE]
ARMS = [name for name in ARMS if not made(name).obstacles]
"""Robots that the guard commands; one among obstacles is the same as without."""
TOOLS = [name for name in CHAINS if {"tool_offset", "tool_mass", "payload"} <= params(module_of(name).Config).keys()]
"""Arms whose Config says what is mounted on them."""
