"""``mbrl bench train``: a pass over the data of PETS' ensemble, by our fit and by mbrl-lib's ModelTrainer.

The same 10,000 steps, network, weights to begin with, batches of the same size and Adam with the same rate and decay;
each draws its own order and bootstrap. The time is that of one epoch, data made ready before. ``parity`` is of the loss
of those weights on one batch, without what each adds for its bounds: ours has bounds for each member, mbrl-lib one for
all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mbrl_control import networks
from mbrl_control.bench import flops, work
from mbrl_control.bench.measuring import limited
from mbrl_control.bench.peer import Peer
from mbrl_control.bench.plan import described
from mbrl_control.bench.rows import Row
from mbrl_control.bench.session import Bench
from mbrl_control.fit import FitConfig, fit
from mbrl_control.fit_log import Epoch
from mbrl_control.model import Model
from mbrl_control.replay import Recording

ROWS = 10_000
BATCHES = (256, 32)
RATE = 1e-3
SIZE = work.pets()


def parts(bench: Bench) -> int:  # noqa: ARG001 - they are always the same
    return len(BATCHES)


def measure(bench: Bench) -> None:
    """A row for each size of batch."""
    data, start = recorded(), work.model(SIZE.net)
    with limited(bench.threads):
        for batch in BATCHES:
            compare(bench, batch, data, start)


def compare(bench: Bench, batch: int, data: Recording, start: Model) -> None:
    name, reference = f"ensemble training, {ROWS} rows, batch {batch}", bench.reference()
    config = FitConfig(
        members=SIZE.net.members,
        layers=len(SIZE.net.hidden),
        width=SIZE.net.hidden[0],
        epochs=1,
        batch=batch,
        learning_rate=RATE,
        decay=0.0,
    )

    def ours() -> float:
        told: list[Epoch] = []
        fit(config, start.spec, [data], start=start, on_epoch=told.append)
        return told[0].wall_s

    turns, peer, same = [ours], bench.peer("mbrl_lib"), None
    if peer is not None:
        given = arrays(data)
        more = {"batch": batch, "learning_rate": RATE, "decay": 0.0}
        peer.ask("trainer", {**start.params, **given}, key=name, net=described(SIZE.net), **more)
        same = parity(peer, name, start, {key: array[:batch] for key, array in given.items()})
        turns.append(lambda: peer.seconds("epochs", key=name, count=1, evaluate=False))
    *times, product = bench.interleaved(name, [*turns, reference.turn])
    row = Row(
        "train",
        f"{name} (an epoch; E={SIZE.net.members} 4x{SIZE.net.hidden[0]})",
        times[0],
        flops=flops.epoch(SIZE.net, ROWS),
        sgemm=reference.rate(product.median),
    )
    bench.add(row if peer is None else replace(row, peer=peer.name, theirs=times[1], parity=same))


def recorded() -> Recording:
    """Motion of the made-up robot: it drifts where it is pushed."""
    robot, rng = work.robot(), np.random.default_rng(4)
    u = rng.uniform(-1.0, 1.0, (ROWS, work.ACTIONS))
    v = 0.1 * rng.standard_normal((ROWS + 1, work.JOINTS)) + np.pad(u, ((1, 0), (0, work.JOINTS - work.ACTIONS)))
    q = np.clip(work.DT * np.cumsum(v, axis=0), -3.0, 3.0)
    names = robot.joints, robot.channels.names, robot.channels.mode.value
    return Recording(robot.name, *names, work.DT, work.DT * np.arange(ROWS + 1), q, v, u, source="made up")


def arrays(data: Recording) -> dict[str, np.ndarray]:
    """The same as states, actions and next states."""
    x = np.concatenate([data.q, data.v], axis=-1).astype(np.float32)
    return {"x": x[:-1], "u": data.u.astype(np.float32), "after": x[1:]}


def parity(peer: Peer, name: str, start: Model, batch: Mapping[str, np.ndarray]) -> float:
    """Relative difference of the losses of one batch, all members summed, what is added for bounds taken away."""
    net, params = start.net, {key: np.asarray(array, float) for key, array in start.params.items()}
    x = (np.concatenate([batch["x"], batch["u"]], axis=-1) - params["input_mean"]) / params["input_scale"]
    raw = networks.forward(np, net, params, np.broadcast_to(x, (net.members, *x.shape)))
    y = (batch["after"] - batch["x"]).astype(float)[None]
    bounds = networks.BOUND_WEIGHT * np.sum(params["max_log_variance"] - params["min_log_variance"])
    mine = float(np.sum(networks.nll(np, net, params, raw, y))) - float(bounds)
    said = peer.ask("loss", batch, key=name)[0]["loss"] - float(bounds) / net.members
    return abs(said - mine) / abs(mine)
