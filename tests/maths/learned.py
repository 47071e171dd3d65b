"""Models made by hand, and motion to fit them to."""

from __future__ import annotations

import numpy as np

from mbrl_control import registry
from mbrl_control.core import State
from mbrl_control.model import Model, Spec, spec_for
from mbrl_control.networks import Net
from mbrl_control.replay import Recording

DT = 0.05


def pendulum():
    return registry.make("robots", "pendulum")


def constant(spec: Spec, changes: np.ndarray, deviation: float = 0.0) -> Model:
    """Members that say the same whatever they see: ``changes`` [E n], with a deviation."""
    members, outputs = changes.shape
    net = Net(members, len(spec.input_names), (2,), outputs, "gaussian" if deviation else "deterministic", "relu")
    params = {name: np.zeros(shape, np.float32) for name, shape in net.shapes().items()}
    params["b1"][:, 0, :outputs] = changes
    if deviation:
        for name in ("max_log_variance", "min_log_variance"):
            params[name][:] = 2.0 * np.log(deviation) - np.log(2.0)
        params["b1"][:, 0, outputs:] = 1e3  # far above its bound: var = e^min + e^max
    ones = {"input_scale": len(spec.input_names), "output_scale": outputs}
    zeros = {"input_mean": len(spec.input_names), "output_mean": outputs}
    params |= {name: np.ones(n, np.float32) for name, n in ones.items()}
    params |= {name: np.zeros(n, np.float32) for name, n in zeros.items()}
    return Model(spec, net, params)


def obedient(robot, dt: float = DT, hidden: int = 3, members: int = 2, facts=None) -> Model:
    """Members that know an arm behind a stiff servo: its joints are where the reference is. relu(x) - relu(-x) = x,
    layer after layer."""
    spec, nj = spec_for(robot, dt), robot.nj
    size = len(spec.input_names)
    net = Net(members, size, (2 * size,) * hidden, 2 * nj, "deterministic", "relu")
    _, v, away, v_ref, v_then = np.split(np.eye(size), 5)
    changes = np.concatenate([away + 0.5 * dt * (v_ref + v_then), v_then - v]).T
    scale = np.repeat([1.0, 1.0, 0.2, 1.0, 1.0], nj)
    first = np.concatenate([np.eye(size), -np.eye(size)], axis=1)
    last = np.concatenate([changes, -changes]) * np.tile(scale, 2)[:, None]
    weights = [first, *[np.eye(2 * size)] * (hidden - 1), last]
    params = {f"w{i}": np.stack([w] * members) for i, w in enumerate(weights)}
    params |= {f"b{i}": np.zeros((members, 1, w.shape[1])) for i, w in enumerate(weights)}
    params |= {"input_mean": np.zeros(size), "input_scale": scale}
    params |= {"output_mean": np.zeros(2 * nj), "output_scale": np.ones(2 * nj)}
    return Model(spec, net, {name: array.astype(np.float32) for name, array in params.items()}, facts or {})


def swinging(robot, count: int, seed: int, steps: int = 50) -> list[Recording]:
    """Episodes of a robot with a closed form under smooth random torques, from near home."""
    dynamics = registry.make("dynamics", "analytic", robot, np, overrides={"substeps": 10})
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        u = np.zeros((steps, robot.nu))
        for k in range(steps):
            u[k] = 0.7 * u[k - 1] + 0.6 * rng.standard_normal(robot.nu) * robot.channels.bound
        u = np.clip(u, -robot.channels.bound, robot.channels.bound)
        start = State(0.0, robot.home + rng.uniform(-1.0, 1.0, robot.nj), rng.uniform(-2.0, 2.0, robot.nj))
        s, rows = {"q": start.q, "v": start.v}, [start]
        for k in range(steps):
            s, _, _ = dynamics.step(s, u[k], {})
            rows.append(State(DT * (k + 1), s["q"], s["v"]))
        q, v = (np.stack([getattr(row, name) for row in rows]) for name in ("q", "v"))
        found.append(record(robot, q, v, u, f"made, seed {seed}, number {number}"))
    return found


def record(robot, q, v, u, source="made", **more) -> Recording:
    t = DT * np.arange(len(q))
    return Recording(
        robot.name, robot.joints, robot.channels.names, robot.channels.mode.value, DT, t, q, v, u, source=source, **more
    )


__all__ = ["DT", "constant", "obedient", "pendulum", "record", "spec_for", "swinging"]
