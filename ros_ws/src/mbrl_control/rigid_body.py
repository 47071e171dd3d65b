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
from mbrl_control.vectors import Matrix, Vector, add, apply, column, cross, is_zero, less, plus, times

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
    return column(xp, _to_base(xp, chain, q, chain.tip, point=True), q)


def pose(
    xp: Any, chain: Chain, q: Annotated[Array, "... nj"]
) -> tuple[Annotated[Array, "... 3"], Annotated[Array, "... 3 3"]]:
    """Position [m] and rotation (from the tool's frame to the base's) of the tool point."""
    rows = chain.tip_rotation
    x, y = (_to_base(xp, chain, q, (rows[0][j], rows[1][j], rows[2][j]), point=False) for j in (0, 1))
    axes = [column(xp, axis, q) for axis in (x, y, cross(x, y))]
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
        origin = add(origin, _along(axes, link.position))
        rows = link.rotation
        x, y, z = (_along(axes, (rows[0][j], rows[1][j], rows[2][j])) for j in (0, 1, 2))
        if link.joint == "hinge":
            c, s = xp.cos(q[..., i]), xp.sin(q[..., i])
            x, y = _along((x, y, z), (c, s, 0.0)), _along((x, y, z), (-s, c, 0.0))
        else:
            origin = add(origin, _along((x, y, z), (0.0, 0.0, q[..., i])))
        axes = (x, y, z)
        frames.append((origin, axes))

    def at(number: int, p: Vector) -> Vector:
        origin, axes = frames[number]
        x, y, z = (here + c if type(c) is float else c for c in add(origin, _along(axes, p)))
        return x, y, z

    return [(at(s.link, s.start), at(s.link, s.end)) for s in solids]


def _along(axes: tuple[Vector, Vector, Vector], p: Vector) -> Vector:
    """x p_x + y p_y + z p_z: a vector of the frame with these axes."""
    rows = (plus(plus(times(x, p[0]), times(y, p[1])), times(z, p[2])) for x, y, z in zip(*axes, strict=True))
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
    return _newton_euler(xp, chain, q, v, [a[..., i] for i in range(len(chain.links))])


def bias(
    xp: Any, chain: Chain, q: Annotated[Array, "... nj"], v: Annotated[Array, "... nj"]
) -> Annotated[Array, "... nj"]:
    """The torques of no acceleration: c(q, v) + g(q)."""
    return _newton_euler(xp, chain, q, v, [0.0] * len(chain.links))


def friction(xp: Any, chain: Chain, v: Annotated[Array, "... nj"]) -> Annotated[Array, "... nj"]:
    """Torques that the joints' viscous friction takes."""
    return column(xp, [times(v[..., i], link.damping) for i, link in enumerate(chain.links)], v)


def _newton_euler(xp: Any, chain: Chain, q: Array, v: Array, a: Sequence[Any]) -> Array:
    """The torques of accelerations given joint by joint, arrays or constants."""
    w: Vector = (0.0, 0.0, 0.0)  # angular velocity, angular acceleration, acceleration of the origin
    dw: Vector = (0.0, 0.0, 0.0)
    acc: Vector = (-chain.gravity[0], -chain.gravity[1], -chain.gravity[2])
    places, wrenches = [], []
    for i, link in enumerate(chain.links):
        vi, ai = v[..., i], a[i]
        cs, r = placed(xp, link, q[..., i])
        acc = _inward(link, cs, add(acc, add(cross(dw, r), cross(w, cross(w, r)))))
        w, dw = _inward(link, cs, w), _inward(link, cs, dw)
        spin = cross(w, (0.0, 0.0, vi))
        if link.joint == "hinge":
            w, dw = add(w, (0.0, 0.0, vi)), add(add(dw, spin), (0.0, 0.0, ai))
        else:
            acc = add(acc, add(add(spin, spin), (0.0, 0.0, ai)))
        places.append((cs, r))
        wrenches.append(_wrench(link.body, w, dw, acc))
    force: Vector = (0.0, 0.0, 0.0)
    moment: Vector = (0.0, 0.0, 0.0)
    torques: list[Any] = []
    for i in range(len(chain.links) - 1, -1, -1):
        link, (cs, r), (own_force, own_moment) = chain.links[i], places[i], wrenches[i]
        force, moment = add(own_force, force), add(own_moment, moment)
        axial = moment[2] if link.joint == "hinge" else force[2]
        torques.insert(0, plus(axial, times(link.armature, a[i])))
        force, moment = outward(link, cs, force), outward(link, cs, moment)
        moment = add(moment, cross(r, force))
    zero = xp.zeros_like(q[..., 0] + v[..., 0])
    return xp.stack([torque + zero for torque in torques], axis=-1)


def placed(xp: Any, link: Link, q: Array) -> tuple[tuple[Any, Any], Vector]:
    """Cosine and sine of a link's turn about its z axis, and where its origin is in its parent's frame."""
    if link.joint == "hinge":
        return (xp.cos(q), xp.sin(q)), link.position
    return (1.0, 0.0), add(link.position, apply(link.rotation, (0.0, 0.0, q)))


def _wrench(body: Body, w: Vector, dw: Vector, acc: Vector) -> tuple[Vector, Vector]:
    """Force and moment about the link's origin that move a body so (Newton, Euler)."""
    c = body.com
    at_com = add(acc, add(cross(dw, c), cross(w, cross(w, c))))
    force = (times(body.mass, at_com[0]), times(body.mass, at_com[1]), times(body.mass, at_com[2]))
    moment = add(apply(body.inertia, dw), cross(w, apply(body.inertia, w)))
    return force, add(moment, cross(c, force))


def _to_base(xp: Any, chain: Chain, q: Array, p: Vector, *, point: bool) -> Vector:
    """A point, or else a direction, of the last link's frame in the base's."""
    for i in range(len(chain.links) - 1, -1, -1):
        link = chain.links[i]
        turned = link.joint == "hinge" and not (is_zero(p[0]) and is_zero(p[1]))
        cs = (xp.cos(q[..., i]), xp.sin(q[..., i])) if turned else (1.0, 0.0)
        if point and link.joint == "slide":
            p = (p[0], p[1], plus(p[2], q[..., i]))
        p = outward(link, cs, p)
        if point:
            p = add(p, link.position)
    return p


def outward(link: Link, cs: tuple[Any, Any], p: Vector) -> Vector:
    """R Rz p: a vector of the link's frame, in its parent's."""
    c, s = cs
    x = less(times(c, p[0]), times(s, p[1]))
    y = plus(times(s, p[0]), times(c, p[1]))
    return apply(link.rotation, (x, y, p[2]))


def _inward(link: Link, cs: tuple[Any, Any], p: Vector) -> Vector:
    """Rz^T R^T p: a vector of the parent's frame, in the link's."""
    (a, b, c), (d, e, f), (g, h, i) = link.rotation
    x, y, z = apply(((a, d, g), (b, e, h), (c, f, i)), p)
    c, s = cs
    return plus(times(c, x), times(s, y)), less(times(c, y), times(s, x)), z


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
