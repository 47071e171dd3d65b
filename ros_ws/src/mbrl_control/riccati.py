"""Linear-quadratic problems: time-varying, with affine and cross terms; over a horizon, for ever, and with noise.

    min  sum_k  1/2 x'Q x + x'S u + 1/2 u'R u + q'x + r'u  +  1/2 x_H'Q_H x_H + q_H'x_H,    x' = A x + B u + c

The value of what is left, V_k(x) = 1/2 x'P x + p'x + constant, follows from that of the next step (``'`` transposes,
P and p on the right are the next step's):

    Quu = R + B'P B      Qux = S' + B'P A      qu = r + B'(P c + p)      Qxx = Q + A'P A      qx = q + A'(P c + p)
    K = -Quu^-1 Qux      k = -Quu^-1 qu        P = Qxx + Qux'K           p = qx + Qux'k

The last two are the short forms of Qxx + Qux'K + K'Qux + K'Quu K and of qx + Qux'k + K'qu + K'Quu k, which hold for any
gains; for those above the terms cancel. The lecture notes that this began from have in the second an upper-case Q_u,
which is no vector, for qu; and in its proof a last value without q_H and with the matrix R for the vector r.

*Linear-Gaussian.* u ~ N(K x + k, Quu^-1) minimises the expected cost less the entropy of what is done. That x' is
noisy, too, changes neither K nor k, only the constant: noise drops out of where to steer, not of where one gets.
``spread`` says where that is.

*For ever.* ``stationary`` solves P = Q + A'P A - (S + A'P B)(R + B'P B)^-1 (S + A'P B)' by structure-preserving
doubling (Chu, Fan, Lin, Wang, "Structure-preserving algorithms for periodic discrete-time algebraic Riccati
equations", Int. J. Control 77, 2004): step i has the value of 2^i steps, so that a dozen of them are enough.

Whatever has no answer is a ``RiccatiError``; NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mbrl_control.core import Array, checked_shapes, is_finite
from mbrl_control.errors import MbrlError

DOUBLINGS = 60
"""At most: 2^60 steps are for ever."""
CLOSE = 1e-14
"""Of doublings, a change of the value by so small a share of it is the last."""


class RiccatiError(MbrlError):
    """A linear-quadratic problem without a solution."""


@dataclass(frozen=True, slots=True)
@checked_shapes
class Stages:
    """The problem: H steps, and what the state after them costs."""

    A: Annotated[np.ndarray, "H nx nx"]
    B: Annotated[np.ndarray, "H nx nu"]
    c: Annotated[np.ndarray, "H nx"]
    Q: Annotated[np.ndarray, "H+1 nx nx"]
    """Symmetric; the last is the terminal one, here and below."""
    R: Annotated[np.ndarray, "H nu nu"]
    S: Annotated[np.ndarray, "H nx nu"]
    q: Annotated[np.ndarray, "H+1 nx"]
    r: Annotated[np.ndarray, "H nu"]

    @property
    def horizon(self) -> int:
        return len(self.A)

    @classmethod
    def repeated(cls, A: Array, B: Array, Q: Array, R: Array, S: Array, last: Array, horizon: int) -> Stages:
        """The same step over and over, without affine terms; ``last`` is the terminal Q."""
        nx, nu = np.shape(B)

        def over(x: Array) -> np.ndarray:
            return np.broadcast_to(x, (horizon, *np.shape(x)))

        costs = np.concatenate([over(Q), np.asarray(last)[None]])
        none = np.zeros((horizon + 1, nx)), np.zeros((horizon, nu))
        return cls(over(A), over(B), np.zeros((horizon, nx)), costs, over(R), over(S), *none)


@dataclass(frozen=True, slots=True)
@checked_shapes
class Controller:
    """u = K x + k, and the value of following it; with ``Quu^-1`` as its covariance it is linear-Gaussian."""

    K: Annotated[np.ndarray, "H nu nx"]
    k: Annotated[np.ndarray, "H nu"]
    covariance: Annotated[np.ndarray, "H nu nu"]
    """Quu^-1."""
    P: Annotated[np.ndarray, "H+1 nx nx"]
    p: Annotated[np.ndarray, "H+1 nx"]
    constant: Annotated[np.ndarray, "H+1"]

    def value(self, step: int, x: Annotated[np.ndarray, "nx"]) -> float:
        """What is left to pay at a step from x on, without noise."""
        return float(0.5 * x @ self.P[step] @ x + self.p[step] @ x + self.constant[step])


def solve(stages: Stages) -> Controller:
    """The optimal controller; ``RiccatiError`` where numbers are not finite or Quu is not positive definite."""
    if not is_finite(*(getattr(stages, name) for name in ("A", "B", "c", "Q", "R", "S", "q", "r"))):
        raise RiccatiError("a linear-quadratic problem with numbers that are not finite: it takes finite ones")
    horizon, nx, nu = stages.B.shape
    K, k, covariance = np.empty((horizon, nu, nx)), np.empty((horizon, nu)), np.empty((horizon, nu, nu))
    P, p, constant = np.empty((horizon + 1, nx, nx)), np.empty((horizon + 1, nx)), np.zeros(horizon + 1)
    P[-1], p[-1] = _symmetric(stages.Q[-1]), stages.q[-1]
    identity = np.eye(nu)
    for i in reversed(range(horizon)):
        A, B, c, later = stages.A[i], stages.B[i], stages.c[i], P[i + 1]
        PA, PB, slope = later @ A, later @ B, later @ c + p[i + 1]
        Quu, Qux = _symmetric(stages.R[i] + B.T @ PB), stages.S[i].T + B.T @ PA
        qu, qx = stages.r[i] + B.T @ slope, stages.q[i] + A.T @ slope
        _check_definite(Quu, f"Quu of step {i}")
        covariance[i] = _symmetric(np.linalg.solve(Quu, identity))
        K[i], k[i] = -np.linalg.solve(Quu, Qux), -np.linalg.solve(Quu, qu)
        P[i] = _symmetric(stages.Q[i] + A.T @ PA + Qux.T @ K[i])
        p[i] = qx + Qux.T @ k[i]
        constant[i] = constant[i + 1] + 0.5 * c @ later @ c + p[i + 1] @ c + 0.5 * qu @ k[i]
    if not is_finite(K, k, P, p):
        raise RiccatiError("the value of a linear-quadratic problem overflows: it takes a shorter or a tamer one")
    return Controller(K, k, covariance, P, p, constant)


def stationary(
    A: Annotated[np.ndarray, "nx nx"],
    B: Annotated[np.ndarray, "nx nu"],
    Q: Annotated[np.ndarray, "nx nx"],
    R: Annotated[np.ndarray, "nu nu"],
    S: Annotated[np.ndarray, "nx nu"] | None = None,
) -> tuple[Annotated[np.ndarray, "nx nx"], Annotated[np.ndarray, "nu nx"]]:
    """P and K of the problem that never ends: u = K x stabilises, and x'P x / 2 is what it costs from x on.

    Refuses what has no such solution: some growing motion that B does not reach, or that costs nothing (a solution
    that leaves those growing is not one).
    """
    S = np.zeros(np.shape(B)) if S is None else S
    if not is_finite(A, B, Q, R, S):
        raise RiccatiError("a stationary problem with numbers that are not finite: it takes finite ones")
    _check_definite(R, "R")
    tied = np.linalg.solve(R, S.T)
    a, G, P = A - B @ tied, _symmetric(B @ np.linalg.solve(R, B.T)), _symmetric(Q - S @ tied)
    identity = np.eye(len(A))
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(DOUBLINGS):
            try:
                both = np.linalg.solve(identity + G @ P, np.concatenate([a, G], axis=1))
            except np.linalg.LinAlgError:
                raise RiccatiError(_unstable("the doubling breaks down")) from None
            wa, wg = np.split(both, 2, axis=1)
            more = _symmetric(a.T @ P @ wa)
            a, G, P = a @ wa, _symmetric(G + a @ wg @ a.T), P + more
            if not is_finite(a, G, P):
                raise RiccatiError(_unstable("what it costs grows without bound"))
            if np.abs(more).max() <= CLOSE * max(np.abs(P).max(), 1e-300):
                break
        else:
            raise RiccatiError(_unstable("the doubling does not settle"))
    K = -np.linalg.solve(R + B.T @ P @ B, S.T + B.T @ P @ A)
    radius = float(np.abs(np.linalg.eigvals(A + B @ K)).max())
    if not radius < 1.0:
        raise RiccatiError(_unstable(f"the closed loop found has an eigenvalue of size {radius:.6g}"))
    return P, K


def spread(
    stages: Stages,
    controller: Controller,
    mean: Annotated[np.ndarray, "nx"],
    covariance: Annotated[np.ndarray, "nx nx"],
    noise: Annotated[np.ndarray, "nx nx"],
    exploring: bool = True,
) -> tuple[Annotated[np.ndarray, "H+1 nx"], Annotated[np.ndarray, "H+1 nx nx"]]:
    """Means and covariances of the states under u ~ N(K x + k, Quu^-1), with ``noise`` in every step.

        m' = (A + B K) m + B k + c          C' = (A + B K) C (A + B K)' + B Quu^-1 B' + noise

    Without ``exploring`` u is K x + k, and the middle term is not there.
    """
    closed, means = stages.A + stages.B @ controller.K, np.empty((stages.horizon + 1, len(mean)))
    means[0] = mean
    for i in range(stages.horizon):
        means[i + 1] = closed[i] @ means[i] + stages.B[i] @ controller.k[i] + stages.c[i]
    drawn = stages.B @ controller.covariance @ np.swapaxes(stages.B, -1, -2) if exploring else 0.0
    return means, covariances(closed, covariance, np.broadcast_to(drawn + noise, closed.shape))


def covariances(
    closed: Annotated[np.ndarray, "H nx nx"],
    start: Annotated[np.ndarray, "nx nx"],
    noise: Annotated[np.ndarray, "H nx nx"],
) -> Annotated[np.ndarray, "H+1 nx nx"]:
    """C' = F C F' + noise, with F = A + B K the closed loop of each step."""
    found = [np.asarray(start)]
    for F, blown in zip(closed, noise, strict=True):
        found.append(_symmetric(F @ found[-1] @ F.T + blown))
    return np.stack(found)


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    return 0.5 * (matrix + matrix.T)


def _check_definite(matrix: Annotated[np.ndarray, "n n"], name: str) -> None:
    """Refuse a matrix of a minimum that is not one: a direction costs nothing, or less the further one goes."""
    low, high = np.linalg.eigvalsh(matrix)[[0, -1]] if is_finite(matrix) else (np.nan, np.nan)
    if not low > high * 1e-14:
        raise RiccatiError(
            f"{name} has eigenvalues from {low:.3g} to {high:.3g}: it takes a positive definite matrix, so that every "
            f"control costs something"
        )


def _unstable(why: str) -> str:
    return (
        f"no stabilising solution: {why}; it takes a system whose growing and lasting motions can be steered (A, B) "
        f"and cost something (Q)"
    )
