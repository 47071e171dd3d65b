"""Jacobians of MuJoCo's physics, contacts and all: by differences to both sides, as there is nothing to differentiate.

``Transitions`` is for controls that are held: MuJoCo's own ``mjd_transitionFD``, chained over the physics steps of one
of ours (x' = f(f(x, u), u):  A = A2 A1, B = A2 B1 + B2), which leaves out what a perturbation does not change. States
are independent and go to a pool of threads, each with data of its own; MuJoCo lets go of the interpreter meanwhile.

``of_steps`` is for any step: all perturbed states at once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import numpy as np

from mbrl_control import mjcf
from mbrl_control.core import MbrlError, Robot, is_finite

STEP = 1e-6
"""Perturbation of positions, velocities and controls."""


class DifferenceError(MbrlError):
    """A state whose differences are not of its own numbers."""


class Transitions:
    """A and B of so many steps of the physics, for states and controls one by one."""

    def __init__(self, model: mjcf.Model, robot: Robot, threads: int) -> None:
        package = mjcf.mujoco()
        full = package.mjtState.mjSTATE_FULLPHYSICS
        size = package.mj_stateSize(model, full)
        if model.nq != model.nv or size != 1 + model.nq + model.nv + model.na:
            raise DifferenceError(
                f"{robot.world.name}: {model.nq} positions for {model.nv} velocities of {robot.name} and what is "
                f"around it; Jacobians take joints that slide or turn about one axis"
            )
        self._package, self._model, self._full = package, model, full
        self._size, self._threads = size, threads
        self._data = [package.MjData(model) for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def __call__(
        self, x: Annotated[np.ndarray, "N nx"], ctrl: Annotated[np.ndarray, "N nm"], steps: int
    ) -> tuple[Annotated[np.ndarray, "N nx nx"], Annotated[np.ndarray, "N nx nm"]]:
        """Of states as MuJoCo has them, time first; NaN where a state is not finite."""
        A, B = np.full((len(x), self._size, self._size), np.nan), np.full((len(x), self._size, ctrl.shape[1]), np.nan)

        def share(thread: int) -> None:
            for i in range(thread, len(x), self._threads):
                if is_finite(x[i], ctrl[i]):
                    A[i], B[i] = self._chained(self._data[thread], x[i], ctrl[i], steps)

        if self._pool is None:
            share(0)
        else:
            list(self._pool.map(share, range(self._threads)))
        return A, B

    def _chained(self, data: Any, x: np.ndarray, ctrl: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        package, model, n = self._package, self._model, self._size - 1
        package.mj_setState(model, data, x, self._full)
        data.ctrl[:], data.qacc_warmstart[:] = ctrl, 0.0
        a, b = np.empty((n, n)), np.empty((n, len(ctrl)))
        A, B = np.eye(n), np.zeros((n, len(ctrl)))
        for _ in range(steps):
            package.mjd_transitionFD(model, data, STEP, True, a, b, None, None)
            package.mj_step(model, data)
            A, B = a @ A, a @ B + b
        whole = np.zeros((n + 1, n + 1)), np.zeros((n + 1, len(ctrl)))
        whole[0][0, 0] = 1.0  # time goes on by itself
        whole[0][1:, 1:], whole[1][1:] = A, B
        return whole


def of_steps(
    step: Callable[[Annotated[np.ndarray, "... nx"], Annotated[np.ndarray, "... nu"]], Annotated[np.ndarray, "... nx"]],
    x: Annotated[np.ndarray, "... nx"],
    u: Annotated[np.ndarray, "... nu"],
) -> tuple[Annotated[np.ndarray, "... nx nx"], Annotated[np.ndarray, "... nx nu"]]:
    """A and B of a step that takes any leading axes, in one call."""
    nx, z = x.shape[-1], np.concatenate([x, u], axis=-1)
    away = np.reshape(np.eye(z.shape[-1]) * STEP, (-1, *[1] * (z.ndim - 1), z.shape[-1]))
    both = np.concatenate([z + away, z - away])
    there, here = np.split(step(both[..., :nx], both[..., nx:]), 2)
    slopes = np.moveaxis((there - here) / (2.0 * STEP), 0, -1)
    return slopes[..., :nx], slopes[..., nx:]
