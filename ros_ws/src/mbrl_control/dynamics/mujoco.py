"""The robot's own MJCF as a model: what the simulation does, so the upper bound of what can be learned of it.

A robot commanded by torques is stepped as ``mbrl_sim.world`` steps it, with the same result: u is held for dt, and
MuJoCo makes dt / timestep steps of it. One commanded by reference velocities is the reference (as in
``dynamics/kinematic.py``) with the servo that follows it,

    torque = stiffness (q_ref - q) + damping (v_ref - v) + g(q) + c(q, v),   clipped, behind the servo's lag,

whose first three parts are MuJoCo's own (position actuators and gravity compensation), so that whole stretches run
without Python in between. Coriolis torques c come from ``Robot.inverse_dynamics`` and are held for ``coriolis``; at
0 they are new at every step of the physics, and the model is the simulation to rounding. How far it is off
otherwise, and what it costs, stands in docs/evaluation.md. Coarser physics than the MJCF's is integrated with
implicit damping, which the servos need there.

Samples are independent and are stepped in parallel threads (``mujoco.rollout``). NumPy only; Jacobians are by
differences (``_differences.py``). The predicted joints are features ``q`` and ``v``; the reference, which plans are
made of, is one too, and so are the robot's ``blocks``: the bodies around it. Those that an observation does not hold
begin where the MJCF has them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mbrl_control import mjcf
from mbrl_control.config import ConfigError, param
from mbrl_control.core import (
    Array,
    BackEndError,
    Features,
    Latent,
    Mode,
    Noise,
    Observation,
    Robot,
    Servo,
    flat,
    stepwise,
    unflat,
)
from mbrl_control.dynamics._differences import Transitions, of_steps
from mbrl_control.dynamics.kinematic import Kinematic
from mbrl_control.model import REFERENCE
from mbrl_control.onnx_graph import Recorder

FORESEEN = 0.25
"""Joints that are older than the time to plan for are moved on along the reference, by this at most [s]."""


@dataclass(frozen=True)
class Config:
    """The step, and how finely it is computed."""

    dt: float = param(0.05, "Duration of one step", unit="s", low=0.001, high=1.0)
    timestep: float = param(
        0.0, "Step of the physics; 0: the MJCF's own. A coarser one is quicker", unit="s", low=0.0, high=0.1
    )
    coriolis: float = param(
        0.01, "A servo's Coriolis torques are held for so long; 0: new at every physics step", unit="s", low=0.0, high=1
    )
    threads: int = param(0, "Threads that step samples side by side; 0: one for each core", low=0, high=256)


class Mujoco:
    """The model. NumPy arrays, any leading axes."""

    exact = False
    """Its Jacobians are by differences: good, and slow."""

    def __init__(self, config: Config, robot: Robot) -> None:
        package = mjcf.mujoco()
        self.dt, self.robot = config.dt, robot
        self._servo = robot.servo if robot.channels.mode is Mode.VELOCITY_REFERENCE else None
        self._model = _model(robot, self._servo, config.timestep)
        self._h = float(self._model.opt.timestep)
        self._steps = _whole_steps(config.dt, self._h)
        """Steps of the physics in one of ours."""
        self._held = max(1, round(config.coriolis / self._h))
        self._reference = Kinematic(config.dt, robot, np)
        at_q, at_v = mjcf.addresses(self._model, robot)
        self._q_in_x, self._v_in_x = 1 + at_q, 1 + self._model.nq + at_v
        self._driven, self._motors = mjcf.motors(self._model, robot)
        self._scene = mjcf.Scene(self._model, robot)
        self._home = _state(robot, self._model)
        threads = config.threads or len(os.sched_getaffinity(0))
        self._data = [package.MjData(self._model) for _ in range(threads)]
        self._pool = package.rollout.Rollout(nthread=threads if threads > 1 else 0)
        self._threads, self._transitions = threads, None

    def init(self, obs: Observation, noise: Noise) -> Latent:  # noqa: ARG002 - the protocol's, nothing is random here
        """The measured joints, and the guard's reference if the observation holds it, else the joints again.

        The reference is one for ``obs.t``. Joints measured earlier are moved on to that time by the model itself,
        as if the reference had come along with the speed that it has.
        """
        q, v = np.asarray(obs.joints.q, dtype=float), np.asarray(obs.joints.v, dtype=float)
        x = self._home.copy()
        x[self._q_in_x], x[self._v_in_x] = q, v
        self._scene.write(obs.blocks, *self._split(x))
        if self._servo is None:
            return {"x": x}
        known = obs.blocks.get(REFERENCE)
        reference = np.concatenate([q, v]) if known is None else np.asarray(known, dtype=float)
        behind = 0.0 if known is None else min(float(obs.t - obs.joints.t), FORESEEN)
        q_ref, v_ref = np.split(reference, 2)

        def earlier(ago: Annotated[np.ndarray, "n"]) -> Annotated[np.ndarray, "n 2nj"]:
            ago = ago[:, None]
            return np.concatenate([q_ref - v_ref * ago, v_ref + 0.0 * ago], axis=-1)

        count = int(behind / self._h) if behind > 0.0 else 0  # NaN: none
        seen = earlier(np.array([count * self._h + self._servo.lag]))[0]
        if count:
            path = earlier(self._h * np.arange(count, 0, -1))
            rows, seens = self._follow(self._servo, x[None], seen[None], path[None], count)
            x, seen = rows[0, -1], seens[0, -1]
        return {"x": x, REFERENCE: reference, "seen": seen}

    def step(
        self,
        s: Latent,
        u: Annotated[Array, "... nu"],
        noise: Noise,  # noqa: ARG002
    ) -> tuple[Latent, Features, Mapping[str, Array]]:
        """One step. Several are much quicker by ``rollout``."""
        _, after = self._roll(s, u[..., None, :])
        s = {name: rows[..., 0, :] for name, rows in after.items()}
        return s, self.features(s), {"disagreement": np.zeros((*u.shape[:-1], 1))}

    def rollout(
        self,
        s: Latent,
        u: Annotated[Array, "... H nu"],
        noise: Noise,  # noqa: ARG002
    ) -> tuple[Features, Mapping[str, Array]]:
        """The whole horizon, as ``core.stepwise`` gives it."""
        before, after = self._roll(s, u)
        rows = {name: np.concatenate([before[name][..., None, :], after[name]], axis=-2) for name in after}
        return self.features(rows), {"disagreement": np.zeros((*u.shape[:-1], 1))}

    def linearize(
        self, s: Latent, u: Annotated[np.ndarray, "... nu"]
    ) -> tuple[Annotated[np.ndarray, "... nx nx"], Annotated[np.ndarray, "... nx nu"]]:
        """Of the step at (x, u). Through a servo it takes a step for each number of x and u, twice."""
        u = np.asarray(u, dtype=float)
        sizes = {name: np.shape(row)[-1] for name, row in s.items()}
        lead = np.broadcast_shapes(u.shape[:-1], *(np.shape(row)[:-1] for row in s.values()))
        x = flat(np, {name: np.broadcast_to(row, (*lead, sizes[name])) for name, row in s.items()})
        u = np.broadcast_to(u, (*lead, u.shape[-1]))
        if self._servo is not None:
            return of_steps(lambda x, u: flat(np, self.step(unflat(x, sizes), u, {})[0]), x, u)
        if self._transitions is None:
            self._transitions = Transitions(self._model, self.robot, self._threads)
        coupling, limit = self.robot.channels.coupling, self.robot.limits.torque
        ctrl = self._controls(u.reshape(-1, u.shape[-1]))
        A, B = self._transitions(x.reshape(-1, x.shape[-1]), ctrl, self._steps)
        free = (np.abs(u @ coupling.T) <= limit)[..., self._driven, None]
        motors = free * coupling[self._driven] / self._model.actuator_gear[self._motors, 0][:, None]
        b = B[..., self._motors].reshape(*lead, x.shape[-1], -1)
        return A.reshape(*lead, *A.shape[1:]), b @ motors

    def features(self, s: Latent) -> Features:
        x = s["x"]
        seen = {"q": x[..., self._q_in_x], "v": x[..., self._v_in_x], **self._scene.read(*self._split(x))}
        return seen if self._servo is None else {**seen, REFERENCE: s[REFERENCE]}

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        bound = self.robot.channels.bound
        return -bound, bound.copy()

    def plan(self, features: Features, u: Array) -> tuple[Array, Array]:  # noqa: ARG002
        if self._servo is None:
            return features["q"], features["v"]
        nj = self.robot.nj
        return features[REFERENCE][..., :nj], features[REFERENCE][..., nj:]

    def _split(self, x: Annotated[np.ndarray, "... nx"]) -> tuple[np.ndarray, np.ndarray]:
        """Views of all positions and velocities in MuJoCo's state."""
        at, nq = 1, self._model.nq
        return x[..., at : at + nq], x[..., at + nq : at + nq + self._model.nv]

    # --- The physics ---------------------------------------------------------------------------------

    def _roll(self, s: Latent, u: Annotated[Array, "... H nu"]) -> tuple[Latent, Latent]:
        """The latent state with the axes of ``u`` [... n], and after each step [... H n]."""
        lead, (count, nu) = u.shape[:-2], u.shape[-2:]
        before = {name: np.broadcast_to(row, (*lead, row.shape[-1])) for name, row in s.items()}
        flat = {name: rows.reshape(-1, rows.shape[-1]) for name, rows in before.items()}
        controls = np.asarray(u, dtype=float).reshape(-1, count, nu)
        after = self._torques(flat, controls) if self._servo is None else self._servoed(self._servo, flat, controls)
        return before, {name: rows.reshape(*lead, *rows.shape[1:]) for name, rows in after.items()}

    def _torques(self, s: Latent, u: Annotated[np.ndarray, "N H nu"]) -> Latent:
        ctrl = np.repeat(self._controls(u), self._steps, axis=1)
        return {"x": self._physics(s["x"], ctrl)[:, self._steps - 1 :: self._steps]}

    def _controls(self, u: Annotated[np.ndarray, "... nu"]) -> Annotated[np.ndarray, "... nm"]:
        """What MuJoCo's motors are told."""
        limit = self.robot.limits.torque
        torque = np.clip(u @ self.robot.channels.coupling.T, -limit, limit)[..., self._driven]
        ctrl = np.zeros((*u.shape[:-1], self._model.nu))
        ctrl[..., self._motors] = torque / self._model.actuator_gear[self._motors, 0]
        return ctrl

    def _servoed(self, servo: Servo, s: Latent, u: Annotated[np.ndarray, "N H nu"]) -> Latent:
        nj, x = self.robot.nj, s[REFERENCE]
        knots, _ = stepwise(np, self._reference, {"q": x[:, :nj], "v": x[:, nj:]}, u, {})
        q, v = (rows[:, :-1, None] for rows in (knots["q"], knots["v"]))
        ago = self._h * np.arange(self._steps)[:, None]
        a = np.diff(knots["v"], axis=1)[:, :, None] / self.dt
        path = np.concatenate([q + ago * (v + 0.5 * ago * a), v + ago * a], axis=-1)
        path = path.reshape(len(u), -1, 2 * nj)
        states, seen = self._follow(servo, s["x"], s["seen"], path, self._steps)
        return {"x": states, REFERENCE: np.concatenate([knots["q"], knots["v"]], axis=-1)[:, 1:], "seen": seen}

    def _follow(
        self,
        servo: Servo,
        x: Annotated[np.ndarray, "N nx"],
        seen: Annotated[np.ndarray, "N 2nj"],
        path: Annotated[np.ndarray, "N T 2nj"],
        every: int,
    ) -> tuple[Annotated[np.ndarray, "N n nx"], Annotated[np.ndarray, "N n 2nj"]]:
        """The servo along a reference for T steps of the physics: states, and what it saw, each ``every`` so many."""
        if servo.lag:
            path = _lagging(path, seen, -float(np.expm1(-self._h / servo.lag)))
        wanted = path[..., : self.robot.nj] + path[..., self.robot.nj :] * (servo.damping / servo.stiffness)
        rows = []
        for k in range(0, path.shape[1], self._held):
            ctrl = np.zeros((*wanted[:, k : k + self._held].shape[:2], self._model.nu))
            ctrl[..., self._motors] = wanted[:, k : k + self._held] + (self._coriolis(x) / servo.stiffness)[:, None]
            stretch = self._physics(x, ctrl)
            rows.append(stretch[:, (every - 1 - k) % every :: every])
            x = stretch[:, -1]
        return np.concatenate(rows, axis=1), path[:, every - 1 :: every]

    def _coriolis(self, x: Annotated[np.ndarray, "N nx"]) -> Annotated[np.ndarray, "N nj"]:
        """c(q, v), as what the inverse dynamics have more in motion than at rest."""
        q, v = x[:, self._q_in_x], x[:, self._v_in_x]
        both = np.concatenate([v, 0.0 * v])
        assert self.robot.inverse_dynamics is not None  # ``make`` takes no servo without
        torque = self.robot.inverse_dynamics(np, np.concatenate([q, q]), both, 0.0 * both)
        return torque[: len(v)] - torque[len(v) :]

    def _physics(
        self, x: Annotated[np.ndarray, "N nx"], ctrl: Annotated[np.ndarray, "N T nm"]
    ) -> Annotated[np.ndarray, "N T nx"]:
        """MuJoCo's states after each step; NaN from where one diverged, or if it began so."""
        begun = np.isfinite(x).all(axis=-1, keepdims=True)
        rows, _ = self._pool.rollout(self._model, self._data, np.where(begun, x, self._home), ctrl)
        due = np.where(begun, x, np.nan)[:, :1] + self._h * np.arange(1, ctrl.shape[1] + 1)
        went_on = np.abs(rows[..., 0] - due) < 0.5 * self._h  # where MuJoCo gives up, time stands still
        return np.where(went_on[..., None], rows, np.nan)


def _lagging(
    path: Annotated[np.ndarray, "N T n"], seen: Annotated[np.ndarray, "N n"], follow: float
) -> Annotated[np.ndarray, "N T n"]:
    """What is seen of a path through a first-order lag."""
    rows = np.empty_like(path)
    for k in range(path.shape[1]):
        seen = seen + follow * (path[:, k] - seen)
        rows[:, k] = seen
    return rows


def _model(robot: Robot, servo: Servo | None, timestep: float) -> mjcf.Model:
    """The robot's MJCF, its motors turned into the servo where there is one."""
    package, spec = mjcf.mujoco(), mjcf.read(robot)
    finer = timestep == 0.0 or timestep <= spec.option.timestep
    if timestep:
        spec.option.timestep = timestep
    if servo is not None:
        _put_servo(robot, servo, spec)
        euler, implicit = package.mjtIntegrator.mjINT_EULER, package.mjtIntegrator.mjINT_IMPLICITFAST
        spec.option.integrator = euler if finer else implicit
    return mjcf.compiled(robot, spec)


def _put_servo(robot: Robot, servo: Servo, spec: mjcf.Spec) -> None:
    """force = stiffness (ctrl - q) - damping v + gravity, clipped as one."""
    package = mjcf.mujoco()
    for body in (spec.joint(joint).parent for joint in robot.joints):
        for carried in (body, *body.find_all("body")):
            carried.gravcomp = 1.0
    for i, name in enumerate(robot.joints):
        joint, motor, limit = spec.joint(name), spec.actuator(name), robot.limits.torque[i]
        joint.actgravcomp, joint.actfrclimited, joint.actfrcrange = True, True, [-limit, limit]
        motor.gaintype, motor.biastype = package.mjtGain.mjGAIN_FIXED, package.mjtBias.mjBIAS_AFFINE
        motor.gear, motor.ctrllimited, motor.forcelimited = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0], False, False
        motor.gainprm = [servo.stiffness[i], *[0.0] * 9]
        motor.biasprm = [0.0, -servo.stiffness[i], -servo.damping[i], *[0.0] * 7]


def _state(robot: Robot, model: mjcf.Model) -> Annotated[np.ndarray, "nx"]:
    """MuJoCo's full state at home: time, positions, velocities, and whatever else the MJCF has."""
    package = mjcf.mujoco()
    full, data = package.mjtState.mjSTATE_FULLPHYSICS, package.MjData(model)
    mjcf.reset(robot, model, data)
    x = np.empty(package.mj_stateSize(model, full))
    package.mj_getState(model, data, x, full)
    return x


def _whole_steps(dt: float, timestep: float) -> int:
    steps = round(dt / timestep)
    if steps < 1 or abs(steps * timestep - dt) > 1e-9:
        raise ConfigError(
            f"mujoco.dt = {dt:g} s with a physics step of {timestep:g} s: it takes a whole multiple of that step"
        )
    return steps


def make(config: Config, robot: Robot, xp: Any = np) -> Mujoco:
    """The MJCF of any robot, on NumPy."""
    if isinstance(xp, Recorder) or not isinstance(xp.asarray(0.0), np.ndarray):
        other = "kinematic" if robot.channels.mode is Mode.VELOCITY_REFERENCE else "analytic"
        runs = f"dynamics '{other}'" if other == "kinematic" or robot.acceleration else "a model that is learned"
        raise BackEndError(
            f"dynamics 'mujoco' for robot '{robot.name}' on {xp.__name__}: MuJoCo runs on numpy only; what runs there "
            f"is {runs}"
        )
    if robot.channels.mode is Mode.VELOCITY_REFERENCE and robot.servo is None:
        raise ConfigError(
            f"dynamics 'mujoco' for robot '{robot.name}' with mode {robot.channels.mode} and no servo: it takes a "
            f"robot with a servo that follows the reference, or one with mode {Mode.TORQUE}"
        )
    if robot.servo is not None and robot.inverse_dynamics is None:
        raise ConfigError(
            f"dynamics 'mujoco' for robot '{robot.name}' with a servo and no inverse_dynamics: it takes both or neither"
        )
    return Mujoco(config, robot)
