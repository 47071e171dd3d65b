"""Members of an ensemble as nodes of an ONNX graph (``ensemble.Members`` on ``onnx_graph.Recorder``).

Each member has products of its own, of two axes with a constant: those ONNX Runtime packs once, where a batched product
of three axes packs them anew each time. Widths are filled up with zeros to whole vectors, and what inputs are divided
by is in the first weights. The constants have names, and ``constants`` gives those of another model: a graph that is
there takes the weights of a model that was fitted again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

import numpy as np

from mbrl_control import networks
from mbrl_control.core import Array
from mbrl_control.model import Described, usual
from mbrl_control.networks import Net
from mbrl_control.onnx_graph import Recorder, Traced

WIDTH = 16
"""Hidden layers are filled up to a multiple of this: the floats of a vector register."""
BOUNDS = ("max_log_variance", "min_log_variance")
ACTIVATIONS = {
    **networks.ACTIVATIONS,
    "silu": lambda xp, x: x * xp.sigmoid(x),
    "relu": lambda xp, x: xp.relu(x),
}
"""As ONNX Runtime knows them: it makes one operator of x sigmoid(x), and relu a part of the product before it."""


class Places(NamedTuple):
    """How particles are handed to members."""

    counts: tuple[int, ...]
    """How many each member has."""
    order: Array | None
    """The particles, member by member; None: they stand like that."""
    back: Array | None
    """Where each of them has come to."""


class Written:
    """The members of a model that has all its weights."""

    def __init__(self, model: Described, particles: int, xp: Recorder) -> None:
        self._net, self._xp = model.net, xp
        named = {name: xp.named(name, array) for name, array in constants(model, particles).items()}
        self._named = named
        self.usual = named["output_mean"], named["output_scale"]
        count = model.net.members
        self._members = [{name: named[f"{name}/{m}"] for name in _layers(model.net)} for m in range(count)]

    def of(self, member: Annotated[Array, "P"]) -> Places:
        xp, count = self._xp, member.shape[0]
        counts = tuple(np.bincount(np.arange(count) % self._net.members, minlength=self._net.members).tolist())
        if not isinstance(member, Traced) and np.all(np.diff(member) >= 0):
            return Places(counts, None, None)
        order = xp.argsort(member, axis=-1, stable=True)
        return Places(counts, order, xp.argsort(order, axis=-1, stable=True))

    def __call__(
        self, x: Annotated[Array, "... in"], of: Places | None = None
    ) -> tuple[Annotated[Array, "M ... n"], Annotated[Array, "M ... n"] | None]:
        xp, net = self._xp, self._net
        x = x - self._named["input_mean"]
        if of is None:
            rows = xp.reshape(x, (-1, x.shape[-1]))
            raw = xp.stack([self._asked(m, rows) for m in range(net.members)], axis=0)
            mean, deviation = self._judged(raw, "")
            shape = (net.members, *x.shape[:-1], net.outputs)
            return xp.reshape(mean, shape), None if deviation is None else xp.reshape(deviation, shape)
        x = x if of.order is None else xp.take(x, of.order, axis=0)
        said, at = [], 0
        for m, count in enumerate(of.counts):
            if count:
                rows = xp.reshape(x[at : at + count], (-1, x.shape[-1]))
                said.append(xp.reshape(self._asked(m, rows), (count, *x.shape[1:-1], -1)))
            at += count
        mean, deviation = self._judged(xp.concat(said, axis=0), "/particle")
        if of.back is None:
            return mean, deviation
        return xp.take(mean, of.back, axis=0), None if deviation is None else xp.take(deviation, of.back, axis=0)

    def _asked(self, m: int, rows: Annotated[Array, "B in"]) -> Annotated[Array, "B out"]:
        """What one member's last layer gives."""
        return networks.forward(self._xp, self._net, self._members[m], rows, ACTIVATIONS)

    def _judged(self, raw: Annotated[Array, "M ... out"], whose: str) -> tuple[Array, Array | None]:
        """Mean and deviation of what last layers give."""
        bounds = {name: self._named[name + whose] for name in BOUNDS} if self._net.gaussian else {}
        mean, variance = networks.mean_and_variance(self._xp, self._net, bounds, raw)
        return mean, None if variance is None else self._xp.sqrt(variance)


def _layers(net: Net) -> list[str]:
    return [name for name in net.shapes() if name not in BOUNDS]


def constants(model: Described, particles: int) -> Mapping[str, np.ndarray]:
    """What a graph has of a model, by name; ``w0/3`` is the first weight of member 3."""
    net, params = model.net, {name: np.asarray(array, dtype=float) for name, array in model.params.items()}
    mean, scale = usual(model)
    found = {"input_mean": params["input_mean"], "output_mean": mean, "output_scale": scale}
    for name in _layers(net):
        for m, array in enumerate(params[name]):
            if name == "w0":
                array = array / params["input_scale"][:, None]
            found[f"{name}/{m}"] = _filled(net, name, array)
    if net.gaussian:
        member = np.sort(np.arange(particles) % net.members)
        for name in BOUNDS:
            found[name], found[f"{name}/particle"] = params[name], params[name][member]
    return {name: array.astype(np.float32) for name, array in found.items()}


def _filled(net: Net, name: str, array: Annotated[np.ndarray, "in out"]) -> np.ndarray:
    """A weight with the sides that hidden layers have filled up; biases lose the axis of rows."""
    layer = int(name[1:])
    sides = (array.shape[0], array.shape[1])
    hidden = (name[0] == "w" and layer > 0, layer < net.layers - 1)
    more = [(0, -size % WIDTH if is_hidden else 0) for size, is_hidden in zip(sides, hidden, strict=True)]
    filled = np.pad(array, more)
    return filled if name[0] == "w" else filled[0]
