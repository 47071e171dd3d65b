"""``mbrl bench policy``: one action of a small policy network, as ONNX with bound buffers and in eager torch.

Two layers of 64 with tanh, 20 numbers in and 7 out, one thread. A call copies the observation in and leaves the action
in an array of ours. The time of a row is the median call, of the median round; ``p99`` are told beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mbrl_control import networks
from mbrl_control.bench import flops
from mbrl_control.bench.measuring import limited
from mbrl_control.bench.peer import Peer
from mbrl_control.bench.rows import Row
from mbrl_control.bench.session import Bench
from mbrl_control.networks import Net
from mbrl_control.onnx_graph import Recorder, graph

NET = Net(1, 20, (64, 64), 7, "deterministic", "tanh")
CALLS = 20_000
"""In one round."""
NAME = "policy"
WORK = "policy, batch 1 (2x64 tanh, 20 in, 7 out, 1 thread)"


def parts(bench: Bench) -> int:  # noqa: ARG001 - they are always the same
    return 1


def measure(bench: Bench) -> None:
    """One row."""
    weights, x = made_up()
    ours, peer, reference = Ours(weights), bench.peer("torch_eager", threads=1), bench.reference(1)
    rounds, same = [Rounds(lambda: ours.calls(x))], None
    if peer is not None:
        peer.ask("policy", weights, key=NAME)
        same = parity(ours, peer, x)
        rounds.append(Rounds(lambda: asked(peer, x)))
    with limited(1):
        *times, product = bench.interleaved("calls of a policy", [*rounds, reference.turn])
    p99 = [each.p99_ms for each in rounds]
    row = Row("policy", WORK, times[0], flops=flops.row(NET), sgemm=reference.rate(product.median))
    if peer is None:
        bench.add(replace(row, more={"ours_p99_ms": p99[0]}))
        return
    more = {"ours_p99_ms": p99[0], "peer_p99_ms": p99[1]}
    bench.add(replace(row, peer=peer.name, theirs=times[1], parity=same, more=more))


class Rounds:
    """A turn of many calls: its time is that of the median one."""

    def __init__(self, calls: Callable[[], np.ndarray]) -> None:
        self._calls, self._p99 = calls, []

    def __call__(self) -> float:
        seconds = self._calls()
        self._p99.append(float(np.quantile(seconds, 0.99)))
        return float(np.median(seconds))

    @property
    def p99_ms(self) -> float:
        """Median over rounds but the first, which warms up."""
        return 1e3 * float(np.median(self._p99[1:]))


def made_up() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Weights [in out] and an observation [1 in]."""
    rng = np.random.default_rng(0)
    weights = {name: array[0] for name, array in networks.initial(NET, rng).items()}
    return weights, rng.standard_normal((1, NET.inputs)).astype(np.float32)


class Ours:
    """ONNX Runtime on one thread, input and output bound once."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(written(weights), options, providers=["CPUExecutionProvider"])
        self._x, self.u = np.zeros((1, NET.inputs), np.float32), np.zeros((1, NET.outputs), np.float32)
        self._bound = self._session.io_binding()
        self._bound.bind_cpu_input("x", self._x)
        self._bound.bind_output("u", "cpu", 0, np.float32, self.u.shape, self.u.ctypes.data)

    def act(self, x: np.ndarray) -> np.ndarray:
        """The action, in an array that the next call overwrites."""
        self._x[:] = x
        self._session.run_with_iobinding(self._bound)
        return self.u

    def calls(self, x: np.ndarray) -> np.ndarray:
        """The time of each call of a round [s]."""
        spent, clock = np.zeros(CALLS), time.perf_counter
        for i in range(CALLS):
            begun = clock()
            self.act(x)
            spent[i] = clock() - begun
        return spent


def written(weights: dict[str, np.ndarray]) -> bytes:
    """The network as a graph, by the source that predicts on NumPy."""
    recorder = Recorder()
    x = recorder.input("x", (1, NET.inputs))
    return graph(recorder, {"u": networks.forward(recorder, NET, weights, x)}, {}, "policy")


def asked(peer: Peer, x: np.ndarray) -> np.ndarray:
    """The same of a peer."""
    return peer.ask("calls", {"x": x}, key=NAME, count=CALLS)[1]["seconds"]


def parity(ours: Ours, peer: Peer, x: np.ndarray) -> float:
    """Largest difference of the actions, relative to the largest action."""
    said, mine = peer.ask("act", {"x": x}, key=NAME)[1]["u"], ours.act(x)
    return float(np.abs(said - mine).max() / np.abs(mine).max())
