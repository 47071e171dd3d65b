"""One declaration of a parameter, and everything that follows from it.

A frozen ``Config`` dataclass at the top of the file it configures declares each parameter with ``param``:
default, unit, bounds and what it is for. From that come the validation (here), the flags of the command
line (``add_flags``), the ROS parameters with ranges (``nodes/params.py``) and the page of the docs.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml

from mbrl_control.errors import MbrlError

T = TypeVar("T")
MAX_YAML_BYTES = 1_000_000
MAX_YAML_DEPTH = 50


class ConfigError(MbrlError):
    """A parameter that is unknown, of the wrong type, or out of bounds."""


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter as declared."""

    name: str
    type: type
    """float, int, bool, str, or tuple for a list."""
    default: Any
    doc: str
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    live: bool
    """May be changed while running."""
    items: type = float
    """What a list is of: float or str."""

    def accepts(self) -> str:
        """What would be accepted, in words."""
        if self.choices:
            return "one of " + ", ".join(choice or "nothing" for choice in self.choices)
        noun = {
            float: "a number",
            int: "a whole number",
            bool: "true or false",
            str: "a text",
            tuple: "a list of texts" if self.items is str else "a list of numbers",
        }
        low, high = self.low, self.high
        bounds = ""
        if low is not None and high is not None:
            bounds = f" from {low:.10g} to {high:.10g}"
        elif low is not None:
            bounds = f" of at least {low:.10g}"
        elif high is not None:
            bounds = f" of at most {high:.10g}"
        return noun[self.type] + bounds + (f" [{self.unit}]" if self.unit else "")

    def parse(self, value: Any, where: str = "") -> Any:
        """The value in the declared type, or a ``ConfigError`` that says what would be accepted."""
        fault = ConfigError(f"{where}{self.name} = {value!r}: it takes {self.accepts()}")
        try:
            parsed = self._convert(value)
        except (TypeError, ValueError, OverflowError):
            raise fault from None
        values = parsed if self.type is tuple else (parsed,)
        numbers = values if self.type in (float, int) or (self.type is tuple and self.items is float) else ()
        for number in numbers:
            inside = (self.low is None or number >= self.low) and (self.high is None or number <= self.high)
            if not math.isfinite(number) or not inside:
                raise fault
        if self.choices and parsed not in self.choices:
            raise fault
        return parsed

    def _convert(self, value: Any) -> Any:
        if self.type is tuple:
            if isinstance(value, str):
                value = [part for part in value.replace(",", " ").split() if part]
            return tuple(_word(v) if self.items is str else _number(v) for v in value)
        if self.type is bool:
            words = {"true": True, "false": False, True: True, False: False}
            key = value.lower() if isinstance(value, str) else value
            if not isinstance(key, bool | str) or key not in words:
                raise ValueError
            return words[key]
        if self.type is int:
            number = _whole(value)
            if number != int(number) or not -(2**63) <= number < 2**63:
                raise ValueError
            return int(number)
        if self.type is float:
            return _number(value)
        if not isinstance(value, str):
            raise ValueError
        return value


def _whole(value: Any) -> float:
    """An int where it is one, since a float would round a large one."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else _number(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError
    return float(value)


def _word(value: Any) -> str:
    """A text of a list: without blanks and commas, which separate texts on a command line."""
    if not isinstance(value, str) or value.replace(",", " ").split() != [value]:
        raise ValueError
    return value


def param(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: Iterable[str] = (),
    live: bool = False,
) -> Any:
    """Declare one field of a ``Config``."""
    meta = {"doc": doc, "unit": unit, "low": low, "high": high, "choices": tuple(choices), "live": live}
    return dataclasses.field(default=default, metadata=meta)


def params(config: type) -> dict[str, Param]:
    """The parameters that a ``Config`` class declares, by name."""
    hints = get_type_hints(config)
    found = {}
    for field in dataclasses.fields(config):
        hint = hints[field.name]
        kind, items = getattr(hint, "__origin__", hint), next(iter(get_args(hint)), float)
        found[field.name] = Param(field.name, kind, field.default, **field.metadata, items=items)
    return found


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for a name that is close to a known one, or the whole list."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else "known: " + (", ".join(known) or "none")


def build(config: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """A ``Config`` from overrides; an unknown key is an error that names the nearest one."""
    declared = params(config)
    for name in values:
        if name not in declared:
            raise ConfigError(f"{where}{name}: no such parameter; {nearest(str(name), declared)}")
    return config(**{name: declared[name].parse(value, where) for name, value in values.items()})


def add_flags(parser: argparse.ArgumentParser, config: type) -> None:
    """One flag for each parameter; what is not given keeps its default."""
    for name, p in params(config).items():
        takes = "" if p.accepts() == "a text" else p.accepts()
        default = "" if p.default == "" else f"default {p.default}"
        more = "; ".join(part for part in (takes, default) if part)
        shown = (f"{p.doc} ({more})" if more else p.doc).replace("%", "%%")
        many = "TEXTS" if p.items is str else "NUMBERS"
        metavar = {str: "TEXT", bool: "true|false", tuple: many}.get(p.type, "NUMBER")
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, help=shown, default=None, metavar=metavar)


def from_flags(config: type[T], args: argparse.Namespace) -> T:
    """The ``Config`` that the flags of ``add_flags`` give."""
    given = {name: getattr(args, name) for name in params(config) if getattr(args, name) is not None}
    return build(config, given, where="--")


class _StrictLoader(yaml.SafeLoader):
    """YAML without surprises: no tags, no aliases, no duplicate keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not accepted", problem_mark=event.start_mark)
        self.depth = getattr(self, "depth", 0) + 1
        if self.depth > MAX_YAML_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"nested deeper than {MAX_YAML_DEPTH}", problem_mark=self.peek_event().start_mark
            )
        if getattr(self.peek_event(), "tag", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="tags (!name) are not accepted", problem_mark=self.peek_event().start_mark
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key_node.tag != "tag:yaml.org,2002:str":
                raise yaml.MarkedYAMLError(problem="a key must be a plain name", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key '{key}' stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, where: str) -> Any:
    """A YAML document, strictly; every mistake is one line with the place."""
    return _load(text, where, lambda loader: loader.get_single_data())


def _load(text: str, where: str, take: Callable[[_StrictLoader], T]) -> T:
    try:
        loader = _StrictLoader(text)
        try:
            return take(loader)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}" if mark else ""
        parts = [error.context, error.problem] if (error.problem or "").startswith("but ") else [error.problem]
        raise ConfigError(f"{where}{line}: {' '.join(part for part in parts if part)}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not YAML: {str(error).splitlines()[0]}") from None


def read_yaml(path: Path) -> Any:
    """A YAML file, strictly."""
    return parse_yaml(_read(path), str(path))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_YAML_BYTES + 1)
        if len(data) > MAX_YAML_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_YAML_BYTES} bytes; no more is read")
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None


@dataclass(frozen=True, slots=True)
class Marked:
    """A YAML value that knows where it stands; the members of its lists and mappings are marked as well."""

    value: Any
    where: str
    """``sim.launch.yaml line 12``."""


def read_marked(path: Path) -> Marked:
    """A YAML file, strictly, every value with its place, for mistakes that only its reader can see."""
    return _load(_read(path), path.name, lambda loader: _marked(loader, loader.get_single_node(), path.name))


def _marked(loader: _StrictLoader, node: Any, where: str, key: Any = None) -> Marked:
    if node is None:
        return Marked(None, f"{where} line 1")
    place = f"{where} line {(key or node).start_mark.line + 1}"  # what has a key stands where its key stands
    if isinstance(node, yaml.MappingNode):
        loader.construct_mapping(node)  # refuses doubled keys and keys that are no names
        return Marked({key.value: _marked(loader, value, where, key) for key, value in node.value}, place)
    if isinstance(node, yaml.SequenceNode):
        return Marked([_marked(loader, value, where) for value in node.value], place)
    return Marked(loader.construct_object(node), place)
