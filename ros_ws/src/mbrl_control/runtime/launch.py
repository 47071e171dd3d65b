"""Runs ROS 2 launch files on a machine that has only the Python packages: a strict subset of launch's YAML.

What is accepted here means the same to ``ros2 launch``; whatever else it may know is an error that names the
line. The subset: the actions ``arg``, ``let``, ``set_env``, ``node``, ``include`` and ``group``, conditions
``if`` and ``unless``, and the substitutions ``$(var x)``, ``$(env X default)``, ``$(find-pkg-share pkg)`` and
``$(dirname)``. Odd but so in ``ros2 launch`` too: what an included file sets stays set after it, unless a group
is put around it, and most values must be texts (``default: '1.0'``).

One thing is on purpose not as there: a node that fails takes the others with it, unless it respawns, so that an
arm is not left to half a control stack. (``on_exit: shutdown`` makes ``ros2 launch`` do the same.)

``expand`` turns a file into process specs, ``Launcher`` runs them, ``run`` does so until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
import selectors
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import yaml

from mbrl_control.config import ConfigError, Marked, nearest, parse_yaml, read_marked
from mbrl_control.core import MbrlError

OURS = "mbrl_control"
SOURCE = Path(__file__).resolve().parents[4]
"""The source tree, where there is one: it goes before what was installed from it."""
RESERVED = ("ros_namespace", "ros_remaps", "global_params", "launch-prefix", "launch-prefix-filter", "emulate_tty",
            "sigterm_timeout", "sigkill_timeout")  # fmt: skip
"""Variables that ``ros2 launch`` reads itself."""


# --- What a file comes to ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ParameterFile:
    """A ROS parameter file that is written when its process starts; stands in the arguments for its path."""

    text: str


@dataclass(frozen=True)
class ProcessSpec:
    """A process to start."""

    name: str
    """The node's name, made unique."""
    argv: tuple[str | ParameterFile, ...]
    env: Mapping[str, str]
    respawn: bool = False
    respawn_delay: float = 0.0
    essential: bool = False
    """Its end ends the whole, even when it finished well (``on_exit: shutdown``)."""
    notes: tuple[str, ...] = ()
    """What is odd about it, to be told when it starts."""

    def command(self, write: Callable[[ParameterFile], str]) -> list[str]:
        """The arguments as texts; ``write`` gives the path of a parameter file."""
        return [arg if isinstance(arg, str) else write(arg) for arg in self.argv]

    def with_env(self, more: Mapping[str, str]) -> ProcessSpec:
        """The same with these variables set besides."""
        return replace(self, env={**self.env, **more})


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument that a launch file declares."""

    name: str
    default: str | None
    description: str
    choices: tuple[str, ...]


def expand(
    path: Path, given: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None
) -> list[ProcessSpec]:
    """The processes that a launch file starts, for these arguments and this environment."""
    walk = _Walk(dict(given or {}), ros_environ(os.environ if environ is None else environ))
    walk.file(path, given or {}, where="")
    taken: set[str] = set()
    unique = []
    for spec in walk.specs:
        name, n = spec.name, 1
        while name in taken:
            n += 1
            name = f"{spec.name}-{n}"
        taken.add(name)
        unique.append(replace(spec, name=name))
    return unique


def arguments(path: Path, environ: Mapping[str, str] | None = None) -> list[Argument]:
    """What a launch file, and what it includes as far as that can be told without launching, declares."""
    walk = _Walk({}, ros_environ(os.environ if environ is None else environ))
    return list({argument.name: argument for argument in walk.arguments(path)}.values())


def assignments(words: Sequence[str]) -> dict[str, str]:
    """The arguments of a command line, ``name:=value``; the last of a name counts."""
    given = {}
    for word in words:
        name, sign, value = word.partition(":=")
        if not (name and sign and value):
            raise ConfigError(f"'{word}': arguments of a launch file are written name:=value")
        given[name] = value
    return given


# --- Texts with substitutions -----------------------------------------------------------------------


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


# --- The file's grammar, as data --------------------------------------------------------------------


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


# --- From actions to processes ----------------------------------------------------------------------


@dataclass
class _Walk:
    """Visits actions in order, as ``ros2 launch`` does, and notes the processes on the way."""

    variables: dict[str, str]
    environ: dict[str, str]
    specs: list[ProcessSpec] = field(default_factory=list)
    declared: list[Argument] = field(default_factory=list)
    open: list[Path] = field(default_factory=list)
    """The files being read, the innermost last."""
    folder: Path = Path()
    """``$(dirname)`` as ``ros2 launch`` has it: of the file that was opened last."""

    def file(self, path: Path, given: Mapping[str, str], where: str) -> None:
        path = path.absolute()
        if path in self.open:
            raise ConfigError(f"{where}{path.name} includes itself")
        actions = parse_file(path)
        self.open.append(path)
        self.folder = path.parent
        before = len(self.declared)
        own = [_declaration(action) for action in _flat(actions) if action.kind == "arg"]
        includes = any(action.kind == "include" for action in _flat(actions))
        if not includes:  # a misspelt argument is told before what follows from it
            self._known(given, own, path, where)
        for argument in own:
            if argument.default is None and argument.name not in given:
                raise ConfigError(f"{where}{path.name} needs a value for {argument.name}, which has no default")
        self.run(actions)
        if includes:
            self._known(given, self.declared[before:], path, where)
        self.open.pop()

    def _known(self, given: Mapping[str, str], declared: Sequence[Argument], path: Path, where: str) -> None:
        known = [argument.name for argument in declared]
        for name in given:
            if name not in known:
                raise ConfigError(f"{where}{name}: {path.name} has no such argument; {nearest(name, known)}")

    def arguments(self, path: Path) -> Iterator[Argument]:
        """The arguments declared in a file and in those it includes, whatever the conditions."""
        self.open.append(path.absolute())
        self.folder = path.absolute().parent
        for action in _flat(parse_file(path)):
            if action.kind == "arg":
                yield _declaration(action)
            with contextlib.suppress(ConfigError):  # what cannot be told before launching is left out
                if action.kind == "include":
                    inner = Path(self.field(action, "file")).absolute()
                    if inner not in self.open:
                        yield from self.arguments(inner)
                elif action.kind in ("arg", "let"):
                    key = "default" if action.kind == "arg" else "value"
                    self.variables[action.fields["name"]] = self.field(action, key) if key in action.fields else ""
            self.folder = self.open[-1].parent
        self.open.pop()

    def run(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if self._wanted(action):
                getattr(self, f"_{action.kind}")(action)

    def field(self, action: Action, key: str) -> str:
        return self.text(action.fields[key], action.places[key])

    def text(self, text: Text, where: str) -> str:
        return "".join(part if isinstance(part, str) else self._substitute(part, where) for part in text)

    def _substitute(self, part: Substitution, where: str) -> str:
        args = [self.text(argument, where) for argument in part.arguments]
        if part.name == "var":
            if args[0] not in self.variables:
                raise ConfigError(f"{where}: $(var {args[0]}): no such argument; {nearest(args[0], self.variables)}")
            return self.variables[args[0]]
        if part.name == "env":
            value = self.environ.get(*args)
            if value is None:
                raise ConfigError(f"{where}: $(env {args[0]}): not set, and no default is given")
            return value
        if part.name == "find-pkg-share":
            return str(_package(args[0], self.environ, where).share)
        if self.folder != self.open[-1].parent:
            raise ConfigError(
                f"{where}: $(dirname) after an include of another folder: ros2 launch would give {self.folder}; "
                "use it before, or use $(find-pkg-share ...)"
            )
        return str(self.folder)

    def _wanted(self, action: Action) -> bool:
        for key in ("if", "unless"):
            if key in action.fields:
                return self._truth(action, key) == (key == "if")
        return True

    def _truth(self, action: Action, key: str) -> bool:
        word = self.field(action, key)
        words = {"true": True, "1": True, "false": False, "0": False}
        if word.strip().lower() not in words:
            raise ConfigError(f"{action.places[key]}: {key}: '{word}': it takes true or false")
        return words[word.strip().lower()]

    def _arg(self, action: Action) -> None:
        argument = _declaration(action)
        self.declared.append(argument)
        if argument.name not in self.variables:
            self.variables[argument.name] = self.field(action, "default")
        value = self.variables[argument.name]
        if argument.choices and value not in argument.choices:
            raise ConfigError(f"{argument.name} = '{value}': it takes one of {', '.join(argument.choices)}")

    def _let(self, action: Action) -> None:
        name = _unreserved(action.fields["name"], action.where)
        self.variables[name] = self.field(action, "value")

    def _set_env(self, action: Action) -> None:
        self.environ[action.fields["name"]] = self.field(action, "value")

    def _group(self, action: Action) -> None:
        before = dict(self.variables), dict(self.environ)
        self.run(action.fields["children"])
        if action.fields.get("scoped", True):
            self.variables, self.environ = before

    def _include(self, action: Action) -> None:
        path = Path(self.field(action, "file")).absolute()
        if not path.is_file():
            raise ConfigError(f"{action.places['file']}: file: {path}: no such file")
        self.folder = path.parent
        given = {}
        for pair in action.fields.get("arg", ()):
            name = _unreserved(self.text(pair["name"], action.places["arg"]), action.places["arg"])
            given[name] = self.variables[name] = self.text(pair["value"], action.places["arg"])
        self.file(path, given, f"{action.where}: ")

    def _node(self, action: Action) -> None:
        fields, at = action.fields, action.places
        package, executable = self.field(action, "pkg"), self.field(action, "exec")
        name = _identifier(self.field(action, "name"), at["name"]) if "name" in fields else None
        argv: list[str | ParameterFile] = [*_executable(package, executable, self.environ, action.where)]
        argv += [self.text(word, at["args"]) for word in fields.get("args", ())]
        argv += ["--ros-args"] if name is None else ["--ros-args", "-r", f"__node:={name}"]
        rule = "/**"
        if "namespace" in fields:
            namespace = _namespace(self.field(action, "namespace"), at["namespace"])
            argv += ["-r", f"__ns:={namespace}"]
            rule = "/**" if name is None else f"{namespace.rstrip('/')}/{name}"
        notes: list[str] = []
        for parameter in fields.get("param", ()):
            source = self._parameter(parameter, rule, notes)
            argv += [] if source is None else ["--params-file", source]
        for pair in fields.get("remap", ()):
            argv += ["-r", f"{self.text(pair['from'], at['remap'])}:={self.text(pair['to'], at['remap'])}"]
        env = {self.text(p["name"], at["env"]): self.text(p["value"], at["env"]) for p in fields.get("env", ())}
        self.specs.append(
            ProcessSpec(
                name=name or executable,
                argv=tuple(argv),
                env={**self.environ, **env},
                respawn="respawn" in fields and self._truth(action, "respawn"),
                respawn_delay=fields.get("respawn_delay", 0.0),
                essential=fields.get("on_exit", False),
                notes=tuple(notes),
            )
        )

    def _parameter(self, parameter: Mapping[str, Any], rule: str, notes: list[str]) -> str | ParameterFile | None:
        where = parameter["where"]
        if "from" not in parameter:
            flat = dict(self._flat_parameters(parameter, ""))
            return ParameterFile(yaml.safe_dump({rule: {"ros__parameters": flat}}, default_flow_style=False))
        path = Path(self.text(parameter["from"], where))
        if path.is_file():
            return str(path)
        notes.append(f"there is no parameter file {path}: going without it")
        return None

    def _flat_parameters(self, parameter: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        name = prefix + self.text(parameter["name"], parameter["where"])
        for inner in parameter.get("param", ()):
            yield from self._flat_parameters(inner, f"{name}.")
        if "value" in parameter:
            yield name, self._typed(parameter["value"], name, parameter["where"])

    def _typed(self, value: Any, name: str, where: str) -> Any:
        """A parameter's value: what was substituted is read as YAML, a literal text stays a text."""
        if isinstance(value, list):
            found = [self._typed(item, name, where) for item in value]
        elif isinstance(value, tuple):
            text = self.text(value, where)
            found = parse_yaml(text, where) if text and any(isinstance(p, Substitution) for p in value) else text
        else:
            return value
        items = found if isinstance(found, list) else [found]
        kinds = {type(item) for item in items}
        if len(kinds) != 1 or not kinds <= {bool, int, float, str} or not all(_finite(item) for item in items):
            raise ConfigError(
                f"{where}: {name}: {found!r}: a parameter is true or false, a number, a text, or a list of one of these"
            )
        return found


def _finite(item: Any) -> bool:
    return not isinstance(item, float) or math.isfinite(item)


def _flat(actions: Sequence[Action]) -> Iterator[Action]:
    for action in actions:
        yield action
        yield from _flat(action.fields.get("children", ()))


def _declaration(action: Action) -> Argument:
    default = _source(action.fields["default"]) if "default" in action.fields else None
    choices = tuple(choice["value"] for choice in action.fields.get("choice", ()))
    name = _unreserved(action.fields["name"], action.where)
    return Argument(name, default, action.fields.get("description", ""), choices)


def _source(text: Text) -> str:
    return "".join(
        part if isinstance(part, str) else f"$({' '.join([part.name, *map(_source, part.arguments)])})" for part in text
    )


def _unreserved(name: str, where: str) -> str:
    if name in RESERVED:
        raise ConfigError(f"{where}: '{name}' means something to ros2 launch itself; choose another name")
    return name


def _namespace(given: str, where: str) -> str:
    """Absolute, as ``ros2 launch`` makes it."""
    namespace = "/" + given.rstrip("/").removeprefix("/")
    for name in namespace[1:].split("/") if namespace != "/" else ():
        _identifier(name, where)
    return namespace


def _identifier(name: str, where: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ConfigError(f"{where}: '{name}': names take letters, digits and _, and begin with no digit")
    return name


# --- Where packages lie -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Package:
    share: Path
    executables: Path


def _package(name: str, environ: Mapping[str, str], where: str) -> _Package:
    if name == OURS and (SOURCE / "package.xml").is_file() and (SOURCE / "launch").is_dir():
        return _Package(SOURCE, SOURCE / "ros_ws" / "libexec")
    prefixes = [Path(p) for p in [*environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix] if p]
    for prefix in prefixes:
        if (prefix / "share/ament_index/resource_index/packages" / name).exists():
            return _Package(prefix / "share" / name, prefix / "lib" / name)
    raise ConfigError(
        f"{where}: package '{name}': not installed; looked in {', '.join(map(str, dict.fromkeys(prefixes)))}"
    )


def _executable(package: str, name: str, environ: Mapping[str, str], where: str) -> list[str]:
    """The beginning of a command; a wrapper of our own is run by this very interpreter."""
    folder = _package(package, environ, where).executables
    path = folder / name
    if not name or "/" in name or not path.is_file() or not os.access(path, os.X_OK):
        known = [p.name for p in folder.glob("*")]
        raise ConfigError(f"{where}: package '{package}' has no executable '{name}'; {nearest(name, known)}")
    module = re.search(r" -m ([\w.]+)", path.read_text(encoding="utf-8")) if package == OURS else None
    return [sys.executable, "-m", module[1]] if module else [str(path)]


def ros_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """What ROS 2 from the Python packages needs: where they lie, and a folder for logs."""
    found = dict(environ)
    prefixes = [p for p in found.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    if sys.prefix not in prefixes:
        found["AMENT_PREFIX_PATH"] = os.pathsep.join([sys.prefix, *prefixes])
    home = found.get("ROS_HOME") or found.get("HOME")
    if not found.get("ROS_LOG_DIR") and not (home and os.access(home, os.W_OK)):
        found["ROS_LOG_DIR"] = str(Path(tempfile.gettempdir()) / f"ros-log-{os.getuid()}")
    return found


# --- Running ----------------------------------------------------------------------------------------

ESCALATION = ((0.0, signal.SIGINT), (3.0, signal.SIGTERM), (4.0, signal.SIGKILL))
"""How long after a stop was asked for [s] the children get which signal."""
LONGEST_LINE = 65536
PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of one process."""

    name: str
    pid: int
    status: int
    """The exit status, or minus the signal that killed it."""
    again: float | None
    """It is started again after this long [s]; None: it is not."""

    def __str__(self) -> str:
        if self.status < 0:
            known = {number.value: number.name for number in signal.Signals}
            how = f"was killed by {known.get(-self.status, f'signal {-self.status}')}"
        else:
            how = f"ended with status {self.status}" if self.status else "finished"
        again = "" if self.again is None else f"; starts again in {self.again:g} s"
        return f"{self.name} (pid {self.pid}) {how}{again}"


@dataclass(eq=False)
class _Child:
    spec: ProcessSpec
    process: subprocess.Popen[bytes]
    pidfd: int
    output: int
    partial: bytearray = field(default_factory=bytearray)


def _print_line(name: str, line: str) -> None:
    print(f"[{name}] {line}", flush=True)


class Launcher:
    """Starts processes, passes on what they print, tells when one ends, and leaves none behind.

    ``with Launcher(specs) as launcher: while launcher.poll(): ...`` starts on entry and stops on exit. ``poll``
    blocks until something happens; whoever waits for signals or other threads calls ``wake`` to return from it.

    Each child is the head of a process group of its own, so that the terminal's Ctrl-C reaches the launcher alone.
    The kernel terminates it when the *thread* that started it is gone: start and poll from one that lives.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        on_line: Callable[[str, str], None] = _print_line,
        on_exit: Callable[[Exit], None] = lambda _: None,
    ) -> None:
        self.specs = tuple(specs)
        self.exits: list[Exit] = []
        """Every end so far, in order."""
        self.status = 0
        """0, or the status of the process whose failure ended the whole."""
        self._on_line, self._on_exit = on_line, on_exit
        self._children: dict[str, _Child] = {}
        self._due: dict[str, float] = {}
        self._stop: list[tuple[float, signal.Signals]] | None = None
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ, lambda: os.eventfd_read(self._wake))
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._commands: dict[str, list[str]] = {}

    def __enter__(self) -> Launcher:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether anything runs, or will be started again."""
        return bool(self._children or self._due)

    @property
    def stopping(self) -> bool:
        return self._stop is not None

    def pids(self) -> dict[str, int]:
        """The processes that run now, by node name."""
        return {name: child.process.pid for name, child in self._children.items()}

    def start(self) -> None:
        """Start everything; if something cannot be started, nothing is left running."""
        for note in dict.fromkeys(note for spec in self.specs for note in spec.notes):
            self._on_line("launch", note)
        try:
            for spec in self.specs:
                self._start(spec)
        except MbrlError:
            self.stop()
            raise

    def poll(self, timeout: float | None = None) -> bool:
        """Wait until something happens, at most ``timeout`` [s], and deal with it. False: nothing runs any more."""
        if not self.alive:
            return False
        times = [*self._due.values(), *(at for at, _ in (self._stop or [])[:1])]
        waits = [] if timeout is None else [timeout]
        waits += [max(0.0, at - time.monotonic()) for at in times]
        for key, _ in self._selector.select(min(waits, default=None)):
            key.data()
        self._start_due()
        self._signal_due()
        return self.alive

    def wake(self) -> None:
        """Make ``poll`` return; may be called from a signal handler or another thread."""
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def begin_stop(self) -> None:
        """Ask everything to stop, and return at once: ``poll`` does the rest. Once is enough."""
        if self._stop is None:
            now = time.monotonic()
            self._stop = [(now + after, number) for after, number in ESCALATION]
            self._due.clear()
            self._signal_due()

    def stop(self) -> int:
        """Stop everything and wait for it; a Ctrl-C meanwhile changes nothing. Returns the exit status."""
        with _deaf_to_sigint():
            self.begin_stop()
            while self.poll():
                pass
            if self._wake >= 0:
                self._selector.close()
                os.close(self._wake)
                self._wake = -1
            if self._folder:
                self._folder.cleanup()
        return self.status

    def _start(self, spec: ProcessSpec) -> None:
        if spec.name not in self._commands:
            self._commands[spec.name] = spec.command(partial(self._write, spec.name))
        command = self._commands[spec.name]
        output, theirs = os.pipe()
        try:
            process = subprocess.Popen(
                command,
                env={"PYTHONUNBUFFERED": "1", **spec.env, "MBRL_DIE_WITH_PARENT": "1"},
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                process_group=0,
                preexec_fn=partial(_in_child, os.getpid()),
            )
        except (OSError, subprocess.SubprocessError) as error:
            os.close(output)
            why = getattr(error, "strerror", None) or error
            raise MbrlError(f"{spec.name}: cannot start {command[0]}: {why}") from None
        finally:
            os.close(theirs)
        os.set_blocking(output, False)
        child = _Child(spec, process, os.pidfd_open(process.pid), output)
        self._selector.register(child.output, selectors.EVENT_READ, partial(self._read, child))
        self._selector.register(child.pidfd, selectors.EVENT_READ, partial(self._ended, child))
        self._children[spec.name] = child

    def _write(self, name: str, parameters: ParameterFile) -> str:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="mbrl-launch-")
        folder = Path(self._folder.name)
        path = folder / f"{name}-{len(list(folder.iterdir()))}.yaml"
        path.write_text(parameters.text, encoding="utf-8")
        return str(path)

    def _read(self, child: _Child) -> None:
        if self._children.get(child.spec.name) is not child:
            return  # its end came in the same moment and has been dealt with
        try:
            data = os.read(child.output, LONGEST_LINE)
        except BlockingIOError:
            return
        if data:
            self._lines(child, data)
        else:
            self._close(child)

    def _close(self, child: _Child) -> None:
        self._selector.unregister(child.output)
        os.close(child.output)
        child.output = -1

    def _lines(self, child: _Child, data: bytes, last: bool = False) -> None:
        child.partial += data
        *lines, rest = bytes(child.partial).split(b"\n")
        if rest and (last or len(rest) >= LONGEST_LINE):
            lines, rest = [*lines, rest], b""
        child.partial = bytearray(rest)
        for line in lines:
            try:
                self._on_line(child.spec.name, line.decode("utf-8", errors="replace").rstrip("\r"))
            except BrokenPipeError:  # nobody reads us any more
                self._on_line = lambda _name, _line: None
                self.begin_stop()

    def _ended(self, child: _Child) -> None:
        """The head of a group is gone: what is left of its group goes too, then tell."""
        spec, pid = child.spec, child.process.pid
        _signal_group(pid, signal.SIGKILL)  # while the dead head still holds the group's number
        status = child.process.wait()
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        rest = bytearray()
        if child.output >= 0:
            with contextlib.suppress(BlockingIOError):
                while (data := os.read(child.output, LONGEST_LINE)) and len(rest) < 16 * LONGEST_LINE:
                    rest += data
            self._close(child)
        del self._children[spec.name]
        again = spec.respawn_delay if spec.respawn and self._stop is None else None
        end = Exit(spec.name, pid, status, again)
        self.exits.append(end)
        failed = status != 0 if self._stop is None else status == -signal.SIGKILL
        if again is not None:
            self._due[spec.name] = time.monotonic() + again
        else:
            if failed:
                self.status = self.status or (status if status > 0 else 128 - status)
            if failed or spec.essential:
                self.begin_stop()
        self._lines(child, bytes(rest), last=True)
        self._on_exit(end)

    def _start_due(self) -> None:
        now = time.monotonic()
        for spec in self.specs:
            if spec.name in self._due and self._due[spec.name] <= now:
                del self._due[spec.name]
                try:
                    self._start(spec)
                except MbrlError as error:
                    self._on_line(spec.name, str(error))
                    self.status = self.status or 1
                    self.begin_stop()

    def _signal_due(self) -> None:
        while self._stop and self._stop[0][0] <= time.monotonic():
            _, number = self._stop.pop(0)
            for child in self._children.values():
                _signal_group(child.process.pid, number)


def _signal_group(head: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(head, number)


def _in_child(parent: int) -> None:
    """Between fork and exec: go when the launcher goes, even if it was killed, and hear SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


@contextlib.contextmanager
def _deaf_to_sigint() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run(specs: Sequence[ProcessSpec], on_line: Callable[[str, str], None] = _print_line) -> Launcher:
    """Run until all have finished, one has failed, or SIGINT, SIGTERM or SIGHUP comes; then stop the rest."""
    asked: list[int] = []
    told: list[Exit] = []

    def ask(number: int, _frame: object) -> None:
        asked.append(number)
        launcher.wake()

    def tell(end: Exit) -> None:
        cause = launcher.stopping and launcher.alive and not asked and not told
        print(f"mbrl launch: {end}{'; stopping the rest' if cause else ''}", file=sys.stderr, flush=True)
        if launcher.stopping:
            told.append(end)

    launcher = Launcher(specs, on_line, tell)
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with launcher:
            while launcher.poll():
                if asked:
                    launcher.begin_stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return launcher
