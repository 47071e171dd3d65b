"""How a serial chain of joints accelerates: its mass matrix, and the solution of its equations of motion.

    M(q) a + c(q, v) + g(q) = torque

M is found by composite bodies (Walker & Orin 1982; Featherstone, "Rigid Body Dynamics Algorithms", ch. 6): all links
from joint i outwards as one body, of which one unit of acceleration of joint i takes a wrench, which the joints before
it feel. M = L^T D L is factored from the last joint, whose inertia is constant, to the first, without pivots and so
without branches: M is positive definite. All of it is array code by components, as ``rigid_body`` is.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from mbrl_control import rigid_body
from mbrl_control.core import Array
from mbrl_control.rigid_body import Body, Chain, Link
from mbrl_control.vectors import Vector, add, column, cross, less, plus, times

Rows = tuple[Vector, Vector, Vector]
"""Of a symmetric matrix."""
Composite = tuple[float, Vector, Rows]
"""Mass [kg], its first moment [kg m] and inertia [kg m^2] about the origin of a frame."""


def acceleration(
    xp: Any,
    chain: Chain,
    q: Annotated[Array, "... nj"],
    v: Annotated[Array, "... nj"],
    torque: Annotated[Array, "... nj"],
) -> Annotated[Array, "... nj"]:
    """Joint accelerations [rad/s^2; m/s^2 for a slide] under torques [N m; N for a slide]: no friction."""
    free = torque - rigid_body.bias(xp, chain, q, v)
    rows = _lower(xp, chain, q)
    inverses = _factored(rows)
    a = [free[..., i] for i in range(len(rows))]
    for i in range(len(a) - 1, -1, -1):
        for j in range(i):
            a[j] = less(a[j], times(rows[i][j], a[i]))
    for i, inverse in enumerate(inverses):
        a[i] = times(a[i], inverse)
        for j in range(i):
            a[i] = less(a[i], times(rows[i][j], a[j]))
    return xp.stack(a, axis=-1)


def mass_matrix(xp: Any, chain: Chain, q: Annotated[Array, "... nj"]) -> Annotated[Array, "... nj nj"]:
    """M(q), the rotors' inertia on its diagonal."""
    rows = _lower(xp, chain, q)
    nj = range(len(rows))
    return xp.stack([column(xp, [rows[max(i, j)][min(i, j)] for j in nj], q) for i in nj], axis=-2)


def _lower(xp: Any, chain: Chain, q: Array) -> list[list[Any]]:
    """M by rows, each up to its diagonal."""
    links = chain.links
    places = [rigid_body.placed(xp, link, q[..., i]) for i, link in enumerate(links)]
    whole = _own(links[-1].body)
    rows: list[list[Any]] = []
    for i in range(len(links) - 1, -1, -1):
        if i < len(links) - 1:
            whole = _together(_own(links[i].body), _seen_from_parent(whole, links[i + 1], *places[i + 1]))
        rows.insert(0, _felt(whole, chain, places, i))
    return rows


def _felt(whole: Composite, chain: Chain, places: list[tuple[Any, Vector]], i: int) -> list[Any]:
    """What joints 0 to i feel of one unit of acceleration of joint i, which moves ``whole``."""
    mass, moment_of_mass, inertia = whole
    axis: Vector = (0.0, 0.0, 1.0)
    if chain.links[i].joint == "hinge":
        force, moment = cross(axis, moment_of_mass), inertia[2]
    else:
        force, moment = (0.0, 0.0, mass), cross(moment_of_mass, axis)
    felt: list[Any] = []
    for j in range(i, -1, -1):
        link, (cs, r) = chain.links[j], places[j]
        axial = moment[2] if link.joint == "hinge" else force[2]
        felt.insert(0, plus(axial, link.armature) if j == i else axial)
        force, moment = rigid_body.outward(link, cs, force), rigid_body.outward(link, cs, moment)
        moment = add(moment, cross(r, force))
    return felt


def _own(body: Body) -> Composite:
    """One body about the origin of its frame."""
    c = np.array(body.com)
    about = np.array(body.inertia) + body.mass * (c @ c * np.eye(3) - np.outer(c, c))
    x, y, z = (tuple(map(float, row)) for row in about)
    return body.mass, tuple(map(float, body.mass * c)), (x, y, z)  # type: ignore[return-value] - of three each


def _together(a: Composite, b: Composite) -> Composite:
    """Two of the same frame."""
    (ax, ay, az), (bx, by, bz) = a[2], b[2]
    return a[0] + b[0], add(a[1], b[1]), (add(ax, bx), add(ay, by), add(az, bz))


def _seen_from_parent(whole: Composite, link: Link, cs: tuple[Any, Any], r: Vector) -> Composite:
    """The same from the frame of the link before: turned, J <- X J X^T, and moved by r.

    With h its first moment there, about the origin: J <- J + 2 (r.e) 1 - (r e^T + e r^T),  e = h + m r / 2.
    """
    mass, h, rows = whole
    x, y, z = (rigid_body.outward(link, cs, row) for row in rows)
    x, y, z = (rigid_body.outward(link, cs, turned) for turned in zip(x, y, z, strict=True))
    h = rigid_body.outward(link, cs, h)
    e = add(h, _by(r, 0.5 * mass))
    along = tuple(times(2.0, times(a, b)) for a, b in zip(r, e, strict=True))
    xx = plus(x[0], plus(along[1], along[2]))
    yy = plus(y[1], plus(along[0], along[2]))
    zz = plus(z[2], plus(along[0], along[1]))
    xy = less(x[1], plus(times(r[0], e[1]), times(r[1], e[0])))
    xz = less(x[2], plus(times(r[0], e[2]), times(r[2], e[0])))
    yz = less(y[2], plus(times(r[1], e[2]), times(r[2], e[1])))
    return mass, add(h, _by(r, mass)), ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))


def _by(p: Vector, factor: float) -> Vector:
    return times(p[0], factor), times(p[1], factor), times(p[2], factor)


def _factored(rows: list[list[Any]]) -> list[Any]:
    """Make M's rows those of L below its diagonal of ones; the inverses of D."""
    inverses: list[Any] = []
    for k in range(len(rows) - 1, -1, -1):
        inverse = 1.0 / rows[k][k]
        inverses.insert(0, inverse)
        for i in range(k - 1, -1, -1):
            share = times(rows[k][i], inverse)
            for j in range(i + 1):
                rows[i][j] = less(rows[i][j], times(share, rows[k][j]))
            rows[k][i] = share
    return inverses
