"""A robot in MuJoCo behind a servo, as its driver would show it: commands in, delayed and noisy states out. No ROS.

Each step of the physics takes the reference of the sink that was commanded last, q_ref and v_ref, lets the
servo see it through a first-order lag, and applies

    torque = stiffness (q_ref - q) + damping (v_ref - v) + bias,   clipped to the torque limits,

with the robot's own damping, the share of its stiffness that our ``stiffness`` leaves, and the bias (gravity,
Coriolis) of the *nominal* model: the robot with the tool and payload of its own Config, without our ``payload``. An
effort sink applies its torques as they are. Velocities and efforts that stop coming brake the robot after
``sink_timeout``; positions and trajectories hold by themselves. A robot without a servo has a brake with dry friction
(``Brake``), so that it then stays where it is, whatever it carries.

Time is counted in steps, in whole nanoseconds, so that the same seed and commands give bit-equal states.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import mujoco as compiled
import numpy as np

from mbrl_control import mjcf
from mbrl_control.config import param
from mbrl_control.core import Robot
from mbrl_control.mjcf import Model
from mbrl_sim.jtc import Points, TrajectoryController

mujoco: Any = compiled
"""Its bindings are compiled and come without types."""
Array = np.ndarray
KINDS = ("position", "velocity", "effort")
"""The sinks that take one number for each joint."""
GRIP, SLIP = 0.5, 0.005
"""Share of a joint's torque that its brake holds by friction, and how far a joint gives way to that [rad or m]."""
TINY = 1e-12
BAD = {
    int(mujoco.mjtWarning.mjWARN_BADCTRL): "torque",
    int(mujoco.mjtWarning.mjWARN_BADQPOS): "position",
    int(mujoco.mjtWarning.mjWARN_BADQVEL): "velocity",
    int(mujoco.mjtWarning.mjWARN_BADQACC): "acceleration",
}


@dataclass(frozen=True)
class Config:
    """What is imperfect about this robot."""

    seed: int = param(0, "seed of the noise and of the shuffled joint orders", low=0)
    noise_q: float = param(0.0, "standard deviation of the noise on published positions", unit="rad or m", low=0.0)
    noise_v: float = param(0.0, "standard deviation of the noise on published velocities", unit="rad/s or m/s", low=0.0)
    latency: float = param(0.0, "age of a state when it is published", unit="s", low=0.0, high=1.0)
    lag: float = param(0.0, "time constant of the actuators on top of the servo's own", unit="s", low=0.0, high=1.0)
    payload: float = param(0.0, "mass at the tip that neither servo nor planner knows of", unit="kg", low=0.0)
    stiffness: float = param(1.0, "share of its stiffness that the servo really has", low=0.01, high=10.0)
    sink_timeout: float = param(0.1, "velocities or efforts that stop coming brake after this", unit="s", low=0.01)


class Sample(NamedTuple):
    """The joints as the driver reports them."""

    ns: int
    """Simulation time of the measurement [ns]."""
    q: Annotated[Array, "nj"]
    v: Annotated[Array, "nj"]
    effort: Annotated[Array, "nj"]
    blocks: Mapping[str, Array]
    """What is seen of the bodies around it, by the names of ``Robot.blocks``."""


class Brake:
    """Brakes with dry friction, as springs that yield: they hold a load without sinking.

        torque = bias - d v + clip(k (q_0 - q) - d' v, -f, f),     |k (q_0 - q)| <= f: beyond that q_0 comes along

    f is GRIP of the torque limit, which a spring reaches within SLIP, d brakes with the whole torque at full speed, and
    d' damps the spring. All are bounded by what explicit steps h leave stable, with M the diagonal of the inertia at
    home: d, d' <= M / 4 h, k <= M / 16 h^2.
    """

    def __init__(self, robot: Robot, torque: Array, inertia: Array, h: float) -> None:
        damping = 0.25 * inertia / h
        self._damping = np.minimum(torque / robot.limits.velocity, damping)
        self._friction = GRIP * torque
        self._stiffness = np.minimum(self._friction / SLIP, inertia / (16.0 * h * h))
        self._settling = np.minimum(np.sqrt(self._stiffness * inertia), damping)
        self._reach = self._friction / np.maximum(self._stiffness, TINY)
        self._q = np.zeros(robot.nj)

    def engage(self, q: Array) -> None:
        """From now on, where the joints are."""
        self._q = q

    def torque(self, q: Array, v: Array) -> Annotated[Array, "nj"]:
        """Torques on top of the bias; called once a step."""
        self._q = np.minimum(np.maximum(self._q, q - self._reach), q + self._reach)
        grip = self._stiffness * (self._q - q) - self._settling * v
        return np.minimum(np.maximum(grip, -self._friction), self._friction) - self._damping * v


class World:
    """One robot and what is around it."""

    def __init__(self, robot: Robot, config: Config | None = None) -> None:
        self.robot, self.config = robot, config or Config()
        self.nominal, self.model = _models(robot, self.config.payload)
        self.data, self._nominal_data = mujoco.MjData(self.model), mujoco.MjData(self.nominal)
        self.step_ns = round(self.model.opt.timestep * 1e9)
        self._tip = self.model.body(robot.tip_body).id
        self._q_at, self._v_at = mjcf.addresses(self.model, robot)
        self._driven, self._motors = mjcf.motors(self.model, robot)
        self._scene = mjcf.Scene(self.model, robot)
        self._gear = self.model.actuator_gear[self._motors, 0].copy()
        self._torque_limit = np.where(self._driven, robot.limits.torque, 0.0)
        lag = self.config.lag + (robot.servo.lag if robot.servo else 0.0)
        self._follow = 1.0 if lag == 0.0 else -float(np.expm1(-self.model.opt.timestep / lag))
        self._stiffness = robot.servo.stiffness * self.config.stiffness if robot.servo else np.zeros(robot.nj)
        self._timeout_ns = round(self.config.sink_timeout * 1e9)
        self._rng = np.random.default_rng(self.config.seed)
        self._sent: deque[Sample] = deque(maxlen=round(self.config.latency * 1e9 / self.step_ns) + 1)
        self.jtc = TrajectoryController(robot.driver_joints, robot.home)
        self._brake = Brake(robot, self._torque_limit, self._inertia(), self.model.opt.timestep)
        self.reset()
        mujoco.mj_forward(self.model, self.data)

    # --- What a driver offers -----------------------------------------------------------------------

    @property
    def time(self) -> float:
        """Simulation time [s]."""
        return self.ns * 1e-9

    @property
    def at_rest(self) -> bool:
        """Whether neither the joints nor their reference move."""
        return not max(np.abs(self.data.qvel[self._v_at]).max(), np.abs(self._v_ref).max()) > 0.01

    def reset(self, q: Annotated[Array, "nj"] | None = None, blocks: Mapping[str, Array] | None = None) -> None:
        """At ``q``, or at home, at rest, at time 0; the trajectory controller holds it and no sink is in error.

        The bodies of ``blocks`` are put where those say, the others where the MJCF has them.
        """
        mjcf.reset(self.robot, self.model, self.data)
        start = (self.robot.home if q is None else q).astype(float)
        self.data.qpos[self._q_at] = start
        self._scene.write(blocks or {}, self.data.qpos, self.data.qvel)
        self.ns = 0
        self.diverged = ""
        self.dead: dict[str, str] = {}
        """Sinks in error, and why: as after a message of the wrong size, until the next reset."""
        self._kind = "trajectory" if self.robot.servo else "brake"
        self._brake.engage(start)
        self._q_ref, self._v_ref = start, np.zeros(self.robot.nj)
        self._q_seen, self._v_seen = self._q_ref, self._v_ref
        self._value, self._commanded_ns = np.zeros(self.robot.nj), 0
        self._torque = np.zeros(self.robot.nj)
        self._push_until = 0
        self.jtc.hold(start)
        self._sent.clear()
        self._remember()

    def follow(self, names: Sequence[str], points: Points, start: float | None = None) -> str | None:
        """Give the trajectory controller a message, start in simulation time [s]; why it was rejected, or None."""
        if self.robot.servo is None:
            return f"{self.robot.name} has no position servo"
        if self._kind != "trajectory":
            self.jtc.hold(self._reference())
        reason = self.jtc.accept(names, points, start, self.time)
        if reason is None and self._kind != "trajectory":
            self._enter("trajectory", self._reference())
        return reason

    def command(self, kind: str, values: Annotated[Array, "nj"]) -> str | None:
        """Give a forward controller its numbers; why they were dropped, or None.

        A wrong size kills the sink until the next reset, as it makes a real forward controller inactive.
        """
        if kind in self.dead:
            return self.dead[kind]
        if kind != "effort" and self.robot.servo is None:
            return f"{self.robot.name} has no position servo"
        if not np.isfinite(values).all():
            return f"{kind} that is not finite"
        if values.shape != (self.robot.nj,):
            self.dead[kind] = f"the {kind} sink is in error: {values.size} numbers for {self.robot.nj} joints"
            return self.dead[kind]
        if kind != self._kind:
            self._enter(kind, self._reference())
        self._value, self._commanded_ns = np.array(values, float), self.ns
        return None

    def push(self, force: Annotated[Array, "3"], duration: float) -> None:
        """Push the tip's body with a force [N] in the world's frame for a time [s]."""
        self.data.xfrc_applied[self._tip, :3] = force
        self._push_until = self.ns + round(duration * 1e9)

    def observe(self) -> Sample:
        """What arrives of the joints now: ``latency`` old, with noise."""
        sample, config = self._sent[0], self.config
        if not (config.noise_q or config.noise_v):
            return sample
        dq, dv = self._rng.standard_normal((2, self.robot.nj))
        return sample._replace(q=sample.q + config.noise_q * dq, v=sample.v + config.noise_v * dv)

    def step(self, n: int = 1) -> None:
        """``n`` steps of the physics; none once it has diverged."""
        for _ in range(n):
            if self.diverged:
                return
            if self._push_until and self.ns >= self._push_until:
                self.push(np.zeros(3), 0.0)
                self._push_until = 0
            mujoco.mj_step1(self.model, self.data)
            self._torque = self._actuate(self.data.qpos[self._q_at], self.data.qvel[self._v_at])
            self.data.ctrl[self._motors] = self._torque[self._driven] / self._gear
            mujoco.mj_step2(self.model, self.data)
            self.ns += self.step_ns
            self._check()
            self._remember()

    # --- One step ------------------------------------------------------------------------------------

    def _actuate(self, q: Array, v: Array) -> Annotated[Array, "nj"]:
        """Torques of this step."""
        if self._kind in ("velocity", "effort") and self.ns - self._commanded_ns > self._timeout_ns:
            self._enter("position" if self.robot.servo else "brake", q)
            self._value = q
        if self._kind == "effort":
            torque = self._value
        elif self._kind == "brake":
            torque = self._bias() + self._brake.torque(q, v)
        else:
            torque = self._servo(q, v)
        return np.minimum(np.maximum(torque, -self._torque_limit), self._torque_limit)

    def _servo(self, q: Array, v: Array) -> Annotated[Array, "nj"]:
        servo = self.robot.servo
        assert servo is not None  # no sink that needs it is entered without one
        if self._kind == "trajectory":
            self._q_ref, self._v_ref, _ = self.jtc.sample(self.time)
        elif self._kind == "position":
            self._q_ref, self._v_ref = self._value, np.zeros_like(q)
        else:
            self._q_ref, self._v_ref = self._q_ref + self._value * self.model.opt.timestep, self._value
        self._q_seen = self._q_seen + self._follow * (self._q_ref - self._q_seen)
        self._v_seen = self._v_seen + self._follow * (self._v_ref - self._v_seen)
        return self._stiffness * (self._q_seen - q) + servo.damping * (self._v_seen - v) + self._bias()

    def _bias(self) -> Annotated[Array, "nj"]:
        """Gravity and Coriolis torques as the servo believes them."""
        if self.model is self.nominal:
            return self.data.qfrc_bias[self._v_at]
        data = self._nominal_data
        data.qpos[:], data.qvel[:] = self.data.qpos, self.data.qvel
        mujoco.mj_step1(self.nominal, data)
        return data.qfrc_bias[self._v_at]

    def _reference(self) -> Annotated[Array, "nj"]:
        """Where a sink that takes over finds the reference: at the arm itself, if nothing servoed it."""
        return self.data.qpos[self._q_at] if self._kind in ("effort", "brake") else self._q_ref

    def _enter(self, kind: str, reference: Annotated[Array, "nj"]) -> None:
        """Another sink takes over, from a reference at rest."""
        if self._kind in ("effort", "brake"):
            self._q_seen, self._v_seen = self.data.qpos[self._q_at], self.data.qvel[self._v_at]
        if kind == "brake":
            self._brake.engage(reference)
        self._kind, self._q_ref, self._v_ref = kind, reference, np.zeros(self.robot.nj)

    def _check(self) -> None:
        counts = self.data.warning.number
        for warning, what in BAD.items():
            if counts[warning]:
                at = int(self.data.warning[warning].lastinfo)
                self.diverged = f"{what} {at} is not finite or beyond 1e10 at {self.time:.3f} s"
                return

    def _remember(self) -> None:
        q, v = self.data.qpos[self._q_at], self.data.qvel[self._v_at]
        blocks = self._scene.read(self.data.qpos, self.data.qvel)
        self._sent.append(Sample(self.ns, q, v, self._torque, blocks))

    def _inertia(self) -> Annotated[Array, "nj"]:
        """Of each joint by itself, at home."""
        mjcf.reset(self.robot, self.model, self.data)
        inertia = np.zeros((self.model.nv, self.model.nv))
        mujoco.mj_forward(self.model, self.data)
        mujoco.mj_fullM(self.model, self.data, inertia)
        return inertia.diagonal()[self._v_at]


# --- Reading the MJCF ----------------------------------------------------------------------------------


def _models(robot: Robot, payload: float) -> tuple[Model, Model]:
    """The robot as mounted, and as it is simulated: the same model, unless there is a payload nobody knows of."""
    spec = mjcf.read(robot)
    nominal = mjcf.compiled(robot, spec)
    if not payload:
        return nominal, nominal
    mjcf.load(spec.body(robot.tip_body), _tip_in_body(robot, nominal), payload, inertia=1e-4 * payload)
    return nominal, mjcf.compiled(robot, spec)


def _tip_in_body(robot: Robot, model: Model) -> Annotated[Array, "3"]:
    """The tip in the frame of the body that carries it; the robot's base is at the world's origin."""
    data = mujoco.MjData(model)
    data.qpos[mjcf.addresses(model, robot)[0]] = robot.home
    mujoco.mj_kinematics(model, data)
    body = data.body(robot.tip_body)
    return body.xmat.reshape(3, 3).T @ (np.asarray(robot.tip(np, robot.home)) - body.xpos)
