"""An ensemble of small networks as one batched layer after another, and the losses that they are fitted by.

Written once over ``xp``: the same source predicts on NumPy, is trained on torch, and traces to ONNX. The weights are
named arrays with the members in front, ``w0`` [E in out] and ``b0`` [E 1 out] and so on, so that all members go
through one matrix product, and no member ever sees another's.

A Gaussian head has two halves, the mean and a raw log variance r. Chua, Calandra, McAllister, Levine ("Deep
Reinforcement Learning in a Handful of Trials using Probabilistic Dynamics Models", NeurIPS 2018) bound it softly by
two learned rows, first from above and then from below,

    r1 = max - softplus(max - r),    log var = min + softplus(r1 - min)

which is the same as, and computed as,

    var = e^min + e^max sigmoid(r - max)

What differs: each member has bounds of its own (theirs are shared), so that members stay independent and one can be
stopped early without the others. A deterministic head (Nagabandi et al., PDDM, CoRL 2019) is the mean alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mbrl_control.core import Array

Params = Mapping[str, Array]
"""Named weights, each with a leading axis of members."""

MAX_LOG_VARIANCE, MIN_LOG_VARIANCE = 0.5, -10.0
"""Where the soft bounds begin, as in PETS' code."""
BOUND_WEIGHT = 0.01
"""How strongly the soft bounds are drawn together, as in PETS' code."""
CUT_OFF = 80.0
"""e to the power of this is finite in single precision."""
TRUNCATED = 2.0
"""Initial weights lie within so many standard deviations."""


def relu(xp: Any, x: Array) -> Array:
    return xp.maximum(x, xp.zeros_like(x))


def sigmoid(xp: Any, x: Array) -> Array:
    """1 / (1 + e^-x), by tanh, which does not overflow."""
    return xp.tanh(x * 0.5) * 0.5 + 0.5


def silu(xp: Any, x: Array) -> Array:
    """x sigmoid(x), which PETS calls swish. By exp, quicker on torch than tanh, cut off where it would overflow."""
    return x / (xp.exp(xp.clip(-x, -CUT_OFF, CUT_OFF)) + 1.0)


def tanh(xp: Any, x: Array) -> Array:
    return xp.tanh(x)


Activation = Callable[[Any, Array], Array]
ACTIVATIONS: Mapping[str, Activation] = {"silu": silu, "relu": relu, "tanh": tanh}
HEADS = ("gaussian", "deterministic")


@dataclass(frozen=True, slots=True)
class Net:
    """The shape of an ensemble."""

    members: int
    inputs: int
    hidden: tuple[int, ...]
    outputs: int
    head: str = "gaussian"
    """One of ``HEADS``."""
    activation: str = "silu"
    """One of ``ACTIVATIONS``."""

    @property
    def gaussian(self) -> bool:
        return self.head == "gaussian"

    @property
    def layers(self) -> int:
        return len(self.hidden) + 1

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each weight."""
        sizes = (self.inputs, *self.hidden, self.outputs * (2 if self.gaussian else 1))
        found: dict[str, tuple[int, ...]] = {}
        for i, (before, after) in enumerate(itertools.pairwise(sizes)):
            found[f"w{i}"] = (self.members, before, after)
            found[f"b{i}"] = (self.members, 1, after)
        if self.gaussian:
            found["max_log_variance"] = found["min_log_variance"] = (self.members, 1, self.outputs)
        return found


def initial(net: Net, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights to begin with: truncated normal with deviation 1 / (2 sqrt(inputs)), as in PETS' code; no bias."""
    found = {}
    for name, shape in net.shapes().items():
        if name.startswith("w"):
            found[name] = truncated_normal(rng, shape) / (2.0 * math.sqrt(shape[1]))
        elif name.startswith("b"):
            found[name] = np.zeros(shape)
        else:
            found[name] = np.full(shape, MAX_LOG_VARIANCE if name.startswith("max") else MIN_LOG_VARIANCE)
    return {name: array.astype(np.float32) for name, array in found.items()}


def truncated_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal draws, those beyond the truncation drawn again."""
    drawn = rng.standard_normal(shape)
    while (beyond := np.abs(drawn) > TRUNCATED).any():
        drawn[beyond] = rng.standard_normal(int(beyond.sum()))
    return drawn


def forward(
    xp: Any,
    net: Net,
    params: Params,
    x: Annotated[Array, "E B in"],
    activations: Mapping[str, Activation] = ACTIVATIONS,
) -> Annotated[Array, "E B out"]:
    """What the last layer gives: the means; and, of a Gaussian head, the raw log variances after them.

    ``activations`` may be a back end's own, where those are quicker to differentiate.
    """
    activation = activations[net.activation]
    for i in range(net.layers):
        x = xp.matmul(x, params[f"w{i}"]) + params[f"b{i}"]
        if i < net.layers - 1:
            x = activation(xp, x)
    return x


def mean_and_variance(
    xp: Any, net: Net, params: Params, raw: Annotated[Array, "E B out"]
) -> tuple[Annotated[Array, "E B n"], Annotated[Array, "E B n"] | None]:
    """The two halves of what ``forward`` gives, the variance within its soft bounds; None of a deterministic head."""
    if not net.gaussian:
        return raw, None
    return raw[..., : net.outputs], variance(xp, params, raw[..., net.outputs :])


def variance(xp: Any, params: Params, raw: Annotated[Array, "E B n"]) -> Annotated[Array, "E B n"]:
    """e^min + e^max sigmoid(r - max)."""
    high, low = params["max_log_variance"], params["min_log_variance"]
    return xp.exp(low) + xp.exp(high) * sigmoid(xp, raw - high)


def nll(
    xp: Any,
    net: Net,
    params: Params,
    raw: Annotated[Array, "E B out"],
    y: Annotated[Array, "E B n"],
    beta: float = 0.0,
    held: Callable[[Array], Array] = lambda x: x,
) -> Annotated[Array, "E"]:
    """Each member's negative log likelihood, up to a constant, mean over rows and outputs; with the bounds' share.

    mean[var^beta ((y - mu)^2 / var + log var)] + 0.01 (sum max - sum min)

    beta = 0 is the likelihood, as in PETS. Where rare and violent changes stand beside many small ones, as when a thing
    is pushed, its mean is hardly learned: it is noise for it, and the more so, the less it counts. A beta of 0.5 helps
    (Seitzer, Tavakoli, Antic, Martius, "On the Pitfalls of Heteroscedastic Uncertainty Estimation with Probabilistic
    Neural Networks", ICLR 2022). var^beta is a weight: ``held`` keeps a back end from differentiating it.
    """
    mean, spread = mean_and_variance(xp, net, params, raw)
    each = xp.square(y - mean) / spread + xp.log(spread)
    if beta:
        each = each * held(xp.exp(beta * xp.log(spread)))
    apart = params["max_log_variance"] - params["min_log_variance"]
    return xp.mean(xp.mean(each, axis=-1), axis=-1) + BOUND_WEIGHT * xp.sum(xp.sum(apart, axis=-1), axis=-1)


def mse(xp: Any, raw: Annotated[Array, "E B n"], y: Annotated[Array, "E B n"]) -> Annotated[Array, "E"]:
    """Each member's mean squared error."""
    return xp.mean(xp.mean(xp.square(y - raw), axis=-1), axis=-1)


def loss(
    xp: Any,
    net: Net,
    params: Params,
    raw: Annotated[Array, "E B out"],
    y: Annotated[Array, "E B n"],
    beta: float = 0.0,
    held: Callable[[Array], Array] = lambda x: x,
) -> Annotated[Array, "E"]:
    """What members with this head are fitted by, of what ``forward`` gives."""
    return nll(xp, net, params, raw, y, beta, held) if net.gaussian else mse(xp, raw, y)
