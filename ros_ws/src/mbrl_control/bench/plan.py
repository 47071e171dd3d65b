"""``mbrl bench plan``: one plan from nothing, the same work by our planners and by the peers' own.

The same weights, state, goal and cost; a plan is all its iterations, with what is drawn for them. Before anything is
timed, all evaluate the same few control sequences with nothing drawn, each by the code that it plans with, and what
they come to must agree: that is ``parity``. Ours is asked by its public ``improve``: with a plan in force and draws of
zero, every sample is that plan, and so is what comes out of it, with its cost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mbrl_control.bench import gpu, work
from mbrl_control.bench.measuring import limited, timed
from mbrl_control.bench.peer import Peer
from mbrl_control.bench.rows import Row
from mbrl_control.bench.session import Bench
from mbrl_control.bench.work import KAPPA, SIGMA, Size
from mbrl_control.engine import Config, engaged
from mbrl_control.model import Model
from mbrl_control.networks import Net

SAME = 4
"""Control sequences that all evaluate."""
FEWER = 20
"""Samples that do where only the cost of one sequence is asked for."""
CASES: Mapping[str, tuple[Size, tuple[str, ...]]] = {
    "PETS plan, fresh noise": (work.pets(), ("mbrl_lib",)),
    "PETS plan, common noise": (work.pets(fresh=False), ("mbrl_lib",)),
    "PDDM MPPI 200/7": (work.pddm(200, 7), ("torch_mppi", "mbrl_lib")),
    "PDDM MPPI 500/15": (work.pddm(500, 15), ("torch_mppi", "mbrl_lib")),
    "PDDM MPPI 1000/30": (work.pddm(1000, 30), ("torch_mppi", "mbrl_lib")),
}
"""Name, size, and the peers that have such a planner."""
CURVES: Mapping[str, Mapping[int, Size]] = {
    "N": {n: work.pddm(n, 15) for n in (125, 250, 500, 1000)},
    "H": {h: work.pddm(500, h) for h in (4, 8, 15, 30)},
    "E": {e: work.pddm(500, 15, e) for e in (1, 2, 3, 5)},
}
"""One letter varied, the others as in PDDM MPPI 500/15."""


ON_GPU: Mapping[str, Size] = {
    f"a plan step on the GPU, N={n}": Size("cem", n, 30, 1, work.pets().net, 5) for n in (1024, 4096, 16384)
}
"""One iteration, every sample through all networks."""


def parts(bench: Bench) -> int:
    return len(ON_GPU) if bench.options.provider == "cuda" else len(CASES) + len(CURVES)


def measure(bench: Bench) -> None:
    """All cases, then the curves; or what there is for a GPU."""
    with limited(bench.threads):
        if bench.options.provider == "cuda":
            on_gpu(bench)
            return
        for name, (size, scripts) in CASES.items():
            compare(bench, name, size, scripts)
        for letter, sizes in CURVES.items():
            curve(bench, letter, sizes)


def compare(bench: Bench, name: str, size: Size, scripts: tuple[str, ...]) -> None:
    """A row for each peer that takes part; one of ours alone without peers."""
    weights, reference = work.model(size.net), bench.reference()
    bench.told(f"{name}: graphs are written", bench.parts)
    ours = Ours(size, weights, bench.threads)
    peers = [peer for script in scripts if (peer := bench.peer(script)) is not None]
    for peer in peers:
        hand_over(peer, name, size, weights)
    turns = [timed(ours.plan), *(theirs(peer, name) for peer in peers), reference.turn]
    parities = [parity(ours, peer, name, size) for peer in peers]
    mine, *others, product = bench.interleaved(name, turns)
    row = Row("plan", f"{name} ({size.words})", mine, flops=size.flops, sgemm=reference.rate(product.median))
    row = dataclasses.replace(row, more={"runs": ours.runs})
    for peer, times, same in zip(peers, others, parities, strict=True):
        bench.add(dataclasses.replace(row, peer=peer.name, theirs=times, parity=same))
    if not peers:
        bench.add(row)


def curve(bench: Bench, letter: str, sizes: Mapping[int, Size]) -> None:
    """How the time of ours depends on one of the sizes."""
    bench.told(f"cost against {letter}: graphs are written", bench.parts)
    turns = [timed(Ours(size, work.model(size.net), bench.threads).plan) for size in sizes.values()]
    times = bench.interleaved(f"cost against {letter}", turns)
    bench.found.curves[letter] = [(value, t.ms) for value, t in zip(sizes, times, strict=True)]


def on_gpu(bench: Bench) -> None:
    """Ours alone, as a CUDA graph; ``parity`` is with our own planner on NumPy.

    What is drawn for a step is drawn before it, on the CPU, and copied to the GPU within it.
    """
    card = gpu.reference()
    for name, size in ON_GPU.items():
        weights = work.model(size.net)
        fewer = dataclasses.replace(size, samples=min(size.samples, FEWER))  # what one sequence costs is the same
        ours, plain = Ours(size, weights, 1, "cuda"), Ours(fewer, weights, 1, use="numpy")
        u = sequences(size)
        same = difference([ours.cost(row) for row in u], [plain.cost(row) for row in u])
        mine, product = bench.interleaved(name, [timed(ours.step()), card.turn])
        words, rate = f"{name} ({size.words})", card.rate(product.median)
        bench.found.sgemm = [{**card.facts(), "gflops": {card.library: rate / 1e9}}]
        row = Row("plan", words, mine, flops=size.flops, sgemm=rate, parity=same, more={"runs": ours.runs})
        bench.add(row)


class Ours:
    """A planner of ours, as it is run on a robot, and where it plans."""

    def __init__(self, size: Size, weights: Model, threads: int, provider: str = "cpu", *, use: str = "onnx") -> None:
        self.size = size
        engine = Config(use=use, provider=provider, threads=threads)
        self.planner, report = engaged(engine, lambda xp: work.planner(size, weights, xp, threads))
        self.runs = report.runs
        self.obs, self.goal = work.situation(size)
        self._rng = np.random.default_rng(2)
        self._knobs = {**self.planner.knobs(), **({"kappa": np.asarray(KAPPA)} if size.planner == "mppi" else {})}

    def plan(self) -> None:
        """From nothing, all iterations, with their draws."""
        planner, carry = self.planner, self.planner.init(self.obs)
        for _ in range(self.size.iterations):
            carry, _, _ = planner.improve(self.obs, self.goal, self._knobs, carry, planner.noise(self._rng))

    def step(self) -> Callable[[], object]:
        """One iteration from nothing, its draws made before."""
        carry, noise = self.planner.init(self.obs), self.planner.noise(self._rng)
        return lambda: self.planner.improve(self.obs, self.goal, self._knobs, carry, noise)

    def cost(self, u: np.ndarray) -> float:
        """Of one sequence [H nu]."""
        planner, carry = self.planner, {**self.planner.init(self.obs), "mean": u}
        nothing = {name: np.zeros_like(draw) for name, draw in planner.noise(self._rng).items()}
        return planner.improve(self.obs, self.goal, self._knobs, carry, nothing)[2].cost


def hand_over(peer: Peer, name: str, size: Size, weights: Model) -> None:
    """The peer's planner on the same network."""
    given, net = work.handed_over(size, weights), size.net
    common: dict[str, Any] = {"samples": size.samples, "horizon": size.horizon, "sigma": SIGMA, "kappa": KAPPA}
    if peer.script == "torch_mppi":
        peer.ask("plan", given, key=name, layers=net.layers, **common)
        return
    more = {"kind": size.planner, "iterations": size.iterations, "particles": size.particles}
    peer.ask("plan", given, key=name, net=described(net), **common, **more)


def described(net: Net) -> dict[str, Any]:
    """A network as mbrl-lib is told of it."""
    return {
        "members": net.members,
        "hidden": len(net.hidden),
        "width": net.hidden[0],
        "gaussian": net.gaussian,
        "activation": net.activation,
    }


def theirs(peer: Peer, name: str) -> Callable[[], float]:
    return lambda: peer.seconds("once", key=name)


def parity(ours: Ours, peer: Peer, name: str, size: Size) -> float:
    """Of what both make of the same sequences."""
    u = sequences(size)
    said = peer.ask("costs", {"u": u.astype(np.float32)}, key=name)[1]["cost"]
    return difference(said, [ours.cost(row) for row in u])


def sequences(size: Size) -> np.ndarray:
    """Control sequences [n H nu] that all evaluate."""
    return np.random.default_rng(3).uniform(-0.5, 0.5, (SAME, size.horizon, work.ACTIONS))


def difference(one: Sequence[float] | np.ndarray, other: Sequence[float]) -> float:
    """The largest relative one."""
    return float(np.max(np.abs(np.subtract(one, other)) / np.abs(other)))
