"""Graphs that are open, and their tensors: one iteration of a planner for each call (``engine.py``).

On the CPU samples are shared out: parts of about ``rows`` rows of each network, each on a thread that waits for nobody.
A barrier after each product would make all of them wait for the slowest, and whatever else runs on these cores makes
one of them slow. One part on one thread is the graph ``plan``. Tensors are places in memory that stay, bound once; what
one graph gives is where the next one reads it.

On a GPU the graph ``plan`` is all there is, its tensors on the device, captured as a CUDA graph where it can be.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mbrl_control import plan_graph
from mbrl_control.config import param
from mbrl_control.core import MbrlError
from mbrl_control.dynamics.ensemble import Ensemble
from mbrl_control.onnx_check import GraphError
from mbrl_control.onnx_graph import exchanged
from mbrl_control.plan_graph import Build, Given
from mbrl_control.sampling import INFINITE, Sampler

WARM = 3
"""Iterations before anything counts; the quickest of them is reported."""
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


class EngineError(MbrlError):
    """Graphs that cannot be run as asked."""


class DeviceLostError(MbrlError):
    """A GPU that was there and does not answer any more."""


@dataclass(frozen=True)
class Config:
    """How planners are run."""

    use: str = param(
        "auto",
        "what runs a planner: onnx graphs, numpy, or graphs wherever all of it can be written as such",
        choices=("auto", "onnx", "numpy"),
    )
    provider: str = param("cpu", "what onnx graphs run on", choices=tuple(PROVIDERS))
    threads: int = param(1, "threads that share out the samples, on the CPU", low=1, high=256)
    int8: bool = param(False, "hidden layers in eight bits, of a model whose card says that it stood the test")
    rows: int = param(400, "about how many rows of each network a part of the samples has", low=1, high=1_000_000)


@dataclass(frozen=True)
class Report:
    """What runs a planner, in words and numbers."""

    runs: str
    """As ``onnx, cpu, 1 thread``."""
    why: str = ""
    """Why not what would be quicker."""
    made_s: float = 0.0
    """What it took to write the graphs and to open them."""
    iteration_ms: float = 0.0
    """The quickest iteration of the warm-up."""

    def __str__(self) -> str:
        measured = f", {self.iteration_ms:.2f} ms an iteration" if self.iteration_ms else ""
        return self.runs + measured + (f" ({self.why})" if self.why else "")


class Runner:
    """Graphs that are open, and their tensors: one iteration for each call."""

    report: Report

    def __call__(self, feed: Mapping[str, Any]) -> Mapping[str, np.ndarray]:
        """``feed`` has all tensors that could be asked for, and more; what comes back changes with the next call."""
        raise NotImplementedError

    def swap(self, weights: Mapping[str, np.ndarray]) -> None:
        """Exchange the constants of these names."""
        raise NotImplementedError

    def _tried(self, given: Given, runs: str, begun: float, why: str = "") -> Report:
        """Warmed up, on what it was written for."""
        made = time.perf_counter() - begun
        feed: dict[str, Any] = {**given.seen, "live": 1e9}
        for kind, arrays in {"knob": given.knobs, "noise": given.noise, "carry": given.carry}.items():
            feed |= {f"{kind}/{name}": x for name, x in arrays.items()}
        took = []
        for _ in range(WARM):
            start = time.perf_counter()
            self(feed)
            took.append(time.perf_counter() - start)
        return Report(runs, why, made, min(took) * 1e3)


class OnCpu(Runner):
    """The samples in parts, each on a thread of its own; of one part on one thread, the graph ``plan``."""

    def __init__(self, config: Config, build: Build, given: Given, sampler: Sampler) -> None:
        begun = time.perf_counter()
        self._places: dict[str, np.ndarray] = {}
        proposed = sampler.propose(*given.proposal())
        self._shape = shape = proposed.controls.shape
        self._size, self._count = parted(config, sampler, shape[0])
        each = _each(sampler)
        self._each = {f"noise/{name}": given.noise[name].shape[1:] for name in each}
        self._helpers = config.threads - 1
        self._pool = ThreadPoolExecutor(self._helpers, "engine") if self._helpers else None
        if self._count == 1:
            self._graphs = {"plan": plan_graph.plan(build, given, {}, config.int8)}
        else:
            more = {f"more/{name}": np.shape(x) for name, x in proposed.more.items()}
            mine = {name: x[: self._size] if name in each else x for name, x in given.noise.items()}
            self._graphs = {
                "propose": plan_graph.propose(build, given, config.int8),
                "evaluate": plan_graph.evaluate(
                    build, replace(given, noise=mine), (self._size, *shape[1:]), config.int8
                ),
                "choose": plan_graph.choose(build, given, shape, more, config.int8),
            }
        self._open()
        threads = f"{config.threads} thread{'s' * (config.threads > 1)}"
        self.report = self._tried(given, f"onnx, cpu, {threads}{', int8' * config.int8}", begun)

    def _open(self) -> None:
        """Sessions of the graphs, bound to places."""
        sessions, places = {name: opened(data) for name, data in self._graphs.items()}, self._places
        if self._count == 1:
            self._steps, self._parts = [_Bound(sessions["plan"], places)], []
            return
        (samples, *rest), whole = self._shape, self._size * self._count
        shapes = {"controls": rest, "cost": (), **self._each}
        all_of = {name: np.zeros((whole, *shape), np.float32) for name, shape in shapes.items()}
        tried = {name: place[:samples] for name, place in all_of.items()}
        places |= {**tried, "cost": all_of["cost"]}
        self._steps = [_Bound(sessions[name], places, tried) for name in ("propose", "choose")]
        parts = [slice(i * self._size, (i + 1) * self._size) for i in range(self._count)]
        self._parts = [
            _Bound(sessions["evaluate"], places, {name: place[part] for name, place in all_of.items()})
            for part in parts
        ]

    def swap(self, weights: Mapping[str, np.ndarray]) -> None:
        self._graphs = {name: exchanged(data, weights) for name, data in self._graphs.items()}
        self._open()

    def __call__(self, feed: Mapping[str, Any]) -> Mapping[str, np.ndarray]:
        places = self._places
        for name in places.keys() & feed.keys():
            places[name][...] = feed[name]
        self._steps[0]()
        if self._parts:
            live = int(min(feed["live"], len(places["cost"])))
            needed = self._parts[: -(-live // self._size)]
            self._share_out(needed)
            places["cost"][live:] = INFINITE
            self._steps[1]()
        return places

    def _share_out(self, parts: Sequence[_Bound]) -> None:
        """Each thread, this one among them, takes the next part until there is none."""
        left = iter(parts)

        def work() -> None:
            for part in left:
                part()

        helpers = [self._pool.submit(work) for _ in range(self._helpers)] if self._pool else []
        work()
        for helper in helpers:
            helper.result()


def _each(sampler: Sampler) -> tuple[str, ...]:
    """Draws of the model of which every sample has its own, on their first axis; by default all meet the same ones."""
    return getattr(sampler.on.dynamics, "each", ())


def parted(config: Config, sampler: Sampler, samples: int) -> tuple[int, int]:
    """How many samples a part has, and how many parts there are: one for each thread, or twice as many, and so on."""
    model = sampler.on.dynamics
    networks = model.particles / model.model.net.members if isinstance(model, Ensemble) else 1.0
    count = math.ceil(samples * max(1.0, networks) / config.rows)
    count = math.ceil(count / config.threads) * config.threads
    return math.ceil(samples / count), count


class _Bound:
    """A session, and the places that its tensors have."""

    def __init__(
        self, session: Any, places: dict[str, np.ndarray], own: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Tensors have the places that their names have; those that are in ``own`` have these; others get new ones."""
        self._run, self._binding = session.run_with_iobinding, session.io_binding()
        sides = (
            (session.get_inputs(), self._binding.bind_input),
            (session.get_outputs(), self._binding.bind_output),
        )
        for tensors, bind in sides:
            for x in tensors:
                place = (own or {}).get(x.name)
                if place is None:
                    place = places.setdefault(x.name, np.zeros(x.shape, KINDS[x.type]))
                bind(x.name, "cpu", 0, place.dtype.type, place.shape, place.ctypes.data)

    def __call__(self) -> None:
        self._run(self._binding)


KINDS = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}


def _runtime() -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise GraphError("onnxruntime is not installed; pip install onnxruntime-gpu") from None
    return onnxruntime


def _options() -> Any:
    """One thread, which does not spin while it waits."""
    options = _runtime().SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def opened(data: bytes) -> Any:
    """A session on the CPU."""
    return _runtime().InferenceSession(data, _options(), providers=[PROVIDERS["cpu"]])


class OnDevice(Runner):
    """The graph ``plan`` on a GPU."""

    def __init__(self, config: Config, build: Build, given: Given) -> None:
        runtime, name, begun = _runtime(), PROVIDERS[config.provider], time.perf_counter()
        if name not in (there := runtime.get_available_providers()):
            raise EngineError(f"engine.provider = {config.provider}: this ONNX Runtime has {', '.join(there)}")
        self._provider, self._data = config.provider, plan_graph.plan(build, given, {})
        how = self._open()
        self.report = self._tried(given, f"onnx, {config.provider}{how}", begun)

    def _open(self) -> str:
        """A session with its tensors on the device; how it runs."""
        session, how = _on_device(_runtime(), self._data, PROVIDERS[self._provider])
        if session is None:
            raise EngineError(f"engine.provider = {self._provider}: {how}; what is there is engine.provider = cpu")
        self._session, self._binding = session, session.io_binding()
        self._inputs = {x.name: self._value(x) for x in session.get_inputs()}
        self._outputs = {x.name: self._value(x) for x in session.get_outputs()}
        for tensor, value in self._inputs.items():
            self._binding.bind_ortvalue_input(tensor, value)
        for tensor, value in self._outputs.items():
            self._binding.bind_ortvalue_output(tensor, value)
        self._kinds = {x.name: KINDS[x.type] for x in session.get_inputs()}
        return how

    def swap(self, weights: Mapping[str, np.ndarray]) -> None:
        self._data = exchanged(self._data, weights)
        self._open()

    def __call__(self, feed: Mapping[str, Any]) -> Mapping[str, np.ndarray]:
        try:
            for name, value in self._inputs.items():
                value.update_inplace(np.ascontiguousarray(feed[name], dtype=self._kinds[name]))
            self._session.run_with_iobinding(self._binding)
            return {name: value.numpy() for name, value in self._outputs.items()}
        except Exception as error:  # ONNX Runtime's own have no common base
            raise DeviceLostError(" ".join(str(error).split())[:200]) from None

    @staticmethod
    def _value(x: Any) -> Any:
        return _runtime().OrtValue.ortvalue_from_numpy(np.zeros(x.shape, KINDS[x.type]), "cuda", 0)


def _on_device(runtime: Any, data: bytes, name: str) -> tuple[Any, str]:
    """A session of which every node is on the device, captured as one graph if it can be; or None and why not."""
    why = ""
    if hasattr(runtime, "preload_dlls"):
        runtime.preload_dlls()  # CUDA's, where they came with pip
    for how, settings in ((", CUDA graph", {"enable_cuda_graph": "1"}), ("", {})):
        if name == PROVIDERS["tensorrt"]:
            settings = {"trt_cuda_graph_enable": "1"} if settings else {}
        options = _options()
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            session = runtime.InferenceSession(data, options, providers=[(name, settings)])
        except Exception as error:  # ONNX Runtime's own have no common base
            why = " ".join(str(error).split())[:200]
            continue
        if name in session.get_providers():
            return session, how
        why = f"ONNX Runtime has it, but it does not start here (it ran {', '.join(session.get_providers())})"
    return None, why
