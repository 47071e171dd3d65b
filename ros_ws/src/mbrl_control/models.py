"""Which model a word names: ``kinematic``, ``package.module``, ``models/NAME``, or NAME alone.

    a dynamics that is registered, or a module with one     as it is
    a folder, or the name of one in models/                 dynamics ``onnx`` with that folder

The same everywhere that a model is asked for: ``mbrl eval --model``, the demo, the launch files, the planner node.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mbrl_control import registry
from mbrl_control.config import nearest, read_yaml
from mbrl_control.model import ModelError
from mbrl_control.model_folder import CARD, GRAPH
from mbrl_control.paths import share

MODELS = "models"


class Located(NamedTuple):
    """What a word stands for."""

    dynamics: str
    settings: dict[str, Any]
    """Of the dynamics and of the planner that it was learned with, as ``{"onnx.model": "/path/to/models/NAME"}``."""
    robot: str
    """The one that it was learned of; empty: the dynamics take several."""


def located(word: str) -> Located:
    """The dynamics that a word names; a folder is there, and exported, or this is an error that says what would do."""
    if word in registry.names("dynamics"):
        return Located(word, {}, "")
    folder = _folder(word)
    if folder is None and "." in word and "/" not in word:
        return Located(word, {}, "")
    if folder is None:
        raise _unknown(word)
    if not (folder / GRAPH).is_file():
        raise ModelError(
            f"model '{word}': no {GRAPH} in it; 'mbrl export {word} --out models/NAME' makes a folder with one"
        )
    found = _card(folder)
    settings = {**found.get("planned_with", {}), "onnx.model": str(folder.resolve())}
    return Located("onnx", settings, found.get("registered") or found["robot"])


def card(word: str) -> Mapping[str, Any]:
    """The card of a model folder, named as for ``located``."""
    folder = _folder(word)
    if folder is None:
        raise _unknown(word)
    return _card(folder)


def _card(folder: Path) -> Mapping[str, Any]:
    found = read_yaml(folder / CARD)
    if not (isinstance(found, dict) and isinstance(found.get("robot"), str)):
        raise ModelError(f"{folder / CARD}: no robot in it; it takes a card as 'mbrl export' writes it")
    return found


def shipped() -> list[str]:
    """The names in the folder models/ that came with this installation."""
    folder = share() / MODELS
    return sorted(path.name for path in folder.iterdir() if (path / CARD).is_file()) if folder.is_dir() else []


def _folder(word: str) -> Path | None:
    """The model folder of that path or name; those of the working folder go before those that came with us."""
    path = Path(word).expanduser()
    tried = [path, Path(MODELS) / path, share() / path, share() / MODELS / path] if word else []
    return next((folder for folder in tried if (folder / CARD).is_file()), None)


def _unknown(word: str) -> ModelError:
    if word and Path(word).expanduser().is_dir():
        return ModelError(f"model '{word}': no {CARD} in that folder; it takes one that 'mbrl export' has written")
    names, models = registry.names("dynamics"), shipped()
    there = f"models/ has {', '.join(models)}" if models else "models/ has none"
    return ModelError(
        f"model '{word}': {nearest(word, [*names, *models])}; it takes one of 'mbrl list dynamics', or a model folder "
        f"or its name in models/ ({there})"
    )
