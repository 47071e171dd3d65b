"""The machine's own matrix product, [n n] x [n n] in single precision: what rates are fractions of.

By each library that is here, on the threads of the run; the quickest is the reference, and takes its turns with the
others, so that it meets what they meet.
"""

from __future__ import annotations

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
    """The quickest of torch, NumPy and ONNX Runtime, the former two on the threads that they are limited to."""
    turns = {"torch": by_torch(size), "numpy": by_numpy(size), "onnxruntime": by_onnxruntime(size, threads)}
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


def by_numpy(size: int) -> Turn:
    x, w = matrices(size)
    out = np.empty_like(x)
    return timed(lambda: np.matmul(x, w, out=out))


def by_onnxruntime(size: int, threads: int) -> Turn:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(product(size, size), options, providers=["CPUExecutionProvider"])
    x, w = matrices(size)
    return timed(lambda: session.run(None, {"X": x, "W": w}))
