"""A small model of each robot, fitted once to made-up motion: contracts hold of any model, good or bad."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np

from mbrl_control.core import Mode, Robot
from mbrl_control.export import Source, export
from mbrl_control.fit import FitConfig, fit
from mbrl_control.model import spec_for
from mbrl_control.replay import Recording
from mbrl_control.validation import CHECKS, examined, forced

DT, STEPS = 0.05, 30
TINY = FitConfig(members=3, layers=1, width=12, epochs=30, learning_rate=0.01, horizon=5)
"""The number of members is not one of samples or steps, so that no axis can be taken for another."""


def folder_for(robot: Robot) -> Path:
    """The model folder of a robot."""
    path = Path(_root().name) / robot.name
    recordings = [motion(robot, seed) for seed in range(3)]
    model = fit(TINY, spec_for(robot, DT, blocks=robot.blocks), recordings[:2], recordings[2:])
    source = Source(model, robot, robot.name, "made up", str(path))
    export(source, checks := examined(model.facts), forced(CHECKS, checks), path)
    return path


@functools.cache
def _root() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tiny_models_")


def motion(robot: Robot, seed: int = 0) -> Recording:
    """Joints that go where they are pushed, from home; what is around them drifts."""
    rng = np.random.default_rng(seed)
    u = rng.uniform(-1.0, 1.0, (STEPS, robot.nu)) * robot.channels.bound
    pushed = (u / robot.channels.bound) @ robot.channels.coupling.T
    v = np.zeros((STEPS + 1, robot.nj))
    for k in range(STEPS):
        v[k + 1] = 0.5 * v[k] + 0.5 * pushed[k] * np.minimum(robot.limits.velocity, 10.0)
    v_ref = v * 1.1
    q, q_ref = (robot.home + DT * np.cumsum(x, axis=0) for x in (v, v_ref))
    follows = robot.channels.mode is Mode.VELOCITY_REFERENCE
    return Recording(
        robot.name,
        robot.joints,
        robot.channels.names,
        robot.channels.mode.value,
        DT,
        DT * np.arange(STEPS + 1),
        q,
        v,
        u,
        q_ref if follows else None,
        v_ref if follows else None,
        {b.name: 0.01 * rng.standard_normal((STEPS + 1, b.size)).cumsum(axis=0) for b in robot.blocks},
        f"made up, seed {seed}",
    )
