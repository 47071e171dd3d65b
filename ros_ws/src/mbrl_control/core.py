"""The types and protocols that every part of the stack shares. Imports nothing of ours but the error.

Units are SI (metres, radians, seconds, newtons); a joint that slides counts in metres where one that
turns counts in radians. Times are *control-clock* seconds since the node started: a node converts ROS
stamps at its border, nothing in here knows them. Array shapes stand in the annotations
(``Annotated[Array, "H+1 nj"]``) and are checked when ``core.SHAPE_CHECKS`` is set, as the tests do.

Functions that take ``xp`` are written once in the subset of the array API named in ``XP_SUBSET``
(last-axis operations, an explicit axis in every reduction, no in-place writes, no Python ``if`` on
values), so that the same source runs on NumPy, on torch, traces to ONNX and builds CasADi expressions.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar, get_args, get_type_hints, runtime_checkable

import numpy as np

from mbrl_control.errors import MbrlError

Array = Any
"""A NumPy array, a torch tensor or an array of CasADi scalars: whatever ``xp`` works on."""

XP_SUBSET = (
    "abs", "arange", "asarray", "broadcast_to", "ceil", "clip", "concat", "cos", "exp", "expand_dims",
    "floor", "isfinite", "log", "matmul", "max", "maximum", "mean", "min", "minimum", "moveaxis", "ones_like",
    "reshape", "sin", "sqrt", "square", "stack", "sum", "tanh", "where", "zeros_like",
)  # fmt: skip
"""The array functions that planners, tasks, robots and dynamics may use through ``xp``."""
XP_SELECTION = ("argmin", "argsort", "sort", "take")
"""Further ones for planners that choose among samples. CasADi has none of them, and needs none."""

SHAPE_CHECKS = False
"""Check the shapes in the annotations of every dataclass below when it is made (tests switch this on)."""


class ShapeError(MbrlError):
    """An array whose shape contradicts its annotation."""


class GoalError(MbrlError):
    """A goal that is not finite, not reachable, or of the wrong size."""


def numbers(goal: Any, size: int, accepts: str) -> np.ndarray:
    """A goal as an array of ``size`` finite numbers; ``accepts`` says in the error what is taken."""
    try:
        given = np.asarray(goal, dtype=float)
    except (TypeError, ValueError):
        raise GoalError(f"goal {goal!r}: {accepts}") from None
    if given.shape != (size,):
        raise GoalError(f"goal of shape {given.shape}: {accepts}")
    if not is_finite(given):
        raise GoalError(f"goal {given.tolist()}: {accepts}")
    return given


class BackEndError(MbrlError):
    """A part that does not run on the array namespace it was asked to."""


class Status(enum.IntFlag):
    """What is wrong, as flags that can be combined; ``OK`` is none of them."""

    OK = 0
    STALE_STATE = 1
    STALE_PLAN = 2
    NONFINITE = 4
    LIMITED = 8
    BARRIER = 16
    OVERRUN = 32
    OUT_OF_DISTRIBUTION = 64
    FAULT = 128

    def __str__(self) -> str:
        return "|".join(flag.name or "" for flag in Status if flag and flag in self) or "OK"


class Mode(enum.StrEnum):
    """What a plan's controls ``u`` are."""

    VELOCITY_REFERENCE = "velocity_reference"
    """Velocities of the joint reference; the guard integrates them. The default for arms."""
    TORQUE = "torque"
    """Joint torques or forces. Accepted by our simulation only."""


C = TypeVar("C", bound=type)


def checked_shapes(cls: C) -> C:
    """Class decorator, below ``@dataclass``: check the annotated shapes when ``SHAPE_CHECKS`` is set.

    ``"H+1 nj"`` means two axes; ``H`` and ``nj`` must agree wherever they stand in the same object.
    """

    def check(self: Any) -> None:
        if SHAPE_CHECKS:
            check_shapes(self)

    setattr(cls, "__post_init__", check)  # noqa: B010 - a type has no such attribute for the checker
    return cls


def check_shapes(instance: Any) -> None:
    """Raise ``ShapeError`` where an array field of a dataclass contradicts its annotation."""
    sizes: dict[str, int] = {}
    hints = get_type_hints(type(instance), include_extras=True)
    for field in dataclasses.fields(instance):
        value, hint = getattr(instance, field.name), hints[field.name]
        specs = [spec for part in (hint, *get_args(hint)) for spec in getattr(part, "__metadata__", ())]
        if specs and value is not None:
            _match_shape(f"{type(instance).__name__}.{field.name}", tuple(value.shape), specs[0], sizes)


def _match_shape(name: str, shape: tuple[int, ...], spec: str, sizes: dict[str, int]) -> None:
    axes = spec.split()
    if len(axes) != len(shape):
        raise ShapeError(f"{name} has shape {shape}; it takes [{spec}]")
    for axis, size in zip(axes, shape, strict=True):
        symbol, _, extra = axis.partition("+")
        base = size - int(extra or 0)
        expected = int(symbol) if symbol.isdigit() else sizes.setdefault(symbol, base)
        if base != expected:
            raise ShapeError(f"{name} has shape {shape}; it takes [{spec}] with {symbol}={expected}")


# --- What is seen -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
@checked_shapes
class State:
    """The joints at one time."""

    t: float
    q: Annotated[Array, "nj"]
    v: Annotated[Array, "nj"]


@dataclass(frozen=True, slots=True)
class Block:
    """One named part of an observation, besides the joints."""

    name: str
    size: int
    unit: str
    kind: Literal["linear", "angle", "quaternion", "image"]
    source: str
    max_age: float
    """Older than this [s] and the block counts as missing."""

    @property
    def topic(self) -> str:
        """Where it is said, relative: the velocity of a body as a TwistStamped, its position as a PoseStamped."""
        return f"{self.source}/twist" if self.unit == "m/s" else f"{self.source}/pose"


@dataclass(frozen=True, slots=True)
class Layout:
    """The blocks a task reads, in order."""

    blocks: tuple[Block, ...] = ()

    @property
    def size(self) -> int:
        return sum(block.size for block in self.blocks)

    def slices(self) -> dict[str, slice]:
        """Where each block lies in a flat vector of all of them."""
        ends = np.cumsum([0] + [block.size for block in self.blocks])
        return {b.name: slice(int(i), int(j)) for b, i, j in zip(self.blocks, ends[:-1], ends[1:], strict=True)}


@dataclass(frozen=True, slots=True)
class Observation:
    """What a planner plans from: the joints, and whatever else its task reads, each with its own age."""

    t: float
    joints: State
    blocks: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    stamps: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
@checked_shapes
class Goal:
    """What is wanted over the horizon: it may move, a still goal is broadcast."""

    value: Annotated[Array, "H+1 ng"]
    tolerance: float
    """Within this distance [unit of the task] the goal counts as met..."""
    dwell: float
    """... once it has been so for this long [s]."""

    @classmethod
    def still(cls, value: Sequence[float] | np.ndarray, horizon: int, tolerance: float, dwell: float) -> Goal:
        """The same goal at every step of the horizon."""
        row = np.asarray(value, dtype=float)
        return cls(np.broadcast_to(row, (horizon + 1, row.size)), tolerance, dwell)

    @classmethod
    def ahead(cls, task: Task, value: np.ndarray, t: np.ndarray) -> Goal:
        """Where the goal of a task will be at times ``t`` [s on the ROS clock], one for each knot of the horizon."""
        return cls(task.course(value, t), task.tolerance, task.dwell)


# --- What is commanded ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
@checked_shapes
class Limits:
    """What a joint may do. Symmetric but for the position."""

    lower: Annotated[np.ndarray, "nj"]
    upper: Annotated[np.ndarray, "nj"]
    velocity: Annotated[np.ndarray, "nj"]
    acceleration: Annotated[np.ndarray, "nj"]
    jerk: Annotated[np.ndarray, "nj"]
    torque: Annotated[np.ndarray, "nj"]
    torque_rate: Annotated[np.ndarray, "nj"] | None = None
    """How fast a torque that is commanded may change [N m/s; N/s for a slide]; None: as fast as one likes."""

    def at_speed(self, speed: float) -> Limits:
        """The same joints slowed down: velocities scaled, the means to brake untouched."""
        return dataclasses.replace(self, velocity=self.velocity * speed)


@dataclass(frozen=True, slots=True)
@checked_shapes
class Channels:
    """What a planner commands: one mode, and how each channel moves the joints (a hand has fewer channels)."""

    mode: Mode
    names: tuple[str, ...]
    coupling: Annotated[np.ndarray, "nj nu"]
    bound: Annotated[np.ndarray, "nu"]
    """Largest command of each channel [rad/s, m/s, N m or N by mode and joint]."""


@dataclass(frozen=True, slots=True)
@checked_shapes
class Setpoint:
    """A plan read at one time."""

    q: Annotated[Array, "nj"]
    v: Annotated[Array, "nj"]
    a: Annotated[Array, "nj"]
    u: Annotated[Array, "nu"]


@dataclass(frozen=True, slots=True)
@checked_shapes
class Plan:
    """A trajectory in robot coordinates that carries its own time, so that jitter and unequal rates cost nothing.

    Knot ``k`` is at ``t0 + k dt``; ``u[k]`` is in force from knot ``k`` to ``k + 1``.
    """

    t0: float
    dt: float
    mode: Mode
    q: Annotated[Array, "H+1 nj"]
    v: Annotated[Array, "H+1 nj"]
    u: Annotated[Array, "H nu"]
    K: Annotated[Array, "H nu nx"] | None
    """Feedback gains on the deviation [q - q_plan, v - v_plan], nx = 2 nj; None: no feedback."""
    state_stamp: float
    """Time of the state it was planned from."""
    seq: int

    @property
    def horizon(self) -> int:
        return len(self.u)

    @property
    def end(self) -> float:
        return self.t0 + self.horizon * self.dt

    def at(self, t: float, q: np.ndarray | None = None, v: np.ndarray | None = None) -> Setpoint:
        """The plan at time ``t``: cubic between knots, held at rest after the last, feedback where there is any.

        A cubic through the knots' positions and velocities is exact for controls held between knots.
        """
        s = (t - self.t0) / self.dt
        if not s < self.horizon:  # a NaN too
            rest = np.zeros_like(self.q[-1])
            return Setpoint(self.q[-1], rest, rest, self.u[-1] * 0.0)
        s = max(s, 0.0)
        k = int(s)
        x, h = s - k, self.dt
        p0, p1, m0, m1 = self.q[k], self.q[k + 1], self.v[k] * h, self.v[k + 1] * h
        c2 = 3.0 * (p1 - p0) - 2.0 * m0 - m1
        c3 = 2.0 * (p0 - p1) + m0 + m1
        qd = p0 + x * (m0 + x * (c2 + x * c3))
        vd = (m0 + x * (2.0 * c2 + 3.0 * x * c3)) / h
        ad = (2.0 * c2 + 6.0 * x * c3) / h**2
        u = self.u[k]
        if self.K is not None and q is not None and v is not None:
            u = u + self.K[k] @ np.concatenate([q - qd, v - vd])
        return Setpoint(qd, vd, ad, u)


@dataclass(frozen=True, slots=True)
@checked_shapes
class Command:
    """What goes to the arm: the next ticks of the reference, and the stop that follows if nothing more comes."""

    t: Annotated[np.ndarray, "m"]
    q: Annotated[np.ndarray, "m nj"]
    v: Annotated[np.ndarray, "m nj"]
    a: Annotated[np.ndarray, "m nj"]
    effort: Annotated[np.ndarray, "m nj"] | None
    mode: Mode


# --- What is modelled -------------------------------------------------------------------------------

Latent = Mapping[str, Array]
"""A model's state: named tensors (joints, a particle's ensemble member, a recurrent latent)."""
Features = Mapping[str, Array]
"""What a task reads of a predicted state: ``q``, ``v`` and the names of the task's blocks, each [... n]."""
Noise = Mapping[str, Array]
"""Named draws from a standard normal, handed in, so that every back end sees the same ones."""


@runtime_checkable
class Dynamics(Protocol):
    """A model that can be stepped: analytic, MuJoCo's, an ensemble or a recurrent latent."""

    @property
    def dt(self) -> float:
        """Duration of one step [s]."""
        ...

    def init(self, obs: Observation, noise: Noise) -> Latent: ...

    def step(self, s: Latent, u: Array, noise: Noise) -> tuple[Latent, Features, Mapping[str, Array]]:
        """One step: the next state, what a task reads of it, and what is known of the error (``disagreement``)."""
        ...

    def features(self, s: Latent) -> Features: ...

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest control of each channel."""
        ...

    def plan(self, features: Features, u: Array) -> tuple[Array, Array]:
        """Predicted features [H+1 ...] in robot coordinates: the reference's positions and velocities."""
        ...


@runtime_checkable
class Differentiable(Dynamics, Protocol):
    """Dynamics that also give their Jacobians, in NumPy arrays: of the mean, where there are particles."""

    def linearize(self, s: Latent, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A [... nx nx] and B [... nx nu] of the step at (s, u) [... n], x as ``flat`` has s."""
        ...


def flat(xp: Any, s: Latent) -> Array:
    """A latent state as one vector [... nx]: its tensors [... n], one behind the other in the order of ``init``."""
    return xp.concat(list(s.values()), axis=-1)


def unflat(x: Array, sizes: Mapping[str, int]) -> dict[str, Array]:
    """The latent state that a vector [... nx] stands for; ``sizes`` of its tensors in the order of ``init``."""
    found, at = {}, 0
    for name, size in sizes.items():
        found[name], at = x[..., at : at + size], at + size
    return found


@runtime_checkable
class RollsOut(Dynamics, Protocol):
    """Dynamics that take a whole horizon in one call, where that is faster than step by step."""

    def rollout(self, s: Latent, u: Array, noise: Noise) -> tuple[Features, Mapping[str, Array]]:
        """What ``stepwise`` gives, of the same arguments."""
        ...


@runtime_checkable
class Particles(Dynamics, Protocol):
    """Dynamics that are not sure: one control sequence has several futures, each of a particle.

    What ``init`` gives is one state, and rolled out as it is it has one future. ``scatter`` makes particles of it, on
    an axis before that of samples: u [N H nu] then leads to features [P N H+1 n]. Planners average their *costs*.
    """

    @property
    def particles(self) -> int:
        """P, how many of each sample."""
        ...

    def noise(self, rng: np.random.Generator, horizon: int) -> Noise:
        """The draws that a rollout of particles takes, each [P 1 H n]: the same ones for all samples."""
        ...

    def scatter(self, s: Latent) -> Latent:
        """One state for each particle, [P 1 n]."""
        ...


def rollout(xp: Any, dynamics: Dynamics, s: Latent, u: Array, noise: Noise) -> tuple[Features, Mapping[str, Array]]:
    """Where ``u`` [... H nu] leads: features and aux, stacked, [... H+1 n] and [... H n].

    The leading axes of ``u`` are samples; ``noise`` has one entry a step on the same axis as ``u``.
    """
    return dynamics.rollout(s, u, noise) if isinstance(dynamics, RollsOut) else stepwise(xp, dynamics, s, u, noise)


def stepwise(xp: Any, dynamics: Dynamics, s: Latent, u: Array, noise: Noise) -> tuple[Features, Mapping[str, Array]]:
    """The rollout of any dynamics, one step after another."""
    start = dynamics.features(s)
    rows, auxes = [start], []
    for k in range(u.shape[-2]):
        s, row, aux = dynamics.step(s, u[..., k, :], {name: draw[..., k, :] for name, draw in noise.items()})
        rows.append(row)
        auxes.append(aux)
    shape = {name: rows[1][name].shape for name in start}
    rows[0] = {name: xp.broadcast_to(start[name], shape[name]) for name in start}
    stacked = {name: xp.stack([row[name] for row in rows], axis=-2) for name in start}
    return stacked, {name: xp.stack([aux[name] for aux in auxes], axis=-2) for name in auxes[0]}


# --- What is wanted ---------------------------------------------------------------------------------


def quadratic(xp: Any, r: Array, p: float) -> Array:
    """sum of p r^2 / 2."""
    return xp.sum(xp.square(r), axis=-1) * (0.5 * p)


def smooth_abs(xp: Any, r: Array, p: float) -> Array:
    """sqrt(|r|^2 + p^2) - p: quadratic within p of zero, a distance beyond."""
    return xp.sqrt(xp.sum(xp.square(r), axis=-1) + p * p) - p


def gaussian(xp: Any, r: Array, p: float) -> Array:
    """1 - exp(-|r|^2 / 2 p^2): indifferent to how far it is, once it is far."""
    return 1.0 - xp.exp(xp.sum(xp.square(r), axis=-1) * (-0.5 / (p * p)))


def indicator(xp: Any, r: Array, p: float) -> Array:
    """1 where any part of r is above p, 0 elsewhere."""
    worst = xp.max(r, axis=-1)
    return xp.where(worst > p, xp.ones_like(worst), xp.zeros_like(worst))


NORMS: Mapping[str, Callable[[Any, Array, float], Array]] = {
    "quadratic": quadratic,
    "smooth_abs": smooth_abs,
    "gaussian": gaussian,
    "indicator": indicator,
}


@dataclass(frozen=True, slots=True)
class Term:
    """How one residual becomes a cost: data, so that planners, viewers and solvers read the same thing."""

    norm: Literal["quadratic", "smooth_abs", "gaussian", "indicator"]
    weight: float
    p: float = 1.0
    """The norm's scale, in the unit of the residual (a factor for ``quadratic``)."""
    terminal: float = 0.0
    """Further weight at the last step of the horizon."""

    @property
    def gauss_newton(self) -> bool:
        """Whether second derivatives may be taken from first ones (``indicator`` has none)."""
        return self.norm != "indicator"


class Task(Protocol):
    """What is wanted of a robot."""

    robot: Robot
    layout: Layout
    goal_size: int
    dt: float
    """A step of its control [s], and of what is predicted for it, where nobody says otherwise."""
    steps: int
    """Steps of an episode, where nobody says otherwise."""
    threshold: float | None
    """Score of an episode from which it counts as learned; None: nobody has said."""
    tolerance: float
    dwell: float
    terms: Mapping[str, Term]
    sampling_only: bool
    """True where the residuals cannot be built by CasADi: gradient planners refuse such a task by name."""

    def residuals(self, xp: Any, features: Features, u: Array, goal: Array) -> Mapping[str, Array]:
        """Named residuals [... nr] of predicted features [... n], controls [... nu] and goal [... ng]."""
        ...

    def score(self, obs: Observation, u: np.ndarray, after: Observation, goal: np.ndarray) -> float:
        """The published reward of one real transition; never what a planner optimises."""
        ...

    def reset(self, rng: np.random.Generator) -> State: ...

    def sample_goal(self, rng: np.random.Generator) -> np.ndarray: ...

    def check_goal(self, goal: np.ndarray) -> None:
        """Raise ``GoalError`` if the goal is not finite, of the wrong size, or out of reach."""
        ...

    def course(self, goal: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Where the goal is [len(t) ng] at times ``t`` [s on the ROS clock]; one that is still is the same everywhere.

        ``sample_goal`` and ``check_goal`` speak of the goal as it is given, all else of a row of its course. Planner,
        observer and viewer each work it out for themselves: the clock is all that they need to share.
        """
        ...

    def distance(self, obs: Observation, goal: np.ndarray) -> float:
        """How far from the goal, to be compared with ``tolerance``."""
        ...

    def success(self, obs: Observation, goal: np.ndarray) -> bool: ...

    def terminal(self, obs: Observation) -> bool: ...


@runtime_checkable
class Places(Task, Protocol):
    """A task that also says where the things around the robot are when an episode starts."""

    def place(self, rng: np.random.Generator) -> Mapping[str, np.ndarray]:
        """Blocks of the observation, by name; what is not there stays where the MJCF has it."""
        ...


@runtime_checkable
class Aims(Task, Protocol):
    """A task whose goal is no point in the world but stands for one, where it can be shown."""

    def target(self, xp: Any, goal: Array) -> Array:
        """The point [... 3] of goals [... ng], as ``course`` gives them."""
        ...


@runtime_checkable
class Avoids(Task, Protocol):
    """A task that also says what must not touch: planners that know constraints keep to it exactly."""

    def clearance(self, xp: Any, features: Features) -> Array:
        """Distances [... n] of predicted features [... n] that must not become negative [m]."""
        ...


@runtime_checkable
class Rests(Task, Protocol):
    """A task that also says which goal is met as things are: the one before a person gives any."""

    def rest(self, obs: Observation) -> np.ndarray: ...


def costs(xp: Any, task: Task, weights: Array, features: Features, u: Array, goal: Array) -> Array:
    """Cost terms [... T] of stacked features [... H+1 n] under u [... H nu]: mean over the horizon plus terminal part.

    The residual of step k sees the state that ``u[k]`` leads to; ``weights`` [T] stand in the order of
    ``task.terms``, so that they can be changed while running.
    """
    after = {name: value[..., 1:, :] for name, value in features.items()}
    residuals = task.residuals(xp, after, u, goal[1:, :])
    columns = []
    for i, (name, term) in enumerate(task.terms.items()):
        each = NORMS[term.norm](xp, residuals[name], term.p)
        columns.append(weights[i] * (xp.mean(each, axis=-1) + term.terminal * each[..., -1]))
    return xp.stack(columns, axis=-1)


# --- Who plans --------------------------------------------------------------------------------------

Carry = Mapping[str, Array]
"""What a planner remembers between calls: named tensors (MPPI's mean and its time, iLQR's last trajectory)."""
Knobs = Mapping[str, Array]
"""What can be turned while running: named arrays (weights, temperature, limits)."""


@dataclass(frozen=True, slots=True)
class Info:
    """What a planner can say of its plan, for people and recordings; never sent to the guard."""

    status: Status
    cost: float
    terms: Mapping[str, float]
    effective_samples: float
    """Kish's effective sample size of the update; 1 where nothing is sampled."""
    predicted: Features
    spread: Features = dataclasses.field(default_factory=dict)
    """Standard deviation over particles of what is predicted; empty of a model that has none."""
    disagreement: Annotated[Array, "H"] | None = None
    """How far the members of a learned model differ along the plan, in units of what is usual; None: nobody asked."""
    reason: str = ""
    """Why the status is not OK, in words, where the planner knows more than its flags say."""


class Planner(Protocol):
    """One bounded iteration of planning, as a pure function; the runtime owns the deadline."""

    @property
    def dt(self) -> float:
        """Duration of one step of the plan [s]."""
        ...

    @property
    def horizon(self) -> int:
        """Steps of the plan."""
        ...

    def init(self, obs: Observation) -> Carry: ...

    def knobs(self) -> Knobs: ...

    def noise(self, rng: np.random.Generator) -> Noise:
        """The draws that one call of ``improve`` takes."""
        ...

    def improve(
        self, obs: Observation, goal: Goal, knobs: Knobs, carry: Carry, noise: Noise
    ) -> tuple[Carry, Plan, Info]: ...


# --- Robots -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sink:
    """Where commands go on the real robot, and under the same name in simulation."""

    topic: str
    kind: Literal["joint_trajectory", "position", "velocity", "effort"]
    joints: tuple[str, ...] = ()
    """The driver's names in the order in which a sink without names takes its numbers; empty: our order."""


@dataclass(frozen=True, slots=True)
class Capsule:
    """All points within a radius of a line between two ends; where the ends are the same, a ball."""

    name: str
    radius: float
    """[m]"""
    start: tuple[float, float, float]
    end: tuple[float, float, float]
    """Its ends in the frame of ``link`` [m]."""
    link: int = 0
    """Number of the joint that moves it, from 1; 0: it stands in the base's frame."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box in the base's frame."""

    name: str
    half: tuple[float, float, float]
    """Half of its edges [m]."""
    centre: tuple[float, float, float]
    """[m]"""
    axes: tuple[tuple[float, float, float], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    """Directions of its edges, each a unit vector."""


@dataclass(frozen=True, slots=True)
class HalfSpace:
    """All that lies below a plane in the base's frame: a floor, a wall."""

    name: str
    normal: tuple[float, float, float] = (0.0, 0.0, 1.0)
    """Unit vector that points out of it."""
    height: float = 0.0
    """Of the plane, along the normal [m]."""


Solid = Capsule | Box | HalfSpace


@dataclass(frozen=True)
class Robot:
    """A robot, declared once: joints, channels, limits with units, tool and home, model, topics, rates."""

    name: str
    joints: tuple[str, ...]
    channels: Channels
    limits: Limits
    home: np.ndarray
    """Joint positions of the rest pose [nj]."""
    world: Path
    """The MJCF it is simulated with."""
    tip_body: str
    """Name of the body in that MJCF which carries the tip."""
    tip: Callable[[Any, Array], Array]
    """(xp, q [... nj]) -> position of the tip in the base's frame [... 3]."""
    inverse_dynamics: Callable[[Any, Array, Array, Array], Array] | None
    """(xp, q, v, a) -> joint torques [... nj], friction and springs not included; None where no closed form is given,
    which only a robot without a servo may."""
    acceleration: Callable[[Any, Array, Array, Array], Array] | None
    """(xp, q, v, torque) -> joint accelerations [... nj], friction included; None where no closed form is given."""
    friction: Callable[[Any, Array], Array] | None = dataclasses.field(default=None, kw_only=True)
    """(xp, v) -> joint torques [... nj] that friction takes. Where it is given, ``acceleration`` is the solution a of
    inverse_dynamics(q, v, a) = torque - friction(v), which gives derivatives at a fraction of the price."""
    sink: Sink
    state_topic: str
    state_rate: float
    """Rate at which the driver publishes joint states [Hz]."""
    servo: Servo | None
    """The position servo that stands for the driver in simulation; None: no servo, torque only."""
    mount: Callable[[Any], None] | None = None
    """Edits the MjSpec of ``world``, so that it is this robot with its tool and payload; None: it is as it stands."""
    config: Any = None
    renamed: tuple[str, ...] = ()
    """What the driver calls ``joints``, in our order; empty: the same."""
    sliding: tuple[str, ...] = ()
    """Those of ``joints`` that slide; all others turn."""
    blocks: tuple[Block, ...] = ()
    """What can be seen of the bodies around it in that MJCF: the ``source`` of a block is a body's name, its unit says
    whether it is the position [m] or the velocity [m/s]."""
    solids: tuple[Capsule, ...] = ()
    """What it is made of, as capsules that contain all of it that collides; empty: nobody has said."""
    ends: Callable[[Any, Array], Sequence[tuple[Any, Any]]] | None = None
    """(xp, q [... nj]) -> start and end of each of ``solids`` in the base's frame, each as x, y, z [...]."""
    apart: tuple[tuple[str, str], ...] = ()
    """Names of those of ``solids`` that must not meet each other and could."""
    obstacles: tuple[Solid, ...] = ()
    """What stands around it and never moves, in the base's frame; the floor is one of them."""

    @property
    def nj(self) -> int:
        return len(self.joints)

    @property
    def driver_joints(self) -> tuple[str, ...]:
        """The joints as messages name them; ``joints`` is how the model names them."""
        return self.renamed or self.joints

    @property
    def nu(self) -> int:
        return len(self.channels.names)

    def at_speed(self, speed: float) -> Robot:
        """The same robot slowed down, for a planner that is to plan within what the guard lets through."""
        channels = self.channels
        if channels.mode is Mode.VELOCITY_REFERENCE:
            channels = dataclasses.replace(channels, bound=channels.bound * speed)
        return dataclasses.replace(self, limits=self.limits.at_speed(speed), channels=channels)


@dataclass(frozen=True, slots=True)
class Servo:
    """A joint servo: torque = stiffness (q_ref - q) + damping (v_ref - v) + gravity, behind a first-order lag."""

    stiffness: np.ndarray
    damping: np.ndarray
    lag: float = 0.0
    """Time constant between the reference and what the servo sees of it [s]."""


def is_finite(*arrays: Array) -> bool:
    """Whether every element of every array is finite."""
    return all(bool(np.isfinite(a).all()) for a in arrays)
