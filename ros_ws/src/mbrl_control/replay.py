"""Episodes to learn from: named, checked, and safe on disk. NumPy only.

A ``Recording`` is one episode with the names of what is in it. A ``Replay`` is a set of them that grows: what is there
is never copied or written again. With a folder, each recording is a file of its own, written aside, flushed and put in
place before ``append`` returns, so that after a crash what was acknowledged is there, and nothing is there by halves.

What is wrong is told by name. Numbers that are not finite, another dt, other joints or another robot are refused; what
can be repaired is, and ``said`` tells of it in words: joints in another order are reordered, a single episode is split
by time. Files that are torn or not ours are not read, not touched, and named in ``refused``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from mbrl_control.core import MbrlError, Robot

if TYPE_CHECKING:
    from mbrl_control.evaluate import Episode

FORMAT = 1
NAME = re.compile(r"episode-(\d{6})\.npz")
UNEVEN = 0.01
"""Rows may be off their time by this share of dt."""
ARRAYS = ("t", "q", "v", "u", "q_ref", "v_ref")
BLOCK = "block."
"""Before the name of a block, in a file."""
HEADER = "header"
TORN = (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error)
"""What reading a file comes to that is torn, or not ours."""
PERIOD = 10
"""Of at most so many episodes in a row, at least one is held out where any is."""


class ReplayError(MbrlError):
    """Data that cannot be learned from as they are."""


@dataclass(frozen=True, eq=False)
class Recording:
    """One episode as it was recorded; row ``k`` of ``u`` leads from row ``k`` to ``k + 1``."""

    robot: str
    joints: tuple[str, ...]
    channels: tuple[str, ...]
    mode: str
    dt: float
    t: Annotated[np.ndarray, "T+1"]
    q: Annotated[np.ndarray, "T+1 nj"]
    v: Annotated[np.ndarray, "T+1 nj"]
    u: Annotated[np.ndarray, "T nu"]
    q_ref: Annotated[np.ndarray, "T+1 nj"] | None = None
    v_ref: Annotated[np.ndarray, "T+1 nj"] | None = None
    blocks: Mapping[str, Annotated[np.ndarray, "T+1 n"]] = field(default_factory=dict)
    source: str = ""
    """Where it comes from, in words."""

    @property
    def steps(self) -> int:
        return len(self.u)

    @cached_property
    def sha256(self) -> str:
        """Of names and numbers."""
        digest = hashlib.sha256(json.dumps(self._names(), sort_keys=True).encode())
        for name, array in sorted(self.arrays().items()):
            digest.update(name.encode() + str(array.shape).encode())
            digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return digest.hexdigest()

    def arrays(self) -> dict[str, np.ndarray]:
        """All numbers, by name."""
        found = {name: array for name in ARRAYS if (array := getattr(self, name)) is not None}
        return found | {BLOCK + name: array for name, array in self.blocks.items()}

    def rows(self, first: int, last: int) -> Recording:
        """The steps from ``first`` up to ``last``."""

        def cut(array: np.ndarray | None, more: int = 1) -> Any:
            return None if array is None else array[first : last + more]

        parts = {name: cut(getattr(self, name)) for name in ARRAYS if name != "u"}
        blocks = {name: cut(array) for name, array in self.blocks.items()}
        source = f"{self.source}, steps {first} to {last}"
        return replace(self, **parts, u=cut(self.u, 0), blocks=blocks, source=source)

    def _names(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "robot": self.robot,
            "joints": list(self.joints),
            "channels": list(self.channels),
            "mode": self.mode,
            "dt": self.dt,
        }


@dataclass(frozen=True)
class Split:
    """What is learned from, and what is held out."""

    train: list[Recording]
    validation: list[Recording]
    said: list[str]
    """What had to be repaired."""


def recorded(
    episode: Episode,
    robot: Robot,
    dt: float,
    source: str = "",
) -> Recording:
    """An episode of ``evaluate``; a last step that was cut short is left out."""
    lasted = np.diff(episode.t)
    even = np.abs(lasted - dt) <= UNEVEN * dt
    whole = len(even) if even[-1] else len(even) - 1
    if whole == 0 or not even[:whole].all():
        raise ReplayError(
            f"episode {episode.seed} with steps of {lasted.max():g} s: dt is {dt:g} s, and takes such steps"
        )
    made = Recording(
        robot.name,
        robot.joints,
        robot.channels.names,
        robot.channels.mode.value,
        dt,
        episode.t,
        episode.q,
        episode.v,
        episode.u,
        episode.q_ref,
        episode.v_ref,
        dict(episode.blocks),
        source or f"simulation, seed {episode.seed}",
    )
    return made if whole == made.steps else replace(made.rows(0, whole), source=made.source)


class Replay:
    """A growing set of recordings of one robot at one dt."""

    def __init__(self, folder: Path | None = None) -> None:
        """In memory; or in a folder, whose recordings are read again."""
        self.folder = folder
        self._recordings: list[Recording] = []
        self._next = 0
        self.said: list[str] = []
        """Repairs and refusals, in words."""
        self.refused: dict[str, str] = {}
        """Files that were not read, and why."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._read(folder)

    @property
    def recordings(self) -> Sequence[Recording]:
        return tuple(self._recordings)

    @property
    def steps(self) -> int:
        """Transitions of all recordings."""
        return sum(recording.steps for recording in self._recordings)

    def append(self, recording: Recording) -> Recording:
        """Add a recording, checked; it is on disk when this returns. Gives it as it was taken up."""
        recording = self._checked(recording)
        if self.folder is not None:
            _write(self.folder / f"episode-{self._next:06d}.npz", recording)
        self._next += 1
        self._recordings.append(recording)
        return recording

    def split(self, fraction: float = 0.1, seed: int = 0) -> Split:
        """Learned from and held out, by whole episodes; one keeps its side as the set grows.

        Of each ``1 / fraction`` episodes in a row one is held out, drawn by the seed. Before the first of these is
        complete, and that one has not come yet, it is the last that there is. A single one is split by time.
        """
        if not 0.0 < fraction <= 0.5:
            raise ReplayError(f"fraction = {fraction:g}: it takes a share of the episodes, above 0 and at most 0.5")
        found, every = self._recordings, round(1.0 / fraction)
        if not found:
            raise ReplayError("no episodes to learn from: a data set takes at least one")
        if len(found) == 1:
            [only] = found
            cut = only.steps - max(1, round(fraction * only.steps))
            if cut < 1:
                raise ReplayError(f"a single episode of {only.steps} steps: splitting it by time takes at least 2")
            said = f"a single episode: its last {only.steps - cut} steps are held out"
            return Split([only.rows(0, cut)], [only.rows(cut, only.steps)], [said])
        held = {
            block * every + int(np.random.default_rng((seed, block)).integers(every))
            for block in range(-(-len(found) // every))
        }
        out = [i in held for i in range(len(found))]
        if not any(out):
            out[-1] = True
        train = [one for one, held_out in zip(found, out, strict=True) if not held_out]
        return Split(train, [one for one, held_out in zip(found, out, strict=True) if held_out], [])

    # --- Checks ---------------------------------------------------------------------------------------

    def _checked(self, new: Recording) -> Recording:
        _check_shapes(new)
        _check_numbers(new)
        if not self._recordings:
            return new
        first = self._recordings[0]
        new = self._reordered(new, first)
        for name in ("robot", "joints", "channels", "mode"):
            if getattr(new, name) != getattr(first, name):
                raise ReplayError(f"{_named(new)}: {name} {getattr(new, name)}; this set has {getattr(first, name)}")
        if abs(new.dt - first.dt) > 1e-9:
            raise ReplayError(f"{_named(new)}: dt = {new.dt:g} s; this set has dt = {first.dt:g} s, and takes no other")
        layouts = [{name: array.shape[1:] for name, array in r.arrays().items()} for r in (new, first)]
        if layouts[0] != layouts[1]:
            raise ReplayError(f"{_named(new)}: holds {sorted(layouts[0])}; this set has {sorted(layouts[1])}")
        return new

    def _reordered(self, new: Recording, first: Recording) -> Recording:
        """Joints and channels by name, in the order of the set."""
        for kind, names in (("joints", ("q", "v", "q_ref", "v_ref")), ("channels", ("u",))):
            ours, theirs = getattr(first, kind), getattr(new, kind)
            if theirs == ours or sorted(theirs) != sorted(ours):
                continue
            order = [theirs.index(name) for name in ours]
            arrays = {n: a[:, order] for n in names if (a := getattr(new, n)) is not None}
            new = replace(new, **{kind: ours}, **arrays)
            self.said.append(f"{_named(new)}: {kind} came as {list(theirs)}, reordered by name")
        return new

    # --- Files ----------------------------------------------------------------------------------------

    def _read(self, folder: Path) -> None:
        for path in sorted(folder.iterdir()):
            number = NAME.fullmatch(path.name)
            if number is None:
                self._refuse(path.name, "an unfinished write" if path.name.endswith(".part") else "no episode of ours")
                continue
            self._next = int(number[1]) + 1
            try:
                self._recordings.append(self._checked(_load(path)))
            except ReplayError as error:
                self._refuse(path.name, str(error))

    def _refuse(self, name: str, why: str) -> None:
        self.refused[name] = why
        self.said.append(f"{name} is not read: {why}")


def find(folder: Path, source: str) -> Recording:
    """The newest recording in a folder that comes from there. Nothing is changed, and no other one is read."""
    for path in sorted(folder.glob("episode-*.npz"), reverse=True):
        if NAME.fullmatch(path.name) and _source(path) == source:
            return Replay().append(_load(path))
    raise ReplayError(f"{folder}: no episode of '{source}' that can be read")


def _named(recording: Recording) -> str:
    return f"episode '{recording.source}'"


def _check_shapes(new: Recording) -> None:
    rows, nj, nu = new.steps + 1, len(new.joints), len(new.channels)
    expected = {"t": (rows,), "q": (rows, nj), "v": (rows, nj), "u": (rows - 1, nu)}
    for name in ("q_ref", "v_ref"):
        if getattr(new, name) is not None:
            expected[name] = (rows, nj)
    for name, shape in expected.items():
        if (found := getattr(new, name).shape) != shape:
            raise ReplayError(f"{_named(new)}: {name} of shape {found}; it takes {shape}")
    for name, block in new.blocks.items():
        if block.ndim != 2 or len(block) != rows:
            raise ReplayError(f"{_named(new)}: block '{name}' of shape {block.shape}; it takes ({rows}, n)")
    if new.steps < 1:
        raise ReplayError(f"{_named(new)}: no step in it; an episode takes at least one")
    if (new.mode == "velocity_reference") != (new.q_ref is not None and new.v_ref is not None):
        raise ReplayError(f"{_named(new)}: mode {new.mode}; it takes q_ref and v_ref if, and only if, it follows them")


def _check_numbers(new: Recording) -> None:
    for name, array in new.arrays().items():
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            row, column = int(bad[0][0]), list(map(int, bad[0][1:]))
            many = len(np.unique(bad[:, 0]))
            raise ReplayError(
                f"{_named(new)}: {name.removeprefix(BLOCK)}{column or ''} is not finite in {many} rows, first in row "
                f"{row}; it takes finite numbers, so cut those rows out"
            )
    steps = np.diff(new.t)
    off = np.flatnonzero(np.abs(steps - new.dt) > UNEVEN * new.dt)
    if len(off):
        raise ReplayError(
            f"{_named(new)}: row {off[0]} lasts {steps[off[0]]:g} s, as {len(off)} of {len(steps)} that are not dt = "
            f"{new.dt:g} s; it takes even steps, so resample it or cut it there"
        )


def _write(path: Path, recording: Recording) -> None:
    """The file of a recording: aside, flushed, in place, and the folder flushed too."""
    header = {**recording._names(), "source": recording.source, "sha256": recording.sha256}
    data = io.BytesIO()
    arrays: dict[str, Any] = {HEADER: np.array(json.dumps(header)), **recording.arrays()}
    np.savez(data, **arrays)
    aside = path.with_suffix(".part")
    with aside.open("wb") as file:
        file.write(data.getvalue())
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _source(path: Path) -> str | None:
    """What a file says of where it comes from; None of one that is torn or not ours."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return json.loads(str(file[HEADER]))["source"]
    except TORN:
        return None


def _load(path: Path) -> Recording:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(str(arrays.pop(HEADER)))
        if header["format"] != FORMAT:
            raise ReplayError(f"format {header['format']}; this version reads format {FORMAT}")
        blocks = {name.removeprefix(BLOCK): arrays.pop(name) for name in list(arrays) if name.startswith(BLOCK)}
        read = Recording(
            header["robot"],
            tuple(header["joints"]),
            tuple(header["channels"]),
            header["mode"],
            header["dt"],
            **arrays,
            blocks=blocks,
            source=header["source"],
        )
    except TORN as error:
        raise ReplayError(f"torn, or no episode of ours ({type(error).__name__})") from None
    if read.sha256 != header["sha256"]:
        raise ReplayError("its numbers are not those that were written (sha256)")
    return read
