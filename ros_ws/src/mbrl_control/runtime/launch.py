"""Runs ROS 2 launch files on a machine that has only the Python packages: a strict subset of launch's YAML.

What is accepted here means the same to ``ros2 launch``; whatever else it may know is an error that names the
line. The subset: the actions ``arg``, ``let``, ``set_env``, ``node``, ``include`` and ``group``, conditions
``if`` and ``unless``, and the substitutions ``$(var x)``, ``$(env X default)``, ``$(find-pkg-share pkg)`` and
``$(dirname)``. Odd but so in ``ros2 launch`` too: what an included file sets stays set after it, unless a group
is put around it.

This file turns actions into processes: ``expand`` walks a file in order, fills in its texts, finds packages and
their executables, and gives the processes to start; ``arguments`` tells what a file declares. ``launch_file``
reads files, ``processes`` runs what comes out.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from mbrl_control import paths
from mbrl_control.config import ConfigError, nearest, parse_yaml
from mbrl_control.runtime.launch_file import (
    Action,
    Argument,
    Substitution,
    Text,
    declaration,
    flat,
    parse_file,
    unreserved,
)
from mbrl_control.runtime.processes import ParameterFile, ProcessSpec


def expand(
    path: Path, given: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None
) -> list[ProcessSpec]:
    """The processes that a launch file starts, for these arguments and this environment."""
    given = dict(given or {})
    walk = _Walk(dict(given), ros_environ(os.environ if environ is None else environ), given=frozenset(given))
    walk.file(path, given, where="")
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


def assignments(words: Sequence[str], what: str = "arguments of a launch file") -> dict[str, str]:
    """The arguments of a command line, ``name:=value``; the last of a name counts."""
    given = {}
    for word in words:
        name, sign, value = word.partition(":=")
        if not (name and sign and value):
            raise ConfigError(f"'{word}': {what} are written name:=value")
        given[name] = value
    return given


@dataclass
class _Scope:
    """What texts come to at one place of a launch file."""

    variables: dict[str, str]
    environ: dict[str, str]
    given: frozenset[str] = frozenset()
    """The arguments that a person gave."""
    open: list[Path] = field(default_factory=list)
    """The files being read, the innermost last."""
    folder: Path = Path()
    """``$(dirname)`` as ``ros2 launch`` has it: of the file that was opened last."""

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

    def wanted(self, action: Action) -> bool:
        for key in ("if", "unless"):
            if key in action.fields:
                return self.truth(action, key) == (key == "if")
        return True

    def truth(self, action: Action, key: str) -> bool:
        word = self.field(action, key)
        words = {"true": True, "1": True, "false": False, "0": False}
        if word.strip().lower() not in words:
            raise ConfigError(f"{action.places[key]}: {key}: '{word}': it takes true or false")
        return words[word.strip().lower()]


@dataclass
class _Walk(_Scope):
    """Visits actions in order, as ``ros2 launch`` does, and notes the processes on the way."""

    specs: list[ProcessSpec] = field(default_factory=list)
    declared: list[Argument] = field(default_factory=list)

    def file(self, path: Path, given: Mapping[str, str], where: str) -> None:
        path = path.absolute()
        if path in self.open:
            raise ConfigError(f"{where}{path.name} includes itself")
        actions = parse_file(path)
        self.open.append(path)
        self.folder = path.parent
        before = len(self.declared)
        own = [declaration(action) for action in flat(actions) if action.kind == "arg"]
        includes = any(action.kind == "include" for action in flat(actions))
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
        for action in flat(parse_file(path)):
            if action.kind == "arg":
                yield declaration(action)
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
            if self.wanted(action):
                getattr(self, f"_{action.kind}")(action)

    def _arg(self, action: Action) -> None:
        argument = declaration(action)
        self.declared.append(argument)
        if argument.name not in self.variables:
            self.variables[argument.name] = self.field(action, "default")
        value = self.variables[argument.name]
        if argument.choices and value not in argument.choices:
            raise ConfigError(f"{argument.name} = '{value}': it takes one of {', '.join(argument.choices)}")

    def _let(self, action: Action) -> None:
        name = unreserved(action.fields["name"], action.where)
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
            name = unreserved(self.text(pair["name"], action.places["arg"]), action.places["arg"])
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
            source = _parameter(self, parameter, rule, notes)
            argv += [] if source is None else ["--params-file", source]
        for pair in fields.get("remap", ()):
            argv += ["-r", f"{self.text(pair['from'], at['remap'])}:={self.text(pair['to'], at['remap'])}"]
        env = {self.text(p["name"], at["env"]): self.text(p["value"], at["env"]) for p in fields.get("env", ())}
        self.specs.append(
            ProcessSpec(
                name=name or executable,
                argv=tuple(argv),
                env={**self.environ, **env},
                respawn="respawn" in fields and self.truth(action, "respawn"),
                respawn_delay=fields.get("respawn_delay", 0.0),
                essential=fields.get("on_exit", False),
                notes=tuple(notes),
            )
        )


def _parameter(scope: _Scope, parameter: Mapping[str, Any], rule: str, notes: list[str]) -> str | ParameterFile | None:
    where = parameter["where"]
    if "from" not in parameter:
        values = dict(_flat_parameters(scope, parameter, ""))
        return ParameterFile(yaml.safe_dump({rule: {"ros__parameters": values}}, default_flow_style=False))
    path = Path(scope.text(parameter["from"], where))
    if path.is_file():
        return str(path)
    for name in scope.given:
        if parameter["from"] == (Substitution("var", ((name,),)),):  # named by a person, not by a default
            raise ConfigError(f"{where}: {name} = '{path}': no such file")
    notes.append(f"there is no parameter file {path}: going without it")
    return None


def _flat_parameters(scope: _Scope, parameter: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    name = prefix + scope.text(parameter["name"], parameter["where"])
    for inner in parameter.get("param", ()):
        yield from _flat_parameters(scope, inner, f"{name}.")
    if "value" in parameter:
        yield name, _typed(scope, parameter["value"], name, parameter["where"])


def _typed(scope: _Scope, value: Any, name: str, where: str) -> Any:
    """A parameter's value: what was substituted is read as YAML, a literal text stays a text."""
    if isinstance(value, list):
        found = [_typed(scope, item, name, where) for item in value]
    elif isinstance(value, tuple):
        text = scope.text(value, where)
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


@dataclass(frozen=True, slots=True)
class _Package:
    share: Path
    executables: Path


def _package(name: str, environ: Mapping[str, str], where: str) -> _Package:
    if name == paths.PACKAGE:
        return _Package(paths.share(), paths.executables())
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
    module = re.search(r" -m ([\w.]+)", path.read_text(encoding="utf-8")) if package == paths.PACKAGE else None
    return [sys.executable, "-m", module[1]] if module else [str(path)]


def ros_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """What ROS 2 from the Python packages needs: where they lie, and this copy of ours; and a folder for logs."""
    found = dict(environ)
    prefixes = [p for p in found.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    if sys.prefix not in prefixes:
        prefixes.insert(0, sys.prefix)
    if installed := paths.prefix():  # before any other copy of ours
        prefixes.insert(0, str(installed))
    found["AMENT_PREFIX_PATH"] = os.pathsep.join(dict.fromkeys(prefixes))
    home = found.get("ROS_HOME") or found.get("HOME")
    if not found.get("ROS_LOG_DIR") and not (home and os.access(home, os.W_OK)):
        found["ROS_LOG_DIR"] = str(Path(tempfile.gettempdir()) / f"ros-log-{os.getuid()}")
    return found
