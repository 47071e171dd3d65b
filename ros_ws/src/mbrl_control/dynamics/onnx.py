"""An exported model, run by ONNX Runtime: what a robot plans with, without torch and without safetensors.

It is the model of ``dynamics/ensemble.py``, particles, propagation and reference included; what differs is who runs the
networks. The graph takes what they read as it comes, x [E B in], and gives mean and variance [E B n] of the change in
its own units, a row of every member for itself: particles are handed to the member that they belong to, and one state
to all of them.

Only ``card.yaml`` and ``model.onnx`` are read. Before ONNX Runtime sees the graph, its sha256 is the one in the card,
and the robot is the one that the card names, with its joints, channels and limits; then the graph itself has to say the
same of itself as the card. The graph computes in single precision, on the CPU: NumPy only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np

from mbrl_control import model_folder
from mbrl_control.config import ConfigError, param
from mbrl_control.core import BackEndError, Robot
from mbrl_control.dynamics.ensemble import Ensemble, Propagation
from mbrl_control.model import ModelError, Spec, normaliser_shapes
from mbrl_control.model_folder import CARD, GRAPH, LARGEST
from mbrl_control.networks import Net


@dataclass(frozen=True)
class Config(Propagation):
    """And what ONNX Runtime may use."""

    threads: int = param(1, "Threads of ONNX Runtime", low=1, high=256)


@dataclass(frozen=True, eq=False)
class Exported:
    """A model as its folder has it."""

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
        self._mean, self._scale = (model.params[f"output_{name}"] for name in ("mean", "scale"))
        self._run = opened(model, threads).run
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
            said = self._run(self._outputs, {"x": np.ascontiguousarray(rows, dtype=np.float32)})
            found = [np.reshape(y, (members, *x.shape[:-1], -1)) for y in said]
        elif of.as_they_stand:
            rows = np.ascontiguousarray(np.reshape(x, (members, -1, width)), dtype=np.float32)
            found = [np.reshape(y, (*x.shape[:-1], -1)) for y in self._run(self._outputs, {"x": rows})]
        else:
            rows = np.zeros((members, of.rows, *x.shape[1:]), dtype=np.float32)
            rows[of.member, of.row] = x
            said = self._run(self._outputs, {"x": np.reshape(rows, (members, -1, width))})
            found = [np.reshape(y, (*rows.shape[:-1], -1))[of.member, of.row] for y in said]
        mean = (found[0] - self._mean) / self._scale
        return mean, np.sqrt(found[1]) / self._scale if self._net.gaussian else None


def opened(model: Exported, threads: int) -> Any:
    """The session of a graph that is what its card says."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise ModelError("dynamics 'onnx': onnxruntime is not installed; pip install onnxruntime-gpu") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    try:
        session = onnxruntime.InferenceSession(model.graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no base class of its own errors
        why = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{GRAPH}: ONNX Runtime does not take it ({why}); it takes one as 'mbrl export' writes"
        ) from None
    net = model.net
    sizes = {"x": [net.members, net.inputs], "mean": [net.members, net.outputs]}
    sizes |= {"variance": [net.members, net.outputs]} if net.gaussian else {}
    found = {one.name: [one.shape[0], *one.shape[2:]] for one in (*session.get_inputs(), *session.get_outputs())}
    if found != sizes:
        raise ModelError(f"{GRAPH}: tensors {found}; its card says {sizes}")
    said = session.get_modelmeta().custom_metadata_map.get(model_folder.IDENTITY, "{}")
    expected = model_folder.identity(model.facts)
    if different := [name for name, value in expected.items() if json.loads(said).get(name) != value]:
        raise ModelError(
            f"{CARD}: {', '.join(different)} not as in {GRAPH}; it takes the card that was written with it"
        )
    return session


def read(folder: Path) -> Exported:
    """The exported model of a folder, its files checked."""
    card = model_folder.verify(folder, GRAPH)
    spec, net = model_folder.described(folder, card)
    size = (folder / GRAPH).stat().st_size
    if size > LARGEST:
        raise ModelError(f"{folder / GRAPH}: {size} bytes; at most {LARGEST} are taken")
    params = {}
    for name, shape in normaliser_shapes(net).items():
        try:
            params[name] = np.asarray(card["normaliser"][name], dtype=np.float32)
        except (KeyError, TypeError, ValueError):
            params[name] = np.zeros(0)
        if params[name].shape != shape:
            raise ModelError(f"{folder / CARD}: no normaliser '{name}' of {shape[0]} numbers; 'mbrl export' writes it")
    return Exported(spec, net, params, card, (folder / GRAPH).read_bytes())


def make(config: Config, robot: Robot, xp: Any = np) -> Ensemble:
    """The dynamics of an exported model folder; refuses one of another robot."""
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
    return Ensemble(config, read(Path(config.model)), robot, np, lambda model: Session(model, config.threads))
