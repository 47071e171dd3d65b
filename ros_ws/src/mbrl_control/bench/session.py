"""One run of ``mbrl bench``: how it is measured, the peers that take part, and what has been found so far."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mbrl_control.bench.measuring import Times, Turn, interleaved, limited, physical_cores
from mbrl_control.bench.peer import Peer
from mbrl_control.bench.rows import Row
from mbrl_control.bench.sgemm import Reference, reference
from mbrl_control.config import param


@dataclass(frozen=True)
class BenchConfig:
    """What ``mbrl bench`` is asked for."""

    pairs: int = param(7, "rounds A B A B that are measured, after one to warm up", low=1, high=1000)
    threads: int = param(0, "of ours, and of each peer; 0: as many as cores that the process may use", low=0, high=1024)
    seeds: int = param(3, "of loop: episodes of each planner", low=1, high=100)
    provider: str = param("cpu", "of plan: what ours computes on", choices=("cpu", "cuda"))
    peers_dir: str = param("", "folder of the peers' environment; empty: mbrl_control/peers in the user's cache")


@dataclass
class Found:
    """What has come of it; whatever is here when it is interrupted is kept."""

    rows: list[Row] = field(default_factory=list)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Of plan: by the letter that is varied, its values and the times of ours [ms]."""
    points: list[dict[str, Any]] = field(default_factory=list)
    """Of loop: every planner's plan time and returns."""
    sgemm: list[dict[str, Any]] = field(default_factory=list)
    """The machine's matrix product by each library and each number of threads."""


class Kind(Protocol):
    """A module of this folder that measures one kind of work."""

    def parts(self, bench: Bench) -> int:
        """How many parts it has, for the progress bar."""
        ...

    def measure(self, bench: Bench) -> None:
        """Adds to ``bench.found``."""
        ...


@dataclass
class Bench:
    """A run."""

    options: BenchConfig
    python: Path | None = None
    """Of the peers' environment; None: without peers."""
    told: Callable[[str, float], None] = lambda _what, _parts: None
    """Hears what is done now, and how many parts are done so far, also in fractions."""
    on_row: Callable[[Row], None] = lambda _: None
    found: Found = field(default_factory=Found)
    parts: int = 0
    """Done so far."""
    _stack: ExitStack = field(default_factory=ExitStack)
    _peers: dict[str, Peer] = field(default_factory=dict)
    _references: dict[int, Reference] = field(default_factory=dict)

    @property
    def threads(self) -> int:
        return self.options.threads or physical_cores()

    def peer(self, script: str, threads: int | None = None) -> Peer | None:
        """The peer of a script of ``peers/``, started once; None without peers."""
        if self.python is None:
            return None
        if script not in self._peers:
            self.told(f"{script} starts", self.parts)
            self._peers[script] = self._stack.enter_context(Peer(self.python, script, threads or self.threads))
        return self._peers[script]

    def reference(self, threads: int = 0) -> Reference:
        """The machine's matrix product on so many threads, by default those of the run; tried once."""
        threads = threads or self.threads
        if threads not in self._references:
            self.told("the machine's own matrix product", self.parts)
            with limited(threads):
                self._references[threads] = reference(threads)
            self.found.sgemm.append(self._references[threads].facts())
        return self._references[threads]

    def interleaved(self, what: str, turns: Sequence[Turn], pairs: int = 0) -> list[Times]:
        """One part: by turns, by default as many rounds as were asked for."""
        pairs = pairs or self.options.pairs
        made, of = 0, len(turns) * (pairs + 1)
        self.told(what, self.parts)

        def after() -> None:
            nonlocal made
            made += 1
            self.told(what, self.parts + made / of)

        times = interleaved(turns, pairs, after)
        self.parts += 1
        return times

    def part(self, what: str) -> None:
        """Another part begins, of those that are no rounds."""
        self.parts += 1
        self.told(what, self.parts - 1)

    def add(self, row: Row) -> None:
        self.found.rows.append(row)
        self.on_row(row)

    def measure(self, name: str) -> None:
        """One kind of work."""
        kind(name).measure(self)

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rows": [row.facts() for row in self.found.rows],
            "curves": self.found.curves,
            "points": self.found.points,
            "sgemm": self.found.sgemm,
            "options": {**asdict(self.options), "threads": self.threads},
            "machine": {"cpu": cpu(), "python": platform.python_version()},
            "peers": [peer.name for peer in self._peers.values()],
        }

    def close(self) -> None:
        self._stack.close()


def kind(name: str) -> Kind:
    return importlib.import_module(f"mbrl_control.bench.{name}")  # pyright: ignore[reportReturnType]


def cpu() -> str:
    """What the processor calls itself."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
