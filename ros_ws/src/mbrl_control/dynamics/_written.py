"""Members of an ensemble as nodes of an ONNX graph (``ensemble.Members`` on ``onnx_graph.Recorder``).

Each member has products of its own, of two axes with a constant: those ONNX Runtime packs once, where a batched product
of three axes packs them anew each time. Of small ones that is no matter, and all members are one product: there each
operator costs more than what it does. Widths are filled up with zeros to whole vectors, and what inputs are divided by
is in the first weights. The constants have names, and ``constants`` gives those of another model: a graph that is there
takes the weights of a model that was fitted again.

In eight bits (``Recorder.int8``) the products between hidden layers of particles' members are of whole numbers. First
and last layers stay as they are: they cost little, and what is lost there reaches the state at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

import numpy as np

from mbrl_control import networks
from mbrl_control.core import Array
from mbrl_control.model import Described, usual
from mbrl_control.networks import Net
from mbrl_control.onnx_graph import Quantized, Recorder, Traced, quantized

WIDTH = 16
"""Hidden layers are filled up to a multiple of this: the floats of a vector register."""
SMALL = 2**14
"""Rows of a member times the width of a layer up to which all members are one product (measured)."""
PARTS = ("int8", "scale")
"""Of a weight in eight bits."""
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
        named = {name: xp.named(name, array) for name, array in constants(model, particles, xp.int8).items()}
        self._named = named
        self.usual = named["output_mean"], named["output_scale"]
        count = model.net.members
        self._members = [{name: named[f"{name}/{m}"] for name in _layers(model.net)} for m in range(count)]
        for m, own in enumerate(self._members if xp.int8 else ()):
            own |= {name: Quantized(*(named[f"{name}/{m}.{part}"] for part in PARTS)) for name in _between(model.net)}
        self._together = {name: named[name] for name in _layers(model.net)}

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
            rows = xp.reshape(x, (1, -1, x.shape[-1]))
            raw = networks.forward(xp, net, self._together, rows, ACTIVATIONS)
            mean, deviation = self._judged(raw, "")
            shape = (net.members, *x.shape[:-1], net.outputs)
            return xp.reshape(mean, shape), None if deviation is None else xp.reshape(deviation, shape)
        x = x if of.order is None else xp.take(x, of.order, axis=0)
        mean, deviation = self._judged(self._handed(x, of.counts), "/particle")
        if of.back is None:
            return mean, deviation
        return xp.take(mean, of.back, axis=0), None if deviation is None else xp.take(deviation, of.back, axis=0)

    def _handed(self, x: Annotated[Array, "P ... in"], counts: tuple[int, ...]) -> Annotated[Array, "P ... out"]:
        """What the last layers of members give for their particles, which stand member by member."""
        xp, net, width = self._xp, self._net, x.shape[-1]
        rows = int(np.prod(x.shape[1:-1])) * max(counts)
        if not xp.int8 and len(set(counts)) == 1 and rows * max(net.hidden) <= SMALL:
            raw = networks.forward(xp, net, self._together, xp.reshape(x, (net.members, rows, width)), ACTIVATIONS)
            return xp.reshape(raw, (*x.shape[:-1], raw.shape[-1]))
        said, at = [], 0
        for params, count in zip(self._members, counts, strict=True):
            if count:
                own = xp.reshape(x[at : at + count], (-1, width))
                raw = networks.forward(xp, net, params, own, ACTIVATIONS)
                if xp.int8:
                    raw = raw + xp.sum(own, axis=-1)[:, None] * 0.0  # what is not finite may not become a whole number
                said.append(xp.reshape(raw, (count, *x.shape[1:-1], raw.shape[-1])))
            at += count
        return xp.concat(said, axis=0)

    def _judged(self, raw: Annotated[Array, "M ... out"], whose: str) -> tuple[Array, Array | None]:
        """Mean and deviation of what last layers give."""
        bounds = {name: self._named[name + whose] for name in BOUNDS} if self._net.gaussian else {}
        mean, variance = networks.mean_and_variance(self._xp, self._net, bounds, raw)
        return mean, None if variance is None else self._xp.sqrt(variance)


def _layers(net: Net) -> list[str]:
    return [name for name in net.shapes() if name not in BOUNDS]


def _between(net: Net) -> list[str]:
    """The weights between hidden layers."""
    return [f"w{layer}" for layer in range(1, net.layers - 1)]


def constants(model: Described, particles: int, int8: bool = False) -> Mapping[str, np.ndarray]:
    """What a graph may have of a model, by name; ``w0/3`` is the first weight of member 3, ``w0`` that of all.

    With ``int8`` those between hidden layers are there in eight bits as well, as ``w1/3.int8`` and ``w1/3.scale``.
    """
    net, params = model.net, {name: np.asarray(array, dtype=float) for name, array in model.params.items()}
    mean, scale = usual(model)
    found = {"input_mean": params["input_mean"], "output_mean": mean, "output_scale": scale}
    for name in _layers(net):
        whole = params[name] / (params["input_scale"][:, None] if name == "w0" else 1.0)
        found[name] = whole = _filled(net, name, whole)
        found |= {f"{name}/{m}": array if name[0] == "w" else array[0] for m, array in enumerate(whole)}
    if net.gaussian:
        member = np.sort(np.arange(particles) % net.members)
        for name in BOUNDS:
            found[name], found[f"{name}/particle"] = params[name], params[name][member]
    single = {name: array.astype(np.float32) for name, array in found.items()}
    for name in (f"{name}/{m}" for name in _between(net) for m in range(net.members * int8)):
        single |= {f"{name}.{part}": array for part, array in zip(PARTS, quantized(single[name]), strict=True)}
    return single


def _filled(net: Net, name: str, array: Annotated[np.ndarray, "E in out"]) -> Annotated[np.ndarray, "E more more"]:
    """A weight with the sides that hidden layers have filled up."""
    layer, (_, rows, width) = int(name[1:]), array.shape
    below = -rows % WIDTH if name[0] == "w" and layer > 0 else 0
    beside = -width % WIDTH if layer < net.layers - 1 else 0
    return np.pad(array, ((0, 0), (0, below), (0, beside)))
