"""Jacobians of an ensemble's mean: what its members say on average, and how that changes with what they read.

    x_l+1 = a(x_l W_l + b_l),     dy/dx_l = dy/dx_l+1 diag(a'(x_l W_l + b_l)) W_l',     from the last layer to the first

Networks have fewer outputs than inputs, so this way round is a fraction of the work of ``tangents.py``, which carries
on from here: ``Slopes`` are the members (``ensemble.Members``) of a model on ``Tangents(numpy)``. The source is run by
NumPy on weights that are in memory, or written as a graph that ONNX Runtime runs, on a robot without torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np

from mbrl_control import networks
from mbrl_control.core import Array
from mbrl_control.model import Described, usual
from mbrl_control.networks import Net, Params
from mbrl_control.onnx_graph import BATCH, Recorder, graph
from mbrl_control.tangents import Dual

Said = Callable[[Annotated[np.ndarray, "B in"]], tuple[Annotated[np.ndarray, "B n"], Annotated[np.ndarray, "n B in"]]]
"""The mean over members, in units of what is usual, and its Jacobian."""


class Slopes:
    """The members of a model on ``Tangents(numpy)``, as one: their mean."""

    def __init__(self, model: Described, said: Said) -> None:
        self.usual, self._said = usual(model), said

    def of(self, member: Array) -> Any:
        raise NotImplementedError(f"particles {member.shape} have no Jacobians: those are of the mean")

    def __call__(self, x: Dual, of: Any = None) -> tuple[Dual, None]:  # noqa: ARG002 - particles are not asked for
        lead, width = x.shape[:-1], x.shape[-1]
        mean, jacobian = self._said(np.reshape(x.value, (-1, width)))
        slope = np.reshape(np.broadcast_to(x.slope, (len(x.slope), *x.shape)), (len(x.slope), -1, width))
        found = np.matmul(np.moveaxis(slope, 0, 1), np.moveaxis(jacobian, 0, -1))
        shape = (1, *lead, mean.shape[-1])
        return Dual(x.xp, np.reshape(mean, shape), np.reshape(np.moveaxis(found, 1, 0), (len(x.slope), *shape))), None


def mean_and_jacobian(
    xp: Any, net: Net, params: Params, x: Annotated[Array, "B in"]
) -> tuple[Annotated[Array, "B n"], Annotated[Array, "n B in"]]:
    """Of inputs as they come; ``params`` with what normalises them."""
    scale = 1.0 / params["input_scale"]
    x = xp.expand_dims((x - params["input_mean"]) * scale, 0)
    slopes = []
    for layer in range(net.layers - 1):
        x, slope = _activated(xp, net.activation, xp.matmul(x, params[f"w{layer}"]) + params[f"b{layer}"])
        slopes.append(slope)
    last = params[f"w{net.layers - 1}"][..., : net.outputs]
    mean = xp.matmul(x, last) + params[f"b{net.layers - 1}"][..., : net.outputs]
    back = xp.expand_dims(xp.moveaxis(last, -1, 0), -2)  # [n E 1 h], the same for every row
    for layer in reversed(range(net.layers - 1)):
        back = xp.matmul(back * slopes[layer], xp.moveaxis(params[f"w{layer}"], -1, -2))
    jacobian = xp.mean(back, axis=1) * scale
    if net.layers == 1:
        jacobian = jacobian + xp.expand_dims(x[0, :, :1], 0) * 0.0
    return xp.mean(mean, axis=0), jacobian


def _activated(xp: Any, activation: str, x: Array) -> tuple[Array, Array]:
    """What an activation makes of x, and its derivative there."""
    if activation == "tanh":
        value = xp.tanh(x)
        return value, 1.0 - value * value
    if activation == "relu":
        some = xp.asarray(x > 0.0, dtype=x.dtype)
        return x * some, some
    share = networks.sigmoid(xp, x)
    value = x * share
    return value, share + value * (1.0 - share)


def by_numpy(model: Described, precision: str) -> Said:
    """The mean of a model whose weights are in memory, in float32 or float64."""
    params = {name: np.asarray(array, dtype=precision) for name, array in model.params.items()}
    return lambda x: mean_and_jacobian(np, model.net, params, np.asarray(x, dtype=precision))


def written(model: Described) -> bytes:
    """The same as a graph: x [B in] to mean [B n] and jacobian [n B in]."""
    recorder, net = Recorder(), model.net
    params = {name: np.asarray(array, dtype=np.float32) for name, array in model.params.items()}
    mean, jacobian = mean_and_jacobian(recorder, net, params, recorder.input("x", (BATCH, net.inputs)))
    return graph(recorder, {"mean": mean, "jacobian": jacobian}, {}, "jacobian")
