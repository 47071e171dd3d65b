"""What a launch file says: the subset of launch's YAML that is accepted, checked before anything of it runs.

``parse_file`` makes ``Action`` of a file. The grammar is data: ``ACTIONS`` names each action's keys and how the
value of each is read, ``SUBSTITUTIONS`` what may stand in a text. Substitutions are parsed here and filled in by
``launch``; until then a text is a ``Text``, a tuple of plain pieces and ``Substitution``.

Values are as strict as ``ros2 launch`` has them: most must be texts (``default: '1.0'``). Whatever is not
understood is a ``ConfigError`` that names the line, also inside a group that a condition would skip.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mbrl_control.config import ConfigError, Marked, nearest, read_marked

RESERVED = ("ros_namespace", "ros_remaps", "global_params", "launch-prefix", "launch-prefix-filter", "emulate_tty",
            "sigterm_timeout", "sigkill_timeout")  # fmt: skip
"""Variables that ``ros2 launch`` reads itself."""


@dataclass(frozen=True, slots=True)
class Substitution:
    """``$(name argument ...)``."""

    name: str
    arguments: tuple[Text, ...]


Text = tuple[str | Substitution, ...]
SUBSTITUTIONS = {"var": (1, 1), "env": (1, 2), "find-pkg-share": (1, 1), "dirname": (0, 0)}
"""Those that are known, with the least and the largest number of arguments."""
_NAME = re.compile(r"\$\(([A-Za-z][A-Za-z0-9_-]*)")


def parse_text(source: str, where: str) -> Text:
    """A text, split at its substitutions."""
    if "\\" in source:
        raise ConfigError(f"{where}: {source!r}: backslashes are not accepted, ros2 launch would swallow them")
    return _fragments(source, 0, where, quote="")[0]


def _fragments(source: str, at: int, where: str, quote: str) -> tuple[Text, int]:
    """Everything up to the closing quote, or to the end where there is none."""
    parts: list[str | Substitution] = []
    while at < len(source) and source[at] != quote:
        piece, at = _piece(source, at, where, quoted=bool(quote))
        _join(parts, piece)
    return tuple(parts), at


def _piece(source: str, at: int, where: str, quoted: bool) -> tuple[str | Substitution, int]:
    return _substitution(source, at, where, quoted) if source.startswith("$(", at) else (source[at], at + 1)


def _join(parts: list[str | Substitution], piece: str | Substitution) -> None:
    last = parts[-1] if parts else None
    if isinstance(piece, str) and isinstance(last, str):
        parts[-1] = last + piece
    else:
        parts.append(piece)


def _substitution(source: str, at: int, where: str, quoted: bool) -> tuple[Substitution, int]:
    match = _NAME.match(source, at)
    name = match[1] if match else ""
    if match is None or name not in SUBSTITUTIONS:
        raise ConfigError(f"{where}: $({name} ...) is not accepted; known: $({' ...), $('.join(SUBSTITUTIONS)} ...)")
    at = match.end()
    found = []
    while source.startswith(" ", at):
        argument, at = _argument(source, at + 1, where, quoted)
        found.append(argument)
    least, most = SUBSTITUTIONS[name]
    if not source.startswith(")", at) or not least <= len(found) <= most:
        number = f"{least}" if least == most else f"{least} or {most}"
        raise ConfigError(
            f"{where}: '{source}': $({name} ...) takes {number} arguments, one space before each, and ')'"
        )
    return Substitution(name, tuple(found)), at + 1


def _argument(source: str, at: int, where: str, quoted: bool) -> tuple[Text, int]:
    quote = source[at : at + 1]
    if quote and quote in "'\"" and not quoted:
        text, at = _fragments(source, at + 1, where, quote)
        if at >= len(source):
            raise ConfigError(f"{where}: '{source}': a quote is not closed")
        return text, at + 1
    parts: list[str | Substitution] = []
    while at < len(source) and source[at] not in " '\"()":
        piece, at = _piece(source, at, where, quoted)
        _join(parts, piece)
    if not parts:
        raise ConfigError(f"{where}: '{source}': an argument is missing or begins with {source[at : at + 1]!r}")
    return tuple(parts), at


@dataclass(frozen=True)
class Action:
    """One entry of a launch file, its keys and the kinds of their values checked."""

    kind: str
    where: str
    fields: Mapping[str, Any]
    places: Mapping[str, str]
    """Where each field stands."""


def _refuse(value: Marked, key: str, wanted: str) -> NoReturn:
    raise ConfigError(f"{value.where}: {key}: {_shown(value)}: it takes {wanted}")


def _shown(value: Marked) -> str:
    kinds = {list: "a list", dict: "a mapping", type(None): "nothing"}
    return kinds.get(type(value.value), repr(value.value))


def _plain(value: Marked, key: str) -> str:
    if not isinstance(value.value, str) or "$(" in value.value or "\\" in value.value:
        _refuse(value, key, "a text without substitutions; quotes make a text of anything")
    return value.value


def _text(value: Marked, key: str) -> Text:
    if not isinstance(value.value, str):
        _refuse(value, key, f"a text, in quotes: '{str(value.value).lower()}'")
    return parse_text(value.value, value.where)


def _output(value: Marked, key: str) -> str:
    if value.value not in ("screen", "log", "both"):  # all of it goes to the screen here
        _refuse(value, key, "screen, log or both")
    return value.value


def _flag(value: Marked, key: str) -> bool:
    if not isinstance(value.value, bool):
        _refuse(value, key, "true or false, without quotes")
    return value.value


def _seconds(value: Marked, key: str) -> float:
    if not isinstance(value.value, float) or not 0.0 <= value.value < math.inf:
        _refuse(value, key, "a number of seconds with a decimal point, as 1.0")
    return value.value


def _shutdown(value: Marked, key: str) -> bool:
    if value.value != "shutdown":
        _refuse(value, key, "shutdown")
    return True


def _command(value: Marked, key: str) -> list[Text]:
    """Arguments of a process: split at blanks and unquoted as a shell would; what is substituted is not split."""
    words: list[list[str | Substitution]] = []
    fresh = True
    source = _text(value, key)
    if not value.value or value.value != value.value.strip():
        _refuse(value, key, "words, without blanks around them")
    for piece in source:
        if isinstance(piece, Substitution):
            tokens: list[str | Substitution] = [piece]
        else:
            try:
                tokens = [*shlex.split(piece)]
            except ValueError:
                _refuse(value, key, "quotes that are closed, and no substitution between them")
            fresh = fresh or piece[0].isspace()
        for token in tokens:
            if fresh:
                words.append([])
            words[-1].append(token)
            fresh = not isinstance(piece, Substitution)
        fresh = isinstance(piece, str) and piece[-1].isspace()
    return [tuple(word) for word in words]


def _scalar(value: Marked, key: str) -> Any:
    if isinstance(value.value, str):
        return parse_text(value.value, value.where)
    if not isinstance(value.value, bool | int | float) or not math.isfinite(value.value):
        _refuse(value, key, "true or false, a finite number, a text, or a list of one of these")
    return value.value


def _value(value: Marked, key: str) -> Any:
    """A parameter's value; texts are still unsubstituted."""
    if isinstance(value.value, list) and value.value:
        return [_scalar(item, key) for item in value.value]
    return _scalar(value, key)


Reader = Callable[[Marked, str], Any]


def _entries(read: Reader) -> Reader:
    def read_all(value: Marked, key: str) -> list[Any]:
        if not isinstance(value.value, list) or not value.value:
            _refuse(value, key, "a list, an entry a line, each after '- '")
        return [read(item, key) for item in value.value]

    return read_all


def _keys(readers: Mapping[str, Reader], required: Sequence[str]) -> Reader:
    def read(value: Marked, key: str) -> dict[str, Any]:
        if not isinstance(value.value, dict):
            _refuse(value, key, "keys: " + ", ".join(readers))
        for name, item in value.value.items():
            if name not in readers:
                raise ConfigError(f"{item.where}: {key} has no key '{name}'; {nearest(name, readers)}")
        for name in required:
            if name not in value.value:
                raise ConfigError(f"{value.where}: {key} needs the key '{name}'")
        return {name: readers[name](item, name) for name, item in value.value.items()}

    return read


def _parameter(value: Marked, key: str) -> dict[str, Any]:
    """``from: file``, or a name with a value, or a name with parameters inside."""
    readers = {"from": _text, "name": _text, "value": _value, "param": _entries(_parameter)}
    found = _keys(readers, ())(value, key)
    if set(found) not in ({"from"}, {"name", "value"}, {"name", "param"}):
        raise ConfigError(f"{value.where}: param takes either from, or name with value, or name with param")
    if any("from" in inner for inner in found.get("param", ())):
        raise ConfigError(f"{value.where}: a parameter file cannot stand inside another parameter")
    return {**found, "where": value.where}


def _actions(value: Marked, key: str) -> list[Action]:
    if not isinstance(value.value, list):
        _refuse(value, key, "a list of actions, each after '- '")
    found = []
    for item in value.value:
        if not isinstance(item.value, dict) or len(item.value) != 1:
            _refuse(item, key, "one action in each entry, as '- node: ...'")
        [(kind, body)] = item.value.items()
        if kind not in ACTIONS:
            raise ConfigError(
                f"{item.where}: '{kind}' is not an action that mbrl launch runs; {nearest(kind, ACTIONS)}"
            )
        if kind == "group" and isinstance(body.value, list):
            body = Marked({"children": body}, body.where)
        fields = ACTIONS[kind](body, kind)
        if "if" in fields and "unless" in fields:
            raise ConfigError(f"{body.where}: {kind} takes if or unless, not both")
        if fields.get("on_exit") and "respawn" in fields:
            raise ConfigError(f"{body.where}: node takes on_exit or respawn, not both")
        found.append(Action(kind, body.where, fields, {name: field.where for name, field in body.value.items()}))
    return found


_CONDITION: dict[str, Reader] = {"if": _text, "unless": _text}
_PAIR = _entries(_keys({"name": _text, "value": _text}, ("name", "value")))
ACTIONS: dict[str, Reader] = {
    "arg": _keys(
        {
            "name": _plain, "default": _text, "description": _plain,
            "choice": _entries(_keys({"value": _plain}, ["value"])),
        },
        ["name"],
    ),
    "let": _keys({"name": _plain, "value": _text, **_CONDITION}, ["name", "value"]),
    "set_env": _keys({"name": _plain, "value": _text, **_CONDITION}, ["name", "value"]),
    "include": _keys({"file": _text, "arg": _PAIR, **_CONDITION}, ["file"]),
    "group": _keys({"scoped": _flag, "children": _actions, **_CONDITION}, ["children"]),
    "node": _keys(
        {
            "pkg": _text, "exec": _text, "name": _text, "namespace": _text, "output": _output, "args": _command,
            "respawn": _text, "respawn_delay": _seconds, "on_exit": _shutdown,
            "param": _entries(_parameter), "env": _PAIR,
            "remap": _entries(_keys({"from": _text, "to": _text}, ["from", "to"])),
            **_CONDITION,
        },
        ["pkg", "exec"],
    ),
}  # fmt: skip


def parse_file(path: Path) -> list[Action]:
    """The actions of a launch file, all of them checked, whether a condition would skip them or not."""
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{path}: mbrl launch runs YAML launch files only (.yaml)")
    return _keys({"launch": _actions}, ["launch"])(read_marked(path), "a launch file")["launch"]


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument that a launch file declares."""

    name: str
    default: str | None
    description: str
    choices: tuple[str, ...]


def flat(actions: Sequence[Action]) -> Iterator[Action]:
    """All actions, also those inside groups."""
    for action in actions:
        yield action
        yield from flat(action.fields.get("children", ()))


def declaration(action: Action) -> Argument:
    """What an ``arg`` action declares."""
    default = _source(action.fields["default"]) if "default" in action.fields else None
    choices = tuple(choice["value"] for choice in action.fields.get("choice", ()))
    name = unreserved(action.fields["name"], action.where)
    return Argument(name, default, action.fields.get("description", ""), choices)


def _source(text: Text) -> str:
    return "".join(
        part if isinstance(part, str) else f"$({' '.join([part.name, *map(_source, part.arguments)])})" for part in text
    )


def unreserved(name: str, where: str) -> str:
    """The name of a variable, refused where ``ros2 launch`` would read it itself."""
    if name in RESERVED:
        raise ConfigError(f"{where}: '{name}' means something to ros2 launch itself; choose another name")
    return name
