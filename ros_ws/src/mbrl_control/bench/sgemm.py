"""The machine's own matrix product, [n n] x [n n] in single precision: what rates are fractions of.

By each library that is here, on the threads of the run; the quickest is the reference, and takes its turns with the
others, so that it meets what they meet. NumPy's is computed by a process of its own: the threads of its library go on
looking for work for so long that whatever comes next in the same process is slowed down by them (measured: 17 ms of a
plan became 30), which no peer would be.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_control.bench import flops
from mbrl_control.bench.measuring import Turn, interleaved, timed
from mbrl_control.probes.providers import product

SIZE = 2048
TRIES = 2


@dataclass(frozen=True)
class Reference:
    """The quickest product."""

    library: str
    turn: Turn
    size: int
    threads: int
    rates: Mapping[str, float]
    """Of each library [FLOP/s], when it was chosen."""

    @property
    def best(self) -> float:
        """When it was chosen [FLOP/s]."""
        return self.rates[self.library]

    def rate(self, seconds: float) -> float:
        return flops.product(self.size) / seconds

    def facts(self) -> dict[str, Any]:
        return {
            "library": self.library,
            "size": self.size,
            "threads": self.threads,
            "gflops": {name: rate / 1e9 for name, rate in self.rates.items()},
        }


def reference(threads: int, size: int = SIZE) -> Reference:
    """The quickest of torch, NumPy and ONNX Runtime; torch on the threads that it is limited to."""
    turns = {"torch": by_torch(size), "numpy": by_numpy(size, threads), "onnxruntime": by_onnxruntime(size, threads)}
    times = interleaved(list(turns.values()), TRIES)
    rates = {name: flops.product(size) / min(t.seconds) for name, t in zip(turns, times, strict=True)}
    best = max(rates, key=lambda name: rates[name])
    return Reference(best, turns[best], size, threads, rates)


def matrices(size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    return x, w


def by_torch(size: int) -> Turn:
    import torch

    x, w = (torch.from_numpy(matrix) for matrix in matrices(size))
    out = torch.empty(size, size)
    return timed(lambda: torch.matmul(x, w, out=out))


APART = """
import sys, time
import numpy as np
rng, size = np.random.default_rng(0), int(sys.argv[1])
x, w = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
out = np.empty_like(x)
for _ in sys.stdin:
    begun = time.perf_counter()
    np.matmul(x, w, out=out)
    print(time.perf_counter() - begun, flush=True)
"""


def by_numpy(size: int, threads: int) -> Turn:
    """By a process that ends with this one: it reads a line for each product."""
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    worker = subprocess.Popen(
        [sys.executable, "-c", APART, str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **limits},
    )
    to, back = worker.stdin, worker.stdout
    assert to is not None
    assert back is not None

    def turn() -> float:
        to.write("\n")
        to.flush()
        return float(back.readline())

    return turn


def by_onnxruntime(size: int, threads: int) -> Turn:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(product(size, size), options, providers=["CPUExecutionProvider"])
    x, w = matrices(size)
    return timed(lambda: session.run(None, {"X": x, "W": w}))
