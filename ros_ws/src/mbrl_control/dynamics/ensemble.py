"""An ensemble of networks fitted to data: the learned model, with what it does not know.

Chua, Calandra, McAllister, Levine, "Deep Reinforcement Learning in a Handful of Trials using Probabilistic Dynamics
Models" (PETS, NeurIPS 2018); Nagabandi, Konolige, Levine, Kumar, "Deep Dynamics Models for Learning Dexterous
Manipulation" (PDDM, CoRL 2019). What it reads and predicts is said in ``model.py``. It is two models in one:

    plain        from ``init``:     x' = x + mean over members of d_e(x, u)             one state
    particles    from ``scatter``:  x' = x + d_m(x, u) + s_m(x, u) z,  m = member of the particle;  [P 1 n] states

Planners that know of particles (``sampling.py``) take the second, and average costs, not states:

    ts_inf   particles keep their members, each of which has as many, for the whole rollout: what is not known and
             what is noise stay apart
    ts1      members are dealt anew in each step, by a permutation that is the same for all samples
    mean     as ts_inf without noise z: PDDM's, for members that are deterministic

The noise z [P 1 H n] is the same for every sample, so that samples differ by their controls alone (PETS draws anew for
each one). What is not drawn is zero. For a robot that is commanded by reference velocities, the reference moves as in
``dynamics/kinematic.py`` and is what plans are made of; the joints that follow it are predicted, so that planning
makes up for their sag. Where the joints were measured before the time to plan for, they are moved on by up to two
steps: a plan begins up to a period after the state it is made from was looked at, and that state has an age of its own.

``aux`` of the plain model compares what the members say of one state: ``disagreement``, the deviation of their means,
and ``one_vs_rest``, the distance of the oddest from the mean of the others, both as root mean squares over outputs in
units of what is usual there. Of particles it compares where they would come to, each from where it is: in the first
step that is the same. Members at states that have parted would have to be asked E times as often.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np

from mbrl_control import model_folder, networks
from mbrl_control.config import ConfigError, param
from mbrl_control.core import Array, Features, Latent, Noise, Observation, Robot
from mbrl_control.dynamics._slopes import Said, Slopes, by_numpy
from mbrl_control.dynamics._written import Written
from mbrl_control.dynamics.kinematic import Kinematic
from mbrl_control.model import (
    COMMANDS,
    REFERENCE,
    Described,
    Model,
    ModelError,
    Spec,
    advanced,
    inputs,
    remembered,
    usual,
)
from mbrl_control.onnx_graph import Recorder
from mbrl_control.tangents import Tangents, jacobians

MEMBER = "member"
"""Of a state of particles: the member that each of them belongs to [P]."""
BEHIND = 2
"""Steps by which joints are moved on, at most."""
WHITE, DEAL = "ensemble", "ensemble_deal"
"""Draws: of what is noise [P 1 H n], and of who belongs to whom [P 1 H 1]."""


@dataclass(frozen=True)
class Propagation:
    """Which model, and how it is rolled out."""

    model: str = param("", "Model folder, as written by a learner")
    propagation: str = param(
        "ts_inf",
        "Particles keep their member (ts_inf), are dealt anew in each step (ts1), or have no noise (mean)",
        choices=("ts_inf", "ts1", "mean"),
    )
    particles: int = param(0, "Particles of each sample; 0: as many as members", low=0, high=10_000)


@dataclass(frozen=True)
class Config(Propagation):
    """And what the network computes in."""

    precision: str = param("float32", "What the network computes in", choices=("float32", "float64"))


class Members(Protocol):
    """The networks of a model, however they are run: in units of what is usual, of inputs as they come."""

    usual: tuple[Array, Array]
    """Mean and scale of the changes, in their own units: what a mean of 0 and a deviation of 1 stand for."""

    def of(self, member: Annotated[Array, "P"]) -> Any:
        """What it takes to ask particles of these members; made once where they stay what they are."""
        ...

    def __call__(
        self, x: Annotated[Array, "... in"], of: Any = None
    ) -> tuple[Annotated[Array, "M ... n"], Annotated[Array, "M ... n"] | None]:
        """Mean and deviation. Each of x [P ... in] by its particle's member; without ``of``, x by every member."""
        ...


class Weights:
    """Members that are arrays of ``xp``."""

    def __init__(self, model: Model, precision: str, xp: Any) -> None:
        self._net, self._xp = model.net, xp
        precise = {name: np.asarray(array, dtype=precision) for name, array in model.params.items()}
        self._weights = {name: xp.asarray(precise[name]) for name in model.net.shapes()}
        self._dtype = self._weights["w0"].dtype
        self._mean = np.asarray(model.params["input_mean"], dtype=float)
        self._scale = 1.0 / np.asarray(model.params["input_scale"], dtype=float)
        self.usual = usual(model)

    def of(self, member: Annotated[Array, "P"]) -> dict[str, Array]:
        return {name: self._xp.take(array, member, axis=0) for name, array in self._weights.items()}

    def __call__(
        self, x: Annotated[Array, "... in"], of: Mapping[str, Array] | None = None
    ) -> tuple[Annotated[Array, "M ... n"], Annotated[Array, "M ... n"] | None]:
        xp, net, weights = self._xp, self._net, self._weights if of is None else of
        x = xp.asarray((x - _like(xp, x, self._mean)) * _like(xp, x, self._scale), dtype=self._dtype)
        first = 1 if of is None else x.shape[0]
        raw = networks.forward(xp, net, weights, xp.reshape(x, (first, -1, x.shape[-1])))
        mean, variance = networks.mean_and_variance(xp, net, weights, raw)
        shape = (mean.shape[0], *(x.shape[:-1] if of is None else x.shape[1:-1]), net.outputs)
        deviation = None if variance is None else xp.reshape(xp.sqrt(variance), shape)
        return xp.reshape(mean, shape), deviation


class Ensemble:
    """The model. Arrays of ``xp``; any leading axes, particles one of samples."""

    def __init__(
        self,
        config: Propagation,
        model: Described,
        robot: Robot,
        xp: Any,
        members: Callable[[Any], Members],
        said: Callable[[Any], Said],
    ) -> None:
        """``members`` makes the networks of a model, ``said`` what gives their mean and its Jacobian."""
        model_folder.check_robot(model, robot)
        self.config, self.robot, self.xp = config, robot, xp
        self.dt = model.spec.dt
        self.particles = config.particles or model.net.members
        self._reference = Kinematic(self.dt, robot, xp)
        self._members, self._mean_and_jacobian = members, said
        self._take(model)

    @property
    def spec(self) -> Spec:
        return self.model.spec

    @property
    def quantiles(self) -> Mapping[str, Mapping[str, float]]:
        """Of ``disagreement`` and ``one_vs_rest`` on data held out, for a gate; empty: it was never calibrated."""
        return self.model.facts.get("calibration", {}).get("quantiles", {})

    def swap(self, model: Described) -> None:
        """Another model of the same kind, as after retraining; planners that hold this one go on with it."""
        if model.spec != self.model.spec or model.net.members != self.model.net.members:
            raise ModelError(
                f"model of robot '{model.spec.robot}' with {model.net.members} members: in place of this one it takes "
                f"another with {self.model.net.members} members and the same joints, parts, dt and structure"
            )
        self._take(model)

    def _take(self, model: Described) -> None:
        self.model, self._said, self._twin = model, self._members(model), None
        self._member = self.xp.asarray(np.sort(np.arange(self.particles) % model.net.members))

    # --- Of one state ---------------------------------------------------------------------------------

    def init(self, obs: Observation, noise: Noise) -> Latent:  # noqa: ARG002 - particles begin at one state
        """The joints, and whatever else is predicted; with the guard's reference and the last commands where read."""
        xp = self.xp
        s = {"q": xp.asarray(obs.joints.q), "v": xp.asarray(obs.joints.v)}
        for part in self.spec.parts[2:]:
            s[part.name] = self._block(obs, part.name, part.size)
        if self.spec.latency:
            s[COMMANDS] = self._block(obs, COMMANDS, self.spec.latency * self.robot.nu)
        if not self.spec.follows:
            return s
        known = obs.blocks.get(REFERENCE)
        if known is None:
            return {**s, REFERENCE: xp.concat([s["q"], s["v"]], axis=-1)}
        s[REFERENCE] = xp.asarray(known)
        return self._moved_on(s, (xp.asarray(obs.t) - xp.asarray(obs.joints.t)) / self.dt)

    def _block(self, obs: Observation, name: str, size: int) -> Array:
        """A block of the observation; of one that is longer, what is newest."""
        block = obs.blocks.get(name)
        if block is None or block.shape[-1] < size:
            there = "none" if block is None else f"{block.shape[-1]} numbers"
            raise ModelError(f"block '{name}' of the observation, {there}: this model takes {size} numbers")
        return self.xp.asarray(block)[..., block.shape[-1] - size :]

    def _moved_on(self, s: Latent, behind: Array) -> Latent:
        """Joints that were measured so many steps before the reference, moved to its time as it came along."""
        xp, nj = self.xp, self.robot.nj
        speed = s[REFERENCE][..., nj:]
        commanded = xp.matmul(speed, _like(xp, speed, np.linalg.pinv(self.robot.channels.coupling).T))
        for step in range(BEHIND):
            left = xp.clip(behind - float(step), 0.0, float(BEHIND - step))
            ago = xp.concat([speed * (left * self.dt), xp.zeros_like(speed)], axis=-1)
            later, _ = self._next({**s, REFERENCE: s[REFERENCE] - ago}, commanded, {})
            share = xp.clip(left, 0.0, 1.0)
            moved = {part.name: s[part.name] + (later[part.name] - s[part.name]) * share for part in self.spec.parts}
            s = {**s, **moved}
        return s

    def features(self, s: Latent) -> Features:
        kept = [part.name for part in self.spec.parts] + [REFERENCE] * self.spec.follows
        return {name: s[name] for name in kept}

    def linearize(
        self, s: Latent, u: Annotated[np.ndarray, "... nu"]
    ) -> tuple[Annotated[np.ndarray, "... nx nx"], Annotated[np.ndarray, "... nx nu"]]:
        """Of the step of the plain model, the mean over members; particles have none, of their own or in common."""
        if self._twin is None:
            said = self._mean_and_jacobian(self.model)
            self._twin = Ensemble(
                self.config,
                self.model,
                self.robot,
                Tangents(np),
                lambda model: Slopes(model, said),
                self._mean_and_jacobian,
            )
        twin = self._twin
        return jacobians(lambda s, u: twin._next(s, u, {})[0], s, u)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        bound = self.robot.channels.bound
        return -bound, bound.copy()

    def plan(self, features: Features, u: Array) -> tuple[Array, Array]:  # noqa: ARG002
        if not self.spec.follows:
            return features["q"], features["v"]
        nj = self.robot.nj
        return features[REFERENCE][..., :nj], features[REFERENCE][..., nj:]

    # --- Of particles ---------------------------------------------------------------------------------

    def noise(self, rng: np.random.Generator, horizon: int) -> Noise:
        """The draws of one rollout, the same for all samples."""
        lead, found = (self.particles, 1, horizon), {}
        if self.model.net.gaussian and self.config.propagation != "mean":
            found[WHITE] = rng.standard_normal((*lead, self.model.net.outputs))
        if self.config.propagation == "ts1":
            found[DEAL] = rng.standard_normal((*lead, 1))
        return found

    def scatter(self, s: Latent) -> Latent:
        """A state for each particle, [P 1 n], for samples on the second axis."""
        xp = self.xp
        many = {name: xp.broadcast_to(x, (self.particles, 1, x.shape[-1])) for name, x in s.items()}
        return {**many, MEMBER: self._member}

    # --- Steps ----------------------------------------------------------------------------------------

    def step(
        self, s: Latent, u: Annotated[Array, "... nu"], noise: Noise
    ) -> tuple[Latent, Features, Mapping[str, Array]]:
        s, said = self._next(s, u, noise)
        return s, self.features(s), self._differences(said, MEMBER in s)

    def rollout(self, s: Latent, u: Annotated[Array, "... H nu"], noise: Noise) -> tuple[Features, Mapping[str, Array]]:
        """As ``core.stepwise``, but what the members say is compared once, at the end."""
        xp, scattered, rows, sayings = self.xp, MEMBER in s, [self.features(s)], []
        whose = self._said.of(s[MEMBER]) if scattered else None
        for k in range(u.shape[-2]):
            drawn = {name: draw[..., k, :] for name, draw in noise.items()}
            s, said = self._next(s, u[..., k, :], drawn, whose)
            rows.append(self.features(s))
            sayings.append(said)
        rows[0] = {name: xp.broadcast_to(x, rows[1][name].shape) for name, x in rows[0].items()}
        features = {name: xp.stack([row[name] for row in rows], axis=-2) for name in rows[0]}
        return features, self._differences(xp.stack(sayings, axis=-2), scattered)

    def measure(self, s: Latent, u: Annotated[Array, "... nu"]) -> Mapping[str, Array]:
        """How far the members differ on states without particles, [... 1] each; what the quantiles are of."""
        return self._differences(self._next(s, u, {})[1], False)

    def _next(
        self, s: Latent, u: Array, noise: Noise, whose: Any = None
    ) -> tuple[dict[str, Array], Annotated[Array, "M ... n"]]:
        """The next state, and what each member (or particle's member) says of it, in units of what is usual."""
        xp, spec, scattered = self.xp, self.spec, MEMBER in s
        lead = np.broadcast_shapes(s["q"].shape[:-1], u.shape[:-1])
        wide = {name: xp.broadcast_to(x, (*lead, x.shape[-1])) for name, x in s.items() if name != MEMBER}
        u = xp.broadcast_to(u, (*lead, u.shape[-1]))
        if scattered and (whose is None or DEAL in noise):
            whose = self._said.of(self._dealt(s[MEMBER], noise))
        after, drive = self._driven(wide, u)
        mean, spread = self._said(inputs(spec, xp, wide, drive), whose)
        if scattered:
            change = (
                mean
                if spread is None or WHITE not in noise
                else mean + spread * xp.asarray(noise[WHITE], dtype=spread.dtype)
            )
        else:
            change = xp.mean(mean, axis=0)
        change = xp.asarray(change, dtype=wide["q"].dtype)
        after |= advanced(spec, xp, wide, self._usual(change))
        said = mean if not scattered else self._apart(wide) + mean
        if scattered:
            after[MEMBER] = s[MEMBER]
        return {name: after[name] for name in s}, said

    def _driven(self, s: Latent, u: Array) -> tuple[dict[str, Array], Array]:
        """What is known of the next state, reference and last commands; and what drives the joints there."""
        after: dict[str, Array] = {}
        if self.spec.latency:
            after[COMMANDS] = remembered(self.xp, s[COMMANDS], u)
        if not self.spec.follows:
            return after, u
        reference, nj = s[REFERENCE], self.robot.nj
        moved, _, _ = self._reference.step({"q": reference[..., :nj], "v": reference[..., nj:]}, u, {})
        after[REFERENCE] = self.xp.concat([moved["q"], moved["v"]], axis=-1)
        return after, moved["v"]

    def _dealt(self, member: Annotated[Array, "P"], noise: Noise) -> Annotated[Array, "P"]:
        """The members dealt anew: the order of the draws, of equal ones that in which they stand."""
        if DEAL not in noise:
            return member
        xp = self.xp
        draw = xp.reshape(noise[DEAL], (-1,))
        place = xp.arange(self.particles)
        mine, others = xp.expand_dims(draw, axis=-1), xp.expand_dims(draw, axis=0)
        earlier = xp.expand_dims(place, axis=-1) > xp.expand_dims(place, axis=0)
        before = (others < mine) | ((others == mine) & earlier)
        rank = xp.sum(xp.where(before, xp.ones_like(place), xp.zeros_like(place)), axis=-1)
        return xp.take(member, rank, axis=0)

    def _differences(self, said: Annotated[Array, "M ... n"], scattered: bool) -> Mapping[str, Array]:
        """What ``aux`` has of what members or particles say."""
        xp, count = self.xp, self.model.net.members
        away = said - xp.mean(said, axis=0)
        rest = (self.particles if scattered else count) - 1.0
        odd = xp.sqrt(xp.mean(xp.square(away), axis=-1)) * ((rest + 1.0) / max(rest, 1.0))
        spread = xp.sqrt(xp.mean(xp.mean(xp.square(away), axis=0), axis=-1))
        found = {"disagreement": spread, "one_vs_rest": odd if scattered else xp.max(odd, axis=0)}
        return {name: xp.expand_dims(x, axis=-1) for name, x in found.items()}

    def _usual(self, change: Array) -> Array:
        """A change in its own units."""
        mean, scale = (_like(self.xp, change, values) for values in self._said.usual)
        return change * scale + mean

    def _apart(self, s: Latent) -> Array:
        """How far particles are from their mean, of the predicted parts, in units of what is usual of their changes."""
        x = self.xp.concat([s[part.name] for part in self.spec.predicted], axis=-1)
        return (x - self.xp.mean(x, axis=0)) / _like(self.xp, x, self._said.usual[1])


def _like(xp: Any, x: Array, values: Array) -> Array:
    return xp.asarray(values, dtype=x.dtype, device=x.device)


def of(model: Model, robot: Robot, xp: Any = np, config: Config | None = None) -> Ensemble:
    """The dynamics of a model that is in memory."""
    chosen = config or Config()
    if isinstance(xp, Recorder):
        return written(chosen, model, robot, xp)
    precision = chosen.precision
    return Ensemble(
        chosen, model, robot, xp, lambda model: Weights(model, precision, xp), lambda model: by_numpy(model, precision)
    )


def written(config: Propagation, model: Described, robot: Robot, xp: Recorder) -> Ensemble:
    """The dynamics of a model whose ``params`` are whole, as nodes of a graph."""
    particles = config.particles or model.net.members
    return Ensemble(
        config, model, robot, xp, lambda model: Written(model, particles, xp), lambda model: by_numpy(model, "float32")
    )


def make(config: Config, robot: Robot, xp: Any = np) -> Ensemble:
    """The dynamics of a model folder; refuses one of another robot."""
    if not config.model:
        raise ConfigError(
            f"ensemble.model = '' for robot '{robot.name}': it takes a model folder, with {model_folder.CARD} and "
            f"{model_folder.WEIGHTS}"
        )
    return of(model_folder.read(Path(config.model)), robot, xp, config)
