"""A serial arm's equations of motion, read from its MJCF instead of typed: an MjModel as a ``rigid_body.Chain``.

MuJoCo turns a body about its joint's axis a through its anchor c, both in the body's own frame, by q - q0:

    p <- c + R(a, q - q0) (p - c)      (hinge)
    p <- p + a (q - q0)                (slide)

A link's frame has its origin at c and its z along a, so that R(a, q - q0) = J Rz(q - q0) J^T with J's last column a.
Several joints of one body are links without mass, but for the last; a body without joints is part of the one it is
fixed to. Armature and damping are the degrees of freedom's.

A chain has no dry friction (``frictionloss``: the simulation's, and ``Robot.friction``'s where a robot's file gives it
one), no ranges, no contacts, and no motors. What it cannot have and would need is refused: springs, tendons,
drag, branches, constraints, balls.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mbrl_control import mjcf, rigid_body
from mbrl_control.mjcf import Model, WorldError
from mbrl_control.rigid_body import Body, Chain, Link, Matrix

Place = tuple[np.ndarray, np.ndarray]
"""Rotation [3 3] and position [3] of a frame in another one."""
NOISE = 1e-14
"""What quaternions leave of a zero or one: so much nearer than any drawing says."""


def chain(model: Model, joints: Sequence[str], tip: str) -> Chain:
    """The chain of these joints, from the base outwards, with the site ``tip`` as its tool point.

    Its base's frame is the world's.
    """
    site = _number(model, "SITE", tip)
    moving = _moving(model, int(model.site_bodyid[site]))
    along = [j for body in moving for j in _joints_of(model, body)]
    _check_joints(model, along, joints, tip)
    _check_forces(model, along)
    _check_surroundings(model, moving, along)
    links: list[Link] = []
    held: Place = _still()  # the body's frame, in that of the last link
    for body in moving:
        held = _after(held, _placed(model, body, upto=int(model.body_weldid[model.body_parentid[body]])))
        own = _joints_of(model, body)
        for j in own:
            link, held = _link(model, j, held)
            links.append(link)
        links[-1] = _with(links[-1], _whole(model, body, held))
    R, p = _after(held, _place_of_site(model, site, moving[-1]))
    off = model.opt.disableflags & int(mjcf.mujoco().mjtDisableBit.mjDSBL_GRAVITY)
    gravity = np.zeros(3) if off else model.opt.gravity
    return Chain(tuple(links), _vector(p), _matrix(R), _vector(gravity))


def _link(model: Model, j: int, held: Place) -> tuple[Link, Place]:
    """The link of a joint, still without mass, and how the joint's body is held in it."""
    kind = "hinge" if model.jnt_type[j] == int(mjcf.mujoco().mjtJoint.mjJNT_HINGE) else "slide"
    axis, anchor, start = model.jnt_axis[j], model.jnt_pos[j], float(model.qpos0[model.jnt_qposadr[j]])
    J = _with_z_along(axis)
    turn = np.array(rigid_body.about_z(-start if kind == "hinge" else 0.0))
    R, p = _after(held, (J @ turn, anchor if kind == "hinge" else anchor - axis * start))
    dof = model.jnt_dofadr[j]
    link = Link(
        kind,
        Body(0.0),
        _vector(p),
        _matrix(R),
        armature=float(model.dof_armature[dof]),
        damping=float(np.ravel(model.dof_damping[dof])[0]),
    )
    return link, (J.T, -J.T @ anchor)


def _with(link: Link, body: Body) -> Link:
    return Link(link.joint, body, link.position, link.rotation, link.armature, link.damping)


def _whole(model: Model, body: int, held: Place) -> Body:
    """A body and all that is fixed to it, in the link's frame."""
    parts = []
    for part in np.flatnonzero(model.body_weldid == body):
        R, p = _after(held, _placed(model, int(part), upto=body))
        axes = _turned(model.body_iquat[part])
        inertia = axes @ np.diag(model.body_inertia[part]) @ axes.T
        own = Body(float(model.body_mass[part]), _vector(model.body_ipos[part]), _matrix(inertia))
        parts.append(rigid_body.moved(own, _matrix(R), _vector(p)))
    return rigid_body.merge(*parts)


def _moving(model: Model, body: int) -> list[int]:
    """The bodies with joints from the base to a body, outwards."""
    found: list[int] = []
    at = int(model.body_weldid[body])
    while at:
        found.insert(0, at)
        at = int(model.body_weldid[model.body_parentid[at]])
    return found


def _joints_of(model: Model, body: int) -> list[int]:
    first = int(model.body_jntadr[body])
    return list(range(first, first + int(model.body_jntnum[body])))


def _check_joints(model: Model, along: list[int], joints: Sequence[str], tip: str) -> None:
    package = mjcf.mujoco()
    kinds = {int(package.mjtJoint.mjJNT_BALL): "a ball", int(package.mjtJoint.mjJNT_FREE): "free"}
    for j in [*along, *(_number(model, "JOINT", joint) for joint in joints)]:
        if kind := kinds.get(int(model.jnt_type[j])):
            raise WorldError(f"{_title(model)}: joint '{_joint(model, j)}' is {kind}: a chain takes hinge or slide")
    names = [_joint(model, j) for j in along]
    for joint in joints:
        if joint not in names:
            raise WorldError(
                f"{_title(model)}: joint '{joint}' does not move site '{tip}': a chain takes those that do"
            )
    if names != list(joints):
        order = ", ".join(names) or "none"
        raise WorldError(
            f"{_title(model)}: joints {', '.join(joints) or 'none'}: those that move site '{tip}' are, from the base "
            f"outwards, {order}, and a chain takes them all, in this order"
        )
    if not names:
        raise WorldError(f"{_title(model)}: site '{tip}' stands still: a chain takes one that joints move")


def _check_forces(model: Model, along: list[int]) -> None:
    """Forces that a chain does not have."""
    for j in along:
        dof = model.jnt_dofadr[j]
        given = {
            "stiffness": model.jnt_stiffness[j],
            "stiffnesspoly": getattr(model, "jnt_stiffnesspoly", {j: 0.0})[j],
            "dampingpoly": getattr(model, "dof_dampingpoly", {dof: 0.0})[dof],
        }
        for what, value in given.items():
            if np.any(value):
                number = ", ".join(f"{x:g}" for x in np.ravel(value))
                raise WorldError(f"{_title(model)}: joint '{_joint(model, j)}' has {what} {number}: a chain takes 0")
    for what in ("stiffness", "damping", "armature"):
        for tendon in np.flatnonzero(getattr(model, f"tendon_{what}")):
            value = float(getattr(model, f"tendon_{what}")[tendon])
            name = _name(model, "TENDON", int(tendon))
            raise WorldError(f"{_title(model)}: tendon '{name}' has {what} {value:g}: a chain takes 0")
    for what in ("density", "viscosity"):
        if value := float(getattr(model.opt, what)):
            raise WorldError(f"{_title(model)}: {what} {value:g} of what is around the arm: a chain takes 0")


def _check_surroundings(model: Model, moving: list[int], along: list[int]) -> None:
    """Nothing moves on the arm but what is on the chain, nothing holds it, and gravity pulls at all of it."""
    for body in range(1, model.nbody):
        name = _name(model, "BODY", body)
        if int(model.body_weldid[body]) in moving and model.body_gravcomp[body]:
            value = float(model.body_gravcomp[body])
            raise WorldError(f"{_title(model)}: body '{name}' has gravcomp {value:g}: a chain takes 0")
        branches = int(model.body_weldid[model.body_parentid[body]]) in moving and body not in moving
        if branches and model.body_jntnum[body]:
            joint = _joint(model, int(model.body_jntadr[body]))
            raise WorldError(
                f"{_title(model)}: body '{name}' moves on the arm by joint '{joint}', beside the chain: a chain takes "
                "bodies fixed to it; without that joint it is one"
            )
    mine = {
        "BODY": np.isin(model.body_weldid, moving),
        "SITE": np.isin(model.body_weldid[model.site_bodyid], moving),
        "JOINT": np.isin(np.arange(model.njnt), along),
    }
    held = {int(getattr(mjcf.mujoco().mjtObj, f"mjOBJ_{kind}")): kind for kind in ("BODY", "SITE")}
    coupling = int(mjcf.mujoco().mjtEq.mjEQ_JOINT)
    for i in np.flatnonzero(model.eq_active0):
        kind = "JOINT" if int(model.eq_type[i]) == coupling else held.get(int(model.eq_objtype[i]))
        for number in (int(model.eq_obj1id[i]), int(model.eq_obj2id[i])):
            if kind and number >= 0 and mine[kind][number]:
                what = f"{kind.lower()} '{_name(model, kind, number)}'"
                raise WorldError(f"{_title(model)}: an equality constraint holds {what}: a chain takes none")


def _placed(model: Model, body: int, upto: int) -> Place:
    """A body's frame in that of one it is fixed to, or whose joints are all at their reference."""
    place = _still()
    while body != upto:
        place = _after((_turned(model.body_quat[body]), model.body_pos[body]), place)
        body = int(model.body_parentid[body])
    return place


def _place_of_site(model: Model, site: int, upto: int) -> Place:
    own = (_turned(model.site_quat[site]), model.site_pos[site])
    return _after(_placed(model, int(model.site_bodyid[site]), upto), own)


def _still() -> Place:
    return np.eye(3), np.zeros(3)


def _after(outer: Place, inner: Place) -> Place:
    """Where the inner frame is, seen from where the outer one is seen from."""
    return outer[0] @ inner[0], outer[0] @ inner[1] + outer[1]


def _turned(quat: np.ndarray) -> np.ndarray:
    R = np.zeros(9)
    mjcf.mujoco().mju_quat2Mat(R, quat)
    return _exact(R.reshape(3, 3))


def _with_z_along(axis: np.ndarray) -> np.ndarray:
    """The shortest turn of z to an axis."""
    quat = np.zeros(4)
    mjcf.mujoco().mju_quatZ2Vec(quat, np.asarray(axis))
    return _turned(quat)


def _exact(m: np.ndarray) -> np.ndarray:
    """Zeros and ones where they are meant: they cost nothing (``rigid_body``)."""
    nearest = np.round(m)
    return np.where(abs(m - nearest) < NOISE, nearest, m) + 0.0


def _vector(v: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in _exact(v))
    return x, y, z


def _matrix(m: np.ndarray) -> Matrix:
    return _vector(m[0]), _vector(m[1]), _vector(m[2])


def _number(model: Model, kind: str, name: str) -> int:
    found = mjcf.mujoco().mj_name2id(model, getattr(mjcf.mujoco().mjtObj, f"mjOBJ_{kind}"), name)
    if found < 0:
        count = {"JOINT": model.njnt, "SITE": model.nsite}[kind]
        there = ", ".join(_name(model, kind, i) for i in range(count)) or "none"
        raise WorldError(f"{_title(model)}: no {kind.lower()} '{name}'; it has {there}")
    return found


def _name(model: Model, kind: str, number: int) -> str:
    return mjcf.mujoco().mj_id2name(model, getattr(mjcf.mujoco().mjtObj, f"mjOBJ_{kind}"), number) or f"#{number}"


def _joint(model: Model, j: int) -> str:
    return _name(model, "JOINT", j)


def _title(model: Model) -> str:
    """What the MJCF calls itself."""
    return f"MJCF '{model.names.split(bytes(1))[0].decode()}'"
