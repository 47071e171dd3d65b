"""A serial chain of joints as data, and its kinematics and inverse dynamics as pure array code.

Frames: every joint turns about, or slides along, the z axis of its own link's frame, as in the
convention of Craig, "Introduction to Robotics", ch. 3. A link's frame stands in its parent's at

    p_parent = R [Rz(q) p]            + r        (hinge, q in rad)
    p_parent = R [p + (0, 0, q)]      + r        (slide, q in m)

with R and r constant. All functions take ``xp`` and joint arrays [... nj] with any leading axes, and work
component by component on columns [...]: exact zeros and ones of the constants (most of them) cost nothing,
constants stay Python floats, so that results keep the type and device of ``q``, and CasADi sees no dead terms.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from mbrl_control.core import Array, Capsule, MbrlError

Vector = tuple[Any, Any, Any]
"""Three components: Python floats where constant, else arrays [...]."""
Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]

IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
ZERO: Matrix = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
EARTH = (0.0, 0.0, -9.81)
"""Gravity [m/s^2]."""


class ChainError(MbrlError):
    """A chain that no arm can have."""


@dataclass(frozen=True, slots=True)
class Body:
    """A rigid body's inertial parameters, in some frame."""

    mass: float
    """[kg]"""
    com: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Centre of mass [m]."""
    inertia: Matrix = ZERO
    """About the centre of mass [kg m^2]."""

    def __post_init__(self) -> None:
        _as_floats(self)


@dataclass(frozen=True, slots=True)
class Link:
    """A joint and the body that it moves."""

    joint: Literal["hinge", "slide"]
    body: Body
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """r: origin of the link's frame in its parent's, at q = 0 [m]."""
    rotation: Matrix = IDENTITY
    """R: from the link's frame to its parent's, at q = 0."""
    armature: float = 0.0
    """Inertia of the rotor as the joint feels it [kg m^2, or kg for a slide]."""
    damping: float = 0.0
    """Viscous friction of the joint [N m s/rad, or N s/m for a slide]; no part of the inverse dynamics."""

    def __post_init__(self) -> None:
        _as_floats(self)
        if self.joint not in ("hinge", "slide"):
            raise ChainError(f"joint '{self.joint}': it takes hinge or slide")
        if not np.allclose(np.array(self.rotation) @ np.array(self.rotation).T, np.eye(3), atol=1e-12):
            raise ChainError(f"rotation {self.rotation}: its rows are not orthonormal")


@dataclass(frozen=True, slots=True)
class Chain:
    """Links from the base outwards, and the tool point on the last one."""

    links: tuple[Link, ...]
    tip: tuple[float, float, float]
    """The tool point in the last link's frame [m]."""
    tip_rotation: Matrix = IDENTITY
    """From the tool's frame to the last link's."""
    gravity: tuple[float, float, float] = EARTH
    """In the base's frame [m/s^2]."""

    def __post_init__(self) -> None:
        _as_floats(self)


def about_x(angle: float) -> Matrix:
    """Rotation about x by ``angle`` [rad], exact at multiples of a right angle."""
    c, s = _exact(np.cos(angle)), _exact(np.sin(angle))
    return ((1.0, 0.0, 0.0), (0.0, c, -s), (0.0, s, c))


def about_z(angle: float) -> Matrix:
    """Rotation about z by ``angle`` [rad], exact at multiples of a right angle."""
    c, s = _exact(np.cos(angle)), _exact(np.sin(angle))
    return ((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0))


def symmetric(xx: float, yy: float, zz: float, xy: float = 0.0, xz: float = 0.0, yz: float = 0.0) -> Matrix:
    """An inertia from its six numbers, in MuJoCo's order."""
    return ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))


def capsule(density: float, radius: float, start: tuple[float, float, float], end: tuple[float, float, float]) -> Body:
    """A solid cylinder between two points [m] with a half sphere at each end, of so many kg/m^3."""
    axis = np.array(end) - np.array(start)
    length = float(np.linalg.norm(axis))
    rod, ball = density * np.pi * radius**2 * length, density * 4.0 / 3.0 * np.pi * radius**3
    along = rod * radius**2 / 2.0 + ball * 0.4 * radius**2
    across = rod * (3.0 * radius**2 + length**2) / 12.0
    across += ball * (0.4 * radius**2 + length**2 / 4.0 + 0.375 * length * radius)
    way = np.outer(axis, axis) / length**2
    inertia = along * way + across * (np.eye(3) - way)
    return Body(float(rod + ball), _vector((np.array(start) + np.array(end)) / 2.0), _matrix(inertia))


def moved(body: Body, rotation: Matrix, position: tuple[float, float, float]) -> Body:
    """The same body seen from a frame in which its own stands at ``position`` with ``rotation``."""
    R = np.array(rotation)
    com = R @ np.array(body.com) + np.array(position)
    return Body(body.mass, _vector(com), _matrix(R @ np.array(body.inertia) @ R.T))


def scaled(body: Body, mass: float) -> Body:
    """A body of the same shape and another mass [kg]."""
    return Body(mass, body.com, _matrix(np.array(body.inertia) * (mass / body.mass)))


def merge(*bodies: Body) -> Body:
    """Several bodies of one frame, fixed to each other, as one (Steiner's theorem)."""
    mass = sum(body.mass for body in bodies)
    if mass <= 0.0:
        raise ChainError(f"mass {mass:g} kg of {len(bodies)} bodies together: it takes more than 0")
    com = sum((body.mass * np.array(body.com) for body in bodies), np.zeros(3)) / mass
    inertia = np.zeros((3, 3))
    for body in bodies:
        d = np.array(body.com) - com
        inertia = inertia + np.array(body.inertia) + body.mass * (d @ d * np.eye(3) - np.outer(d, d))
    return Body(float(mass), _vector(com), _matrix(inertia))


def tip(xp: Any, chain: Chain, q: Annotated[Array, "... nj"]) -> Annotated[Array, "... 3"]:
    """Position of the tool point in the base's frame [m].

    p <- R_i Rz(q_i) p + r_i from the last joint to the first: one vector is turned, no matrices are built.
    """
    return _column(xp, _to_base(xp, chain, q, chain.tip, point=True), q)


def pose(
    xp: Any, chain: Chain, q: Annotated[Array, "... nj"]
) -> tuple[Annotated[Array, "... 3"], Annotated[Array, "... 3 3"]]:
    """Position [m] and rotation (from the tool's frame to the base's) of the tool point."""
    rows = chain.tip_rotation
    x, y = (_to_base(xp, chain, q, (rows[0][j], rows[1][j], rows[2][j]), point=False) for j in (0, 1))
    axes = [_column(xp, axis, q) for axis in (x, y, _cross(x, y))]
    return tip(xp, chain, q), xp.stack(axes, axis=-1)


def ends(
    xp: Any, chain: Chain, solids: Sequence[Capsule], q: Annotated[Array, "... nj"]
) -> list[tuple[Vector, Vector]]:
    """Start and end of capsules on the links, in the base's frame [m], each as x, y, z [...].

    The frames of all links once, from the base outwards: o <- o + A r, then A <- A R Rz(q); each point is then o + A p.
    """
    here = q[..., 0] * 0.0
    origin: Vector = (0.0, 0.0, 0.0)
    axes: tuple[Vector, Vector, Vector] = IDENTITY
    frames = [(origin, axes)]
    for i, link in enumerate(chain.links):
        origin = _add(origin, _along(axes, link.position))
        rows = link.rotation
        x, y, z = (_along(axes, (rows[0][j], rows[1][j], rows[2][j])) for j in (0, 1, 2))
        if link.joint == "hinge":
            c, s = xp.cos(q[..., i]), xp.sin(q[..., i])
            x, y = _along((x, y, z), (c, s, 0.0)), _along((x, y, z), (-s, c, 0.0))
        else:
            origin = _add(origin, _along((x, y, z), (0.0, 0.0, q[..., i])))
        axes = (x, y, z)
        frames.append((origin, axes))

    def placed(link: int, p: Vector) -> Vector:
        origin, axes = frames[link]
        x, y, z = (here + c if type(c) is float else c for c in _add(origin, _along(axes, p)))
        return x, y, z

    return [(placed(s.link, s.start), placed(s.link, s.end)) for s in solids]


def _along(axes: tuple[Vector, Vector, Vector], p: Vector) -> Vector:
    """x p_x + y p_y + z p_z: a vector of the frame with these axes."""
    rows = (_plus(_plus(_times(x, p[0]), _times(y, p[1])), _times(z, p[2])) for x, y, z in zip(*axes, strict=True))
    a, b, c = rows
    return a, b, c


def inverse_dynamics(
    xp: Any,
    chain: Chain,
    q: Annotated[Array, "... nj"],
    v: Annotated[Array, "... nj"],
    a: Annotated[Array, "... nj"],
) -> Annotated[Array, "... nj"]:
    """Joint torques [N m; N for a slide] that give acceleration ``a`` at (q, v): tau = M(q) a + c(q, v) + g(q).

    Recursive Newton-Euler in the links' frames (Luh, Walker & Paul 1980; Craig, sec. 6.5), with gravity as an
    acceleration of the base, and the rotors' inertia on the diagonal of M. No friction.
    """
    w: Vector = (0.0, 0.0, 0.0)  # angular velocity, angular acceleration, acceleration of the origin
    dw: Vector = (0.0, 0.0, 0.0)
    acc: Vector = (-chain.gravity[0], -chain.gravity[1], -chain.gravity[2])
    turns, wrenches = [], []
    for i, link in enumerate(chain.links):
        qi, vi, ai = q[..., i], v[..., i], a[..., i]
        hinge = link.joint == "hinge"
        cs = (xp.cos(qi), xp.sin(qi)) if hinge else (1.0, 0.0)
        r = link.position if hinge else _add(link.position, _apply(link.rotation, (0.0, 0.0, qi)))
        acc = _inward(link, cs, _add(acc, _add(_cross(dw, r), _cross(w, _cross(w, r)))))
        w, dw = _inward(link, cs, w), _inward(link, cs, dw)
        spin = _cross(w, (0.0, 0.0, vi))
        if hinge:
            w, dw = _add(w, (0.0, 0.0, vi)), _add(_add(dw, spin), (0.0, 0.0, ai))
        else:
            acc = _add(acc, _add(_add(spin, spin), (0.0, 0.0, ai)))
        turns.append((cs, r))
        wrenches.append(_wrench(link.body, w, dw, acc))
    force: Vector = (0.0, 0.0, 0.0)
    moment: Vector = (0.0, 0.0, 0.0)
    torques: list[Array] = []
    for i in range(len(chain.links) - 1, -1, -1):
        link, (cs, r), (own_force, own_moment) = chain.links[i], turns[i], wrenches[i]
        force, moment = _add(own_force, force), _add(own_moment, moment)
        axial = moment[2] if link.joint == "hinge" else force[2]
        torques.insert(0, _plus(axial, _times(link.armature, a[..., i])) + xp.zeros_like(q[..., i]))
        force, moment = _outward(link, cs, force), _outward(link, cs, moment)
        moment = _add(moment, _cross(r, force))
    return xp.stack(torques, axis=-1)


def _wrench(body: Body, w: Vector, dw: Vector, acc: Vector) -> tuple[Vector, Vector]:
    """Force and moment about the link's origin that move a body so (Newton, Euler)."""
    c = body.com
    at_com = _add(acc, _add(_cross(dw, c), _cross(w, _cross(w, c))))
    force = (_times(body.mass, at_com[0]), _times(body.mass, at_com[1]), _times(body.mass, at_com[2]))
    moment = _add(_apply(body.inertia, dw), _cross(w, _apply(body.inertia, w)))
    return force, _add(moment, _cross(c, force))


def _to_base(xp: Any, chain: Chain, q: Array, p: Vector, *, point: bool) -> Vector:
    """A point, or else a direction, of the last link's frame in the base's."""
    for i in range(len(chain.links) - 1, -1, -1):
        link = chain.links[i]
        turned = link.joint == "hinge" and not (_zero(p[0]) and _zero(p[1]))
        cs = (xp.cos(q[..., i]), xp.sin(q[..., i])) if turned else (1.0, 0.0)
        if point and link.joint == "slide":
            p = (p[0], p[1], _plus(p[2], q[..., i]))
        p = _outward(link, cs, p)
        if point:
            p = _add(p, link.position)
    return p


def _outward(link: Link, cs: tuple[Any, Any], p: Vector) -> Vector:
    """R Rz p: a vector of the link's frame, in its parent's."""
    c, s = cs
    x = _less(_times(c, p[0]), _times(s, p[1]))
    y = _plus(_times(s, p[0]), _times(c, p[1]))
    return _apply(link.rotation, (x, y, p[2]))


def _inward(link: Link, cs: tuple[Any, Any], p: Vector) -> Vector:
    """Rz^T R^T p: a vector of the parent's frame, in the link's."""
    (a, b, c), (d, e, f), (g, h, i) = link.rotation
    x, y, z = _apply(((a, d, g), (b, e, h), (c, f, i)), p)
    c, s = cs
    return _plus(_times(c, x), _times(s, y)), _less(_times(c, y), _times(s, x)), z


def _apply(m: Matrix, p: Vector) -> Vector:
    rows = (_plus(_plus(_times(a, p[0]), _times(b, p[1])), _times(c, p[2])) for a, b, c in m)
    x, y, z = rows
    return x, y, z


def _add(a: Vector, b: Vector) -> Vector:
    return _plus(a[0], b[0]), _plus(a[1], b[1]), _plus(a[2], b[2])


def _cross(a: Vector, b: Vector) -> Vector:
    return (
        _less(_times(a[1], b[2]), _times(a[2], b[1])),
        _less(_times(a[2], b[0]), _times(a[0], b[2])),
        _less(_times(a[0], b[1]), _times(a[1], b[0])),
    )


def _times(a: Any, b: Any) -> Any:
    if type(a) is float:
        return _scaled(b, a)
    return _scaled(a, b) if type(b) is float else a * b


def _scaled(a: Any, constant: float) -> Any:
    if constant == 0.0:
        return 0.0
    if constant == 1.0:
        return a
    return -a if constant == -1.0 else a * constant


def _plus(a: Any, b: Any) -> Any:
    return b if _zero(a) else a if _zero(b) else a + b


def _less(a: Any, b: Any) -> Any:
    return a if _zero(b) else -b if _zero(a) else a - b


def _zero(a: Any) -> bool:
    """Whether ``a`` is the constant zero; never true of a value (NumPy's scalars are no plain floats)."""
    return type(a) is float and a == 0.0


def _column(xp: Any, p: Vector, q: Array) -> Array:
    zero = xp.zeros_like(q[..., 0])
    return xp.stack([zero + x if type(x) is float else x for x in p], axis=-1)


def _as_floats(data: Any) -> None:
    """Make a dataclass's numbers plain floats: NumPy's scalars would widen the results of single precision."""
    for field in dataclasses.fields(data):
        value = getattr(data, field.name)
        if isinstance(value, float):
            object.__setattr__(data, field.name, float(value))
        elif isinstance(value, tuple) and not any(isinstance(x, Link) for x in value):
            nested = tuple(tuple(map(float, x)) if isinstance(x, tuple) else float(x) for x in value)
            object.__setattr__(data, field.name, nested)


def _exact(value: float) -> float:
    nearest = round(float(value))
    return float(nearest) if abs(value - nearest) < 1e-15 else float(value)


def _vector(v: np.ndarray) -> tuple[float, float, float]:
    return float(v[0]), float(v[1]), float(v[2])


def _matrix(m: np.ndarray) -> Matrix:
    return _vector(m[0]), _vector(m[1]), _vector(m[2])
