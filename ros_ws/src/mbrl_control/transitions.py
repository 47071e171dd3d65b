"""Recordings as what a model is fitted to and judged by: single steps, and windows to be foreseen. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mbrl_control.model import COMMANDS, REFERENCE, Spec
from mbrl_control.replay import BLOCK, Recording, ReplayError

States = Mapping[str, Annotated[np.ndarray, "... n"]]
"""Parts of the state by name, and what is read beside them."""


@dataclass(frozen=True)
class Steps:
    """Single steps."""

    before: States
    """Each [B n]."""
    drive: Annotated[np.ndarray, "B n"]
    """As ``model.inputs`` takes it."""
    after: States


@dataclass(frozen=True)
class Windows:
    """Stretches of one length, to be foreseen from their first row and all that drives them."""

    states: States
    """Each [W H+1 n]."""
    drive: Annotated[np.ndarray, "W H n"]

    @property
    def horizon(self) -> int:
        return self.drive.shape[1]


def states(spec: Spec, recording: Recording) -> dict[str, np.ndarray]:
    """What a model reads of a recording, each [T+1 n]; refuses, by name, one that is not of that kind."""
    for name in ("robot", "joints", "channels", "mode"):
        if getattr(recording, name) != getattr(spec, name):
            here, taken = getattr(recording, name), getattr(spec, name)
            raise ReplayError(f"episode '{recording.source}': {name} {here}; the model takes {taken}")
    if abs(recording.dt - spec.dt) > 1e-9:
        raise ReplayError(f"episode '{recording.source}': dt = {recording.dt:g} s; the model takes dt = {spec.dt:g} s")
    arrays = recording.arrays()
    found = {}
    for part in spec.parts:
        rows = arrays.get(part.name if part.name in ("q", "v") else BLOCK + part.name)
        if rows is None or rows.shape[1] != part.size:
            there = "none" if rows is None else f"{rows.shape[1]} numbers"
            raise ReplayError(
                f"episode '{recording.source}': block '{part.name}', {there}; it takes {part.size} numbers"
            )
        found[part.name] = rows
    if spec.follows:
        found[REFERENCE] = np.concatenate([arrays["q_ref"], arrays["v_ref"]], axis=-1)
    if spec.latency:
        before = np.concatenate([np.zeros((spec.latency, recording.u.shape[1])), recording.u])
        rows = [before[k : k + spec.latency].reshape(-1) for k in range(recording.steps + 1)]
        found[COMMANDS] = np.stack(rows)
    return found


def driving(spec: Spec, recording: Recording) -> Annotated[np.ndarray, "T n"]:
    """What ``model.inputs`` takes as the drive of each step."""
    return recording.arrays()["v_ref"][1:] if spec.follows else recording.u


def steps(spec: Spec, recordings: Sequence[Recording]) -> Steps:
    """All steps of recordings."""
    if not recordings:
        raise ReplayError("no episodes to learn from: a fit takes at least one")
    all_states = [states(spec, recording) for recording in recordings]
    names = all_states[0]
    before = {name: np.concatenate([found[name][:-1] for found in all_states]) for name in names}
    after = {name: np.concatenate([found[name][1:] for found in all_states]) for name in names}
    return Steps(before, np.concatenate([driving(spec, recording) for recording in recordings]), after)


def windows(spec: Spec, recordings: Sequence[Recording], horizon: int, most: int) -> Windows:
    """Up to ``most`` windows, evenly over the recordings; shorter than ``horizon`` where all recordings are."""
    horizon = min(horizon, max(recording.steps for recording in recordings))
    starts = [(i, k) for i, one in enumerate(recordings) for k in range(one.steps - horizon + 1)]
    chosen = [starts[int(j)] for j in np.unique(np.linspace(0, len(starts) - 1, min(most, len(starts))).round())]
    all_states = [states(spec, recording) for recording in recordings]
    cut = {name: np.stack([all_states[i][name][k : k + horizon + 1] for i, k in chosen]) for name in all_states[0]}
    return Windows(cut, np.stack([driving(spec, recordings[i])[k : k + horizon] for i, k in chosen]))
