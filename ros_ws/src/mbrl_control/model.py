"""A learned model as data: what it reads of a state, what it predicts, and its weights. NumPy only.

The state is an ordered list of named *parts*: the joints' ``q`` and ``v``, and whatever else is predicted, as the pose
of a pushed object. Each element is ``linear``, or an ``angle``, which the network sees as sine and cosine and whose
changes are counted modulo a turn. The network reads

    [features of the parts, the last L commands, u]                              of a robot that takes torques
    [features of the parts, q_ref - q, v_ref, the last L commands, v_ref']       of one that follows a reference

Joints behind a servo have no memory of what they were told: the reference is. It is known exactly and need not be
learned, the velocity v_ref' that a command leads to included: from u alone the network would have to find out how far a
reference may change in one step (of the Panda's joint speeds that leaves twice the error). It predicts, in units of
what is usual in the data, one of two structures:

    delta           x' = x + d            for every part
    acceleration    v' = v + d            for parts with a rate; and  q' = q + dt (v + v') / 2,  for free

The latter is exact where the acceleration is constant over a step; the semi-implicit rule q + dt v' would be off by
dt^2 a / 2 (0.07 rad in each step of a cart-pole's pole that swings).

What happens at a joint's stop is a kink that a network learns badly from little data. With ``stops``, which are known,
it also reads how far each joint would be beyond them one step on at its present speed, and positions stay within them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import pi
from typing import Annotated, Any, Literal, Protocol

import numpy as np

from mbrl_control.config import nearest
from mbrl_control.core import Array, Block, MbrlError, Mode, Robot
from mbrl_control.networks import Net

Kind = Literal["linear", "angle"]
STRUCTURES = ("delta", "acceleration")
REFERENCE = "reference"
"""Name of the reference [q, v] in observations, states and features."""
COMMANDS = "commands"
"""Name of the last commands [n nu], newest last and flattened, in observations and states."""
COMMANDS_KEPT = 8
"""How many commands before the present one an observation holds."""
GIVE = 0.03
"""Stops are springs: joints come this far beyond them [rad or m]."""
FLOOR = 1e-6
"""Least deviation that the data are divided by, in their own units."""


class ModelError(MbrlError):
    """A learned model that is not whole, or not one of this robot."""


@dataclass(frozen=True, slots=True)
class Part:
    """One named part of the state."""

    name: str
    kinds: tuple[Kind, ...]
    """Of each element."""
    units: tuple[str, ...]
    rate: str = ""
    """Name of the part that is its derivative; empty: none is known."""

    @property
    def size(self) -> int:
        return len(self.kinds)

    @property
    def angles(self) -> list[int]:
        return [i for i, kind in enumerate(self.kinds) if kind == "angle"]

    @property
    def lines(self) -> list[int]:
        return [i for i, kind in enumerate(self.kinds) if kind == "linear"]


@dataclass(frozen=True, slots=True)
class Spec:
    """What a model reads and predicts."""

    robot: str
    joints: tuple[str, ...]
    channels: tuple[str, ...]
    mode: str
    dt: float
    parts: tuple[Part, ...]
    latency: int = 0
    """L, how many commands before the present one it reads."""
    structure: str = "delta"
    """One of ``STRUCTURES``."""
    stops: tuple[tuple[float, float], ...] = ()
    """Range of each joint, read and kept to; empty: neither."""

    @property
    def follows(self) -> bool:
        """Whether the joints follow a reference."""
        return self.mode == Mode.VELOCITY_REFERENCE

    @property
    def derived(self) -> tuple[str, ...]:
        """Parts that follow from their rates and are not predicted."""
        return tuple(p.name for p in self.parts if p.rate) if self.structure == "acceleration" else ()

    @property
    def predicted(self) -> tuple[Part, ...]:
        """Parts whose change the network predicts."""
        return tuple(part for part in self.parts if part.name not in self.derived)

    @property
    def input_names(self) -> tuple[str, ...]:
        """A word for each input."""
        found: list[str] = []
        for part in self.parts:
            found += [f"{part.name}[{i}]" for i in part.lines]
            found += [f"{f} {part.name}[{i}]" for f in ("sin", "cos") for i in part.angles]
        if self.follows:
            found += [f"q_ref - q {joint}" for joint in self.joints] + [f"v_ref {joint}" for joint in self.joints]
        if self.stops:
            found += [f"{joint} beyond its {end} stop" for end in ("lower", "upper") for joint in self.joints]
        found += [f"u[-{ago}] {name}" for ago in range(self.latency, 0, -1) for name in self.channels]
        if self.follows:
            return (*found, *(f"v_ref' {joint}" for joint in self.joints))
        return (*found, *(f"u {name}" for name in self.channels))

    @property
    def output_names(self) -> tuple[str, ...]:
        """A word for each output."""
        return tuple(f"{part.name}[{i}]" for part in self.predicted for i in range(part.size))


class Described(Protocol):
    """A model of which it is known what it reads and predicts; its weights may be elsewhere."""

    @property
    def spec(self) -> Spec: ...

    @property
    def net(self) -> Net: ...

    @property
    def params(self) -> Mapping[str, np.ndarray]:
        """What normalises, at least."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, eq=False)
class Model:
    """A fitted model."""

    spec: Spec
    net: Net
    params: Mapping[str, np.ndarray]
    """The weights, and what normalises: ``input_mean``, ``input_scale`` [in], ``output_mean``, ``output_scale`` [n]."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is known of it, for the card: data, metrics, calibration, versions."""

    def __post_init__(self) -> None:
        expected = shapes(self.spec, self.net)
        found = {name: tuple(array.shape) for name, array in self.params.items()}
        for name, shape in expected.items():
            if found.get(name) != shape:
                raise ModelError(f"weights '{name}' of shape {found.get(name)}: this model takes {shape}")
        for name, array in self.params.items():
            if name not in expected:
                raise ModelError(f"weights '{name}': no such weights in this model; {nearest(name, expected)}")
            if not np.isfinite(array).all():
                raise ModelError(f"weights '{name}': not finite; this model takes finite ones")


def shapes(spec: Spec, net: Net) -> dict[str, tuple[int, ...]]:
    """The shape of each array of a model."""
    inputs, outputs = len(spec.input_names), len(spec.output_names)
    if (net.inputs, net.outputs) != (inputs, outputs):
        raise ModelError(f"a net with {net.inputs} inputs and {net.outputs} outputs: it takes {inputs} and {outputs}")
    return {**net.shapes(), **normaliser_shapes(net)}


def usual(model: Described) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of a model's changes."""
    mean, scale = (np.asarray(model.params[f"output_{name}"], dtype=float) for name in ("mean", "scale"))
    return mean, scale


def normaliser_shapes(net: Net) -> dict[str, tuple[int, ...]]:
    """Of what normalises."""
    sizes = {"input": net.inputs, "output": net.outputs}
    return {f"{side}_{name}": (size,) for side, size in sizes.items() for name in ("mean", "scale")}


def spec_for(
    robot: Robot,
    dt: float,
    *,
    blocks: Sequence[Block] = (),
    rates: Mapping[str, str] | None = None,
    latency: int = 0,
    structure: str = "delta",
    stops: bool = False,
) -> Spec:
    """What a model of a robot reads and predicts: its joints, and the blocks that are to be predicted too.

    ``rates`` says which block is the derivative of which, as ``{"object": "object_velocity"}``; None: a block of
    velocities is that of the positions of the same source.
    """
    if structure not in STRUCTURES:
        raise ModelError(f"structure '{structure}': it takes one of {', '.join(STRUCTURES)}")
    if not 0 <= latency <= COMMANDS_KEPT:
        raise ModelError(f"latency = {latency}: it takes a number of steps from 0 to {COMMANDS_KEPT}")
    straight: list[Kind] = ["linear"] * robot.nj
    turns: list[Kind] = [_kind(robot, i) for i in range(robot.nj)]
    units = tuple("m" if joint in robot.sliding else "rad" for joint in robot.joints)
    speeds = tuple(f"{unit}/s" for unit in units)
    parts = [Part("q", tuple(turns), units, "v"), Part("v", tuple(straight), speeds)]
    rates = _rates(blocks) if rates is None else rates
    taken = {"q", "v", REFERENCE, COMMANDS}
    for block in blocks:
        if block.kind not in ("linear", "angle") or block.name in taken:
            raise ModelError(
                f"block '{block.name}' of kind {block.kind}: a model predicts blocks of kind linear or angle, with "
                f"names other than {', '.join(sorted(taken))}"
            )
        taken.add(block.name)
        kind: Kind = "angle" if block.kind == "angle" else "linear"
        parts.append(Part(block.name, (kind,) * block.size, (block.unit,) * block.size, rates.get(block.name, "")))
    sizes = {part.name: part.size for part in parts}
    for part in parts:
        if part.rate and sizes.get(part.rate) != part.size:
            raise ModelError(f"rate '{part.rate}' of block '{part.name}': it takes a block of {part.size} numbers")
    mode = robot.channels.mode.value
    ends = tuple(zip(robot.limits.lower.tolist(), robot.limits.upper.tolist(), strict=True)) if stops else ()
    return Spec(robot.name, robot.joints, robot.channels.names, mode, dt, tuple(parts), latency, structure, ends)


def _rates(blocks: Sequence[Block]) -> dict[str, str]:
    """Which blocks are the derivatives of others, by source and unit."""
    speeds = {(block.source, block.unit): block.name for block in blocks}
    found = {block.name: speeds.get((block.source, f"{block.unit}/s"), "") for block in blocks}
    return {name: speed for name, speed in found.items() if speed}


def _kind(robot: Robot, joint: int) -> Kind:
    """A hinge that can turn all the way round is an angle."""
    reach = robot.limits.upper[joint] - robot.limits.lower[joint]
    return "angle" if robot.joints[joint] not in robot.sliding and reach > 2.0 * pi else "linear"


# --- Between states and what the network sees, over xp ------------------------------------------------


def columns(x: Array, which: Sequence[int]) -> list[Array]:
    """Some elements of the last axis, each kept as one."""
    return [x[..., i : i + 1] for i in which]


def inputs(
    spec: Spec, xp: Any, state: Mapping[str, Annotated[Array, "... n"]], drive: Annotated[Array, "... n"]
) -> Annotated[Array, "... in"]:
    """What the network reads, before it is normalised; all leading axes alike.

    ``drive`` is u, or of a robot that follows a reference its v_ref at the end of the step.
    """
    found: list[Array] = []
    for part in spec.parts:
        x = state[part.name]
        if not part.angles:
            found.append(x)
            continue
        turning = columns(x, part.angles)
        found += columns(x, part.lines) + [xp.sin(a) for a in turning] + [xp.cos(a) for a in turning]
    if spec.follows:
        reference, nj = state[REFERENCE], len(spec.joints)
        found += [reference[..., :nj] - state["q"], reference[..., nj:]]
    if spec.stops:
        found += beyond(spec, xp, state["q"] + spec.dt * state["v"])
    if spec.latency:
        found.append(state[COMMANDS])
    return xp.concat([*found, drive], axis=-1)


def wrapped(xp: Any, part: Part, change: Annotated[Array, "... n"]) -> Annotated[Array, "... n"]:
    """A change of a part; that of an angle modulo a turn, in [-pi, pi)."""
    if not part.angles:
        return change
    turns = xp.floor(change * (0.5 / pi) + 0.5) * (2.0 * pi)
    pieces = [change[..., i : i + 1] - turns[..., i : i + 1] * (kind == "angle") for i, kind in enumerate(part.kinds)]
    return xp.concat(pieces, axis=-1)


def changes(
    spec: Spec, xp: Any, before: Mapping[str, Array], after: Mapping[str, Array]
) -> Annotated[Array, "... out"]:
    """What the network is to predict, before it is normalised."""
    return xp.concat([wrapped(xp, p, after[p.name] - before[p.name]) for p in spec.predicted], axis=-1)


def ends(spec: Spec, xp: Any, q: Annotated[Array, "... nj"]) -> tuple[Annotated[Array, "nj"], Annotated[Array, "nj"]]:
    """The lower and the upper stops, as arrays like q."""
    low, high = (xp.asarray(np.array(side), dtype=q.dtype, device=q.device) for side in zip(*spec.stops, strict=True))
    return low, high


def beyond(spec: Spec, xp: Any, q: Annotated[Array, "... nj"]) -> list[Annotated[Array, "... nj"]]:
    """How far joints at q are beyond their lower stops, and their upper ones."""
    (low, high), none = ends(spec, xp, q), xp.zeros_like(q)
    return [xp.maximum(low - q, none), xp.maximum(q - high, none)]


def advanced(
    spec: Spec, xp: Any, state: Mapping[str, Array], change: Annotated[Array, "... out"]
) -> dict[str, Annotated[Array, "... n"]]:
    """The parts one step later."""
    found, at = {}, 0
    for part in spec.predicted:
        found[part.name] = state[part.name] + change[..., at : at + part.size]
        at += part.size
    for part in spec.parts:
        if part.name in spec.derived:
            found[part.name] = state[part.name] + (state[part.rate] + found[part.rate]) * (0.5 * spec.dt)
    if spec.stops:
        low, high = ends(spec, xp, found["q"])
        found["q"] = xp.minimum(xp.maximum(found["q"], low - GIVE), high + GIVE)
    return {part.name: found[part.name] for part in spec.parts}


def remembered(
    xp: Any, commands: Annotated[Array, "... m"], u: Annotated[Array, "... nu"]
) -> Annotated[Array, "... m"]:
    """The last commands one step later."""
    nu = u.shape[-1]
    return xp.concat([commands[..., nu:], u], axis=-1)


def normaliser(
    x: Annotated[np.ndarray, "B in"], y: Annotated[np.ndarray, "B out"]
) -> dict[str, Annotated[np.ndarray, "n"]]:
    """What makes the data usual: mean and deviation of inputs and outputs.

    An input that never changes is only shifted, so that it is not blown up when it does; an output that never changes
    is told apart from noise by the floor, so that what is predicted of it stays as small.
    """
    spread = x.std(axis=0)
    found = {
        "input_mean": x.mean(axis=0),
        "input_scale": np.where(spread < FLOOR, 1.0, spread),
        "output_mean": y.mean(axis=0),
        "output_scale": np.maximum(y.std(axis=0), FLOOR),
    }
    return {name: array.astype(np.float32) for name, array in found.items()}
