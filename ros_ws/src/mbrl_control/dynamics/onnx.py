"""An exported model, run by ONNX Runtime: what a robot plans with, without torch and without safetensors.

It is the model of ``dynamics/ensemble.py``, particles, propagation and reference included; what differs is who runs the
networks. The graph takes what they read as it comes, x [E B in], and gives mean and variance [E B n] of the change in
its own units, a row of every member for itself: particles are handed to the member that they belong to, and one state
to all of them.

Only ``card.yaml`` and ``model.onnx`` are read, once. Before ONNX Runtime sees the graph, the sha256 of the bytes is the
one in the card; the robot is the one that the card names, with its joints, channels and limits; the graph is one that
we would run (``onnx_check.py``), with the tensors of that model; and it says the same of itself as the card. The graph
computes in single precision, on the CPU: NumPy only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np

from mbrl_control import model_folder
from mbrl_control.config import ConfigError, param
from mbrl_control.core import BackEndError, Robot
from mbrl_control.dynamics._slopes import Said
from mbrl_control.dynamics._slopes import written as jacobian_graph
from mbrl_control.dynamics.ensemble import Ensemble, Propagation, written
from mbrl_control.model import ModelError, Spec, normaliser_shapes, shapes, usual
from mbrl_control.model_folder import CARD, GRAPH
from mbrl_control.networks import Net
from mbrl_control.onnx_check import GraphError, checked, tensors, weights_of
from mbrl_control.onnx_graph import Recorder


@dataclass(frozen=True)
class Config(Propagation):
    """And what ONNX Runtime may use."""

    threads: int = param(1, "Threads of ONNX Runtime", low=1, high=256)


@dataclass(frozen=True, eq=False)
class Exported:
    """A model as its folder has it."""

    folder: Path
    spec: Spec
    net: Net
    params: Mapping[str, np.ndarray]
    """What normalises."""
    facts: Mapping[str, Any]
    """The card."""
    graph: bytes


class Places(NamedTuple):
    """Where particles stand among the rows of the members that they belong to."""

    member: Annotated[np.ndarray, "P"]
    row: Annotated[np.ndarray, "P"]
    rows: int
    """The most that one member has."""
    as_they_stand: bool
    """Whether particle p is all that member p has, and nothing has to be moved."""


class Session:
    """The members, run by ONNX Runtime (``ensemble.Members``)."""

    def __init__(self, model: Exported, threads: int) -> None:
        self._net = model.net
        self.usual = self._mean, self._scale = usual(model)
        self._session, self._path = opened(model, threads), model.folder / GRAPH
        self._outputs = ["mean", "variance"] if model.net.gaussian else ["mean"]

    def of(self, member: Annotated[np.ndarray, "P"]) -> Places:
        order = np.argsort(member, kind="stable")
        first = np.searchsorted(member[order], member[order])
        row = np.empty_like(order)
        row[order] = np.arange(len(member)) - first
        as_they_stand = np.array_equal(member, np.arange(self._net.members))
        return Places(member, row, int(row.max()) + 1, as_they_stand)

    def __call__(
        self, x: Annotated[np.ndarray, "... in"], of: Places | None = None
    ) -> tuple[Annotated[np.ndarray, "M ... n"], Annotated[np.ndarray, "M ... n"] | None]:
        members, width = self._net.members, x.shape[-1]
        if of is None:
            rows = np.broadcast_to(np.reshape(x, (1, -1, width)), (members, x[..., 0].size, width))
            said = self._run(np.ascontiguousarray(rows, dtype=np.float32))
            found = [np.reshape(y, (members, *x.shape[:-1], -1)) for y in said]
        elif of.as_they_stand:
            rows = np.ascontiguousarray(np.reshape(x, (members, -1, width)), dtype=np.float32)
            found = [np.reshape(y, (*x.shape[:-1], -1)) for y in self._run(rows)]
        else:
            rows = np.zeros((members, of.rows, *x.shape[1:]), dtype=np.float32)
            rows[of.member, of.row] = x
            said = self._run(np.reshape(rows, (members, -1, width)))
            found = [np.reshape(y, (*rows.shape[:-1], -1))[of.member, of.row] for y in said]
        mean = (found[0] - self._mean) / self._scale
        return mean, np.sqrt(found[1]) / self._scale if self._net.gaussian else None

    def _run(self, x: Annotated[np.ndarray, "M B in"]) -> list[np.ndarray]:
        found = _ran(self._session, self._outputs, x, self._path)
        shape = (*x.shape[:2], self._net.outputs)
        if wrong := [y.shape for y in found if y.shape != shape]:
            raise ModelError(f"{self._path}: gives {list(wrong[0])} for {list(x.shape)}; it takes {list(shape)}")
        return found


def differentiated(model: Exported, threads: int) -> Said:
    """The mean over members and its Jacobian, as a graph that is made of the weights in the one of the folder."""
    path = model.folder / GRAPH
    ran = _session(jacobian_graph(whole(model)), threads, path)

    def said(x: Annotated[np.ndarray, "B in"]) -> tuple[np.ndarray, np.ndarray]:
        mean, jacobian = _ran(ran, ["mean", "jacobian"], np.ascontiguousarray(x, dtype=np.float32), path)
        return mean, jacobian

    return said


def opened(model: Exported, threads: int) -> Any:
    """The session of a graph that is what its card says, and that we would run."""
    return _session(examined(model).SerializeToString(), threads, model.folder / GRAPH)


def _session(graph: bytes, threads: int, path: Path) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise ModelError("dynamics 'onnx': onnxruntime is not installed; pip install onnxruntime-gpu") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no base class of its own errors
        why = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{path}: ONNX Runtime does not take it ({why}); it takes one as 'mbrl export' writes"
        ) from None


def _ran(session: Any, outputs: list[str], x: np.ndarray, path: Path) -> list[np.ndarray]:
    try:
        return session.run(outputs, {"x": x})
    except Exception as error:  # onnxruntime has no base class of its own errors
        why = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: ONNX Runtime does not run it on {list(x.shape)} ({why})") from None


def examined(model: Exported) -> Any:
    """The graph of a model, once it is one that we would run, with the tensors and the identity of the card.

    Written down again it is what was looked at: nothing that another reader could take otherwise.
    """
    net, path = model.net, model.folder / GRAPH
    try:
        made = checked(model.graph)
    except GraphError as error:
        raise ModelError(f"{path}: {error}") from None
    takes, gives = (f"FLOAT [{net.members}, any, {size}]" for size in (net.inputs, net.outputs))
    expected = {"x": takes, "mean": gives} | ({"variance": gives} if net.gaussian else {})
    if (found := tensors(made)) != expected:
        raise ModelError(f"{path}: tensors {_told(found)}; its card says {_told(expected)}")
    said, expected = _identity(made), model_folder.identity(model.facts)
    if different := [name for name, value in expected.items() if said.get(name) != value]:
        raise ModelError(
            f"{model.folder / CARD}: {', '.join(different)} not as in {GRAPH}; it takes the card that was written "
            f"with it"
        )
    return made


def _told(found: Mapping[str, str]) -> str:
    """Tensors on one line, of strangers' names the beginning."""
    return ascii(", ".join(f"{name} {size}" for name, size in found.items())[:200])[1:-1]


def _identity(made: Any) -> dict[str, Any]:
    """What a graph says of itself; empty where that cannot be read."""
    told = {entry.key: entry.value for entry in made.metadata_props}
    try:
        said = json.loads(told.get(model_folder.IDENTITY, "{}"))
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def read(folder: Path) -> Exported:
    """The exported model of a folder, its files checked."""
    card, graph = model_folder.verify(folder, GRAPH)
    spec, net = model_folder.described(folder, card)
    try:
        shapes(spec, net)
    except ModelError as error:
        raise ModelError(f"{folder / CARD}: {error}") from None
    params = {}
    for name, shape in normaliser_shapes(net).items():
        try:
            with np.errstate(over="ignore"):
                params[name] = np.asarray(card["normaliser"][name], dtype=np.float32)
        except (KeyError, TypeError, ValueError):
            params[name] = np.zeros(0)
        if params[name].shape != shape or not np.isfinite(params[name]).all():
            raise ModelError(
                f"{folder / CARD}: no normaliser '{name}' of {shape[0]} numbers, all finite; 'mbrl export' writes it"
            )
        if name.endswith("scale") and not (params[name] > 0.0).all():
            raise ModelError(f"{folder / CARD}: normaliser '{name}' not above 0; 'mbrl export' writes one that is")
    return Exported(folder, spec, net, params, card, graph)


def whole(model: Exported) -> Exported:
    """The same with all its weights, which are in its graph."""
    weights = weights_of(examined(model), shapes(model.spec, model.net))
    return replace(model, params={**model.params, **weights})


def make(config: Config, robot: Robot, xp: Any = np) -> Ensemble:
    """The dynamics of an exported model folder; refuses one of another robot. It can be written as a graph."""
    if not isinstance(xp.asarray(0.0), np.ndarray):
        raise BackEndError(
            f"dynamics 'onnx' for robot '{robot.name}' on {xp.__name__}: ONNX Runtime is run on numpy only; what runs "
            f"there is dynamics 'ensemble'"
        )
    if not config.model:
        raise ConfigError(
            f"onnx.model = '' for robot '{robot.name}': it takes a model folder, with {CARD} and {GRAPH}, as "
            f"'mbrl export' writes it"
        )
    model = read(Path(config.model))
    try:
        model_folder.check_robot(model, robot)
    except ModelError as error:
        raise ModelError(f"{model.folder / CARD}: {error}") from None
    if isinstance(xp, Recorder):
        return written(config, whole(model), robot, xp)
    threads = config.threads
    return Ensemble(
        config, model, robot, np, lambda model: Session(model, threads), lambda model: differentiated(model, threads)
    )
