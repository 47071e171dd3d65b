"""The backward pass of iLQR and DDP: from a quadratic model of costs and motion to a policy that is better.

With f the model's step and c_t(x', u) the cost of knot t, which sees the state that it leads to, going backwards

    W = V_(t+1) + c_t                        of where the knot leads: gradient w, Hessian W_xx
    Q_x  = A'w                               Q_xx = A'W_xx A                           + w f_xx
    Q_u  = B'w + c_u                         Q_ux = B'W_xx A + c_ux A                  + w f_ux
                                             Q_uu = B'W_xx B + B'c_xu + c_ux B + c_uu  + w f_uu
    k, K = the least of Q_u du + du'(Q_uu + D) du / 2 with u + du within its bounds, and how it moves with dx
    V_x  = Q_x + K'(Q_uu k + Q_u) + Q_ux'k   V_xx = Q_xx + K'Q_uu K + K'Q_ux + Q_ux'K

The terms of f_xx are DDP's (Jacobson & Mayne 1970); without them it is iLQR (Li & Todorov 2004). Bounds are kept by
projected Newton steps, and a control that lies on one has no gain (Tassa, Mansard, Todorov, "Control-limited
Differential Dynamic Programming", ICRA 2014). The damping D (Levenberg, Marquardt) is taken into the choice of k and K
alone, not into V. Compiled (``native/backward.c``) where there is a compiler; the same in NumPy where there is none.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from mbrl_control import machine_code

TRIES, ENOUGH, SHRINK, ARMIJO = 100, 1e-10, 0.6, 0.1
"""Of projected Newton steps: as in ``native/backward.c``."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """A trajectory's motion to first order, and its cost to second, at each knot."""

    A: Annotated[np.ndarray, "H nx nx"]
    B: Annotated[np.ndarray, "H nx nu"]
    gx: Annotated[np.ndarray, "H nx"]
    """Of the cost, by the state that a knot leads to."""
    gu: Annotated[np.ndarray, "H nu"]
    hxx: Annotated[np.ndarray, "H nx nx"]
    hux: Annotated[np.ndarray, "H nu nx"]
    huu: Annotated[np.ndarray, "H nu nu"]
    second: Annotated[np.ndarray, "H nx nz nz"] | None = None
    """Second derivatives of the motion by z = (x, u); None: they are left out."""


@dataclass(frozen=True, slots=True)
class Policy:
    """u + share k + K (x - the trajectory's)."""

    k: Annotated[np.ndarray, "H nu"]
    K: Annotated[np.ndarray, "H nu nx"]
    slope: float
    bend: float

    def expected(self, share: Any) -> Any:
        """Change of the cost that the quadratic model expects of a share of the step."""
        return share * self.slope + np.square(share) * self.bend


class Backward:
    """The backward pass for so many states and controls."""

    def __init__(self, nx: int, nu: int, compile: bool) -> None:
        self.nx, self.nu, self._compile = nx, nu, compile

    def __call__(
        self,
        found: Expansion,
        u: Annotated[np.ndarray, "H nu"],
        low: Annotated[np.ndarray, "nu"],
        high: Annotated[np.ndarray, "nu"],
        damping: Annotated[np.ndarray, "nu"],
    ) -> Policy | None:
        """The policy; None where some Q_uu + D is not positive definite."""
        if found.second is not None or self._native is None:
            return in_numpy(found, u, low, high, damping)
        k, K, expected = np.empty_like(u), np.empty((len(u), self.nu, self.nx)), np.empty(2)
        parts = (found.A, found.B, found.gx, found.gu, found.hxx, found.hux, found.huu, u, low, high, damping)
        given = [np.ascontiguousarray(part, dtype=float) for part in parts]
        table = machine_code.pointers([*given, k, K, expected])
        done = self._native(len(u), table.ctypes.data)
        return Policy(k, K, float(expected[0]), float(expected[1])) if done == len(u) else None

    @functools.cached_property
    def _native(self) -> Any:
        if not self._compile:
            return None
        source = (Path(__file__).parent / "native" / "backward.c").read_text()
        sized = f"#define NX {self.nx}\n#define NU {self.nu}\n{source}"
        library = machine_code.compiled(sized, f"the backward pass for {self.nx} states and {self.nu} controls")
        if library is None:
            return None
        library.backward.argtypes = [ctypes.c_long, ctypes.c_void_p]
        library.backward.restype = ctypes.c_long
        return library.backward


def in_numpy(found: Expansion, u: np.ndarray, low: np.ndarray, high: np.ndarray, damping: np.ndarray) -> Policy | None:
    """The backward pass, one knot after another."""
    count, nx, nu = *found.A.shape[:2], u.shape[-1]
    k, K = np.zeros((count, nu)), np.zeros((count, nu, nx))
    v, V, slope, bend = np.zeros(nx), np.zeros((nx, nx)), 0.0, 0.0
    for t in reversed(range(count)):
        A, B, ux = found.A[t], found.B[t], found.hux[t]
        w, W = v + found.gx[t], V + found.hxx[t]
        WA, WB = W @ A, W @ B
        qx, qu = A.T @ w, B.T @ w + found.gu[t]
        qxx, qux, quu = A.T @ WA, B.T @ WA + ux @ A, B.T @ WB + B.T @ ux.T + ux @ B + found.huu[t]
        if found.second is not None:
            bent = np.tensordot(w, found.second[t], axes=1)
            qxx, qux, quu = qxx + bent[:nx, :nx], qux + bent[nx:, :nx], quu + bent[nx:, nx:]
        least = bounded(quu + np.diag(damping), qu, low - u[t], high - u[t])
        if least is None:
            return None
        k[t], free, lower = least
        if free.any():
            K[t, free] = -_solved(lower, qux[free])
        rest = quu @ k[t] + qu
        slope, bend = slope + k[t] @ qu, bend + 0.5 * k[t] @ quu @ k[t]
        v = qx + K[t].T @ rest + qux.T @ k[t]
        V = qxx + K[t].T @ quu @ K[t] + K[t].T @ qux + qux.T @ K[t]
        V = 0.5 * (V + V.T)
    return Policy(k, K, float(slope), float(bend))


def bounded(
    h: Annotated[np.ndarray, "n n"],
    g: Annotated[np.ndarray, "n"],
    low: Annotated[np.ndarray, "n"],
    high: Annotated[np.ndarray, "n"],
) -> tuple[Annotated[np.ndarray, "n"], Annotated[np.ndarray, "n"], np.ndarray] | None:
    """The least of x'hx/2 + g'x within bounds, what of it is free of them, and the Cholesky factor of h there.

    None where h is not positive definite.
    """
    free = np.ones(len(g), dtype=bool)
    lower = _factor(h)
    if lower is None:
        return None
    first = -_solved(lower, g)
    if ((first >= low) & (first <= high)).all():
        return first, free, lower
    x = np.clip(np.zeros_like(g), low, high)
    cost = x @ (g + 0.5 * h @ x)
    for _ in range(TRIES):
        slope = g + h @ x
        free = ~(((x <= low) & (slope > 0.0)) | ((x >= high) & (slope < 0.0)))
        lower = _factor(h[np.ix_(free, free)])
        if lower is None:
            return None
        if not free.any() or np.max(np.abs(slope[free]) * (high - low)[free]) < ENOUGH * (1.0 + abs(cost)):
            break
        step = np.zeros_like(x)
        step[free] = -_solved(lower, slope[free])
        share, descent = 1.0, step @ slope
        while True:
            tried = np.clip(x + share * step, low, high)
            found = tried @ (g + 0.5 * h @ tried)
            if found - cost <= ARMIJO * share * descent:
                break
            share *= SHRINK
            if share < 1e-12:
                return x, free, lower
        x, cost = tried, found
    return x, free, lower


def _factor(h: np.ndarray) -> np.ndarray | None:
    try:
        lower = np.linalg.cholesky(h)
    except np.linalg.LinAlgError:
        return None
    return lower if np.isfinite(lower).all() else None


def _solved(lower: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The solution of L L' x = right."""
    return np.linalg.solve(lower.T, np.linalg.solve(lower, right))
