"""A robot's MJCF as it is mounted, and where its joints and motors lie in it.

Shared by the simulation (``mbrl_sim.world``) and the model of it (``dynamics/mujoco.py``), which must agree. The only
file of this package that imports MuJoCo, and only when a model is asked for: robots run without it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from mbrl_control.core import Block, MbrlError, Robot

Model = Any
"""An MjModel. MuJoCo's bindings are compiled and come without types."""
Spec = Any
"""An MjSpec."""


class MujocoError(MbrlError):
    """MuJoCo is not installed."""


class WorldError(MbrlError):
    """A robot and its MJCF that do not belong together."""


@functools.cache
def mujoco() -> Any:
    """The package; ``MujocoError`` where it is not installed.

    Its warnings are read as counters and states: it would append them to a file MUJOCO_LOG.TXT in the current folder.
    """
    try:
        package: Any = importlib.import_module("mujoco")
        importlib.import_module("mujoco.rollout")
    except ImportError:
        raise MujocoError("MuJoCo is not installed: pip install mbrl_control[sim]") from None
    package.set_mju_user_warning(lambda _text: None)
    return package


def read(robot: Robot) -> Spec:
    """The MJCF of a robot, with the tool and payload of its Config."""
    spec = _opened(robot.world)
    if spec.body(robot.tip_body) is None:
        raise WorldError(f"{robot.world.name}: no body '{robot.tip_body}' for the tip of {robot.name}")
    if robot.mount:
        robot.mount(spec)
    return spec


def model(world: Path) -> Model:
    """An MJCF as it stands, of a robot that there is not yet."""
    spec = _opened(world)
    try:
        return spec.compile()
    except ValueError as error:
        raise _unreadable(world, error) from None


def mount(spec: Spec, body: str, mass: float, offset: float, payload: float) -> None:
    """A tool in place of the one in the MJCF: its mass, where the tip is along its z, and what it carries there.

    It keeps the shape that it collides with.
    """
    tool, tip = spec.body(body), spec.site("tip")
    tool.inertia = np.array(tool.inertia) * (mass / tool.mass)
    tool.mass = mass
    tip.pos = [0.0, 0.0, offset]
    if payload:
        load(tool, tip.pos, payload, inertia=0.0)


def load(body: Any, at: Any, mass: float, inertia: float) -> None:
    """A mass at a point of a body of a spec, with the same inertia about each axis."""
    carried = body.add_body(pos=at)
    carried.explicitinertial, carried.mass = True, mass
    carried.ipos, carried.inertia = [0.0] * 3, [inertia] * 3  # unset, ipos would count pos a second time


def compiled(robot: Robot, spec: Spec) -> Model:
    """The model of a spec. What diverges stays as it is, to be seen, instead of jumping back to the start."""
    try:
        model = spec.compile()
    except ValueError as error:
        raise _unreadable(robot.world, error) from None
    model.opt.disableflags |= int(mujoco().mjtDisableBit.mjDSBL_AUTORESET)
    return model


def addresses(model: Model, robot: Robot) -> tuple[Annotated[np.ndarray, "nj"], Annotated[np.ndarray, "nj"]]:
    """Where the robot's joints lie in qpos and in qvel."""
    kind = mujoco().mjtObj.mjOBJ_JOINT
    ids = [mujoco().mj_name2id(model, kind, joint) for joint in robot.joints]
    for joint, number in zip(robot.joints, ids, strict=True):
        if number < 0:
            raise WorldError(f"{robot.world.name}: no joint '{joint}' of {robot.name}")
    return model.jnt_qposadr[ids].copy(), model.jnt_dofadr[ids].copy()


def motors(model: Model, robot: Robot) -> tuple[Annotated[np.ndarray, "nj"], np.ndarray]:
    """Which joints are driven, and the motors that do it; a joint that no channel moves needs none."""
    kind = mujoco().mjtObj.mjOBJ_ACTUATOR
    ids = np.array([mujoco().mj_name2id(model, kind, joint) for joint in robot.joints])
    coupled = (robot.channels.coupling != 0.0).any(axis=1)
    for joint, number, needed in zip(robot.joints, ids, coupled, strict=True):
        if needed and number < 0:
            raise WorldError(f"{robot.world.name}: no motor '{joint}' for the joint of that name of {robot.name}")
    driven = ids >= 0
    return driven, ids[driven]


class Scene:
    """The bodies around a robot as blocks of an observation: linear maps of MuJoCo's state, there and back.

    Such a body stands in the world and slides: with axes A [3 n], it is at p0 + A q and moves with A q'.
    """

    def __init__(self, model: Model, robot: Robot) -> None:
        self._maps = {block.name: _sliding(model, robot, block) for block in robot.blocks}

    def read(
        self, qpos: Annotated[np.ndarray, "... nq"], qvel: Annotated[np.ndarray, "... nv"]
    ) -> dict[str, Annotated[np.ndarray, "... 3"]]:
        """The blocks in a state."""
        return {
            name: offset + (qvel if moving else qpos)[..., at] @ axes.T
            for name, (moving, at, axes, offset) in self._maps.items()
        }

    def write(
        self, blocks: Mapping[str, Any], qpos: Annotated[np.ndarray, "nq"], qvel: Annotated[np.ndarray, "nv"]
    ) -> None:
        """Put the bodies of known blocks where they are seen, as nearly as they can get there."""
        for name, (moving, at, axes, offset) in self._maps.items():
            if name in blocks:
                (qvel if moving else qpos)[at] = (np.asarray(blocks[name], dtype=float) - offset) @ axes


def _sliding(model: Model, robot: Robot, block: Block) -> tuple[bool, np.ndarray, np.ndarray, np.ndarray]:
    """Whether it is a velocity, where its joints lie, their axes [3 n], and where it is at 0."""
    package = mujoco()
    where = f"{robot.world.name}: block '{block.name}' of {robot.name}"
    body = package.mj_name2id(model, package.mjtObj.mjOBJ_BODY, block.source)
    if body < 0:
        raise WorldError(f"{where}: no body '{block.source}'")
    if block.unit not in ("m", "m/s") or block.size != 3:
        raise WorldError(f"{where} with unit '{block.unit}' and size {block.size}: it takes m or m/s, and 3")
    joints = np.flatnonzero(model.jnt_bodyid == body)
    slides = (model.jnt_type[joints] == int(package.mjtJoint.mjJNT_SLIDE)).all()
    turned = abs(model.body_quat[body][0]) < 1.0 - 1e-12
    if model.body_parentid[body] != 0 or not len(joints) or not slides or turned:
        raise WorldError(f"{where}: it takes a body of the world that slides along joints of its own, not turned")
    moving = block.unit == "m/s"
    at = (model.jnt_dofadr if moving else model.jnt_qposadr)[joints].copy()
    axes = model.jnt_axis[joints].T.copy()
    if moving:
        return True, at, axes, np.zeros(3)
    return False, at, axes, model.body_pos[body] - axes @ model.qpos0[at]


def reset(robot: Robot, model: Model, data: Any) -> None:
    """The key frame ``home`` if there is one, the robot at its rest pose, all at rest, at time 0."""
    key = mujoco().mj_name2id(model, mujoco().mjtObj.mjOBJ_KEY, "home")
    mujoco().mj_resetData(model, data) if key < 0 else mujoco().mj_resetDataKeyframe(model, data, key)
    data.time, data.qvel[:] = 0.0, 0.0
    data.qpos[addresses(model, robot)[0]] = robot.home


def _opened(world: Path) -> Spec:
    try:
        return mujoco().MjSpec.from_file(str(world))
    except ValueError as error:
        raise _unreadable(world, error) from None


def _unreadable(world: Path, error: ValueError) -> WorldError:
    return WorldError(f"{world}: {str(error).splitlines()[0]}")
