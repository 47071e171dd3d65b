"""Exact Jacobians of xp code: an ``xp`` whose arrays carry derivatives in some directions along with their values.

    x + e dx,  e^2 = 0:      f(x + e dx) = f(x) + e f'(x) dx

(forward mode; Griewank, Walther, "Evaluating Derivatives", SIAM 2008, ch. 3). The same source that is planned with
gives its derivatives by being run once on ``Tangents(base)``; ``base`` is NumPy, or our ONNX recorder, which then
writes the derivatives as a graph. It costs about as much as there are directions, of arrays of the same leading axes in
one go; for a function of many inputs and few outputs (a network) there is ``dynamics/_slopes.py``.

What has a kink has the derivative of one side: of ``clip`` that of what is within, its bounds included, so that what
stands at a bound is seen to come off it; of ``maximum`` and ``minimum`` half of each where both are equal, as
differences to both sides have it, and so of ``max`` and ``min``; of ``abs`` none at zero.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_control.core import Array, Latent, MbrlError, flat, unflat


class TangentError(MbrlError):
    """A use of values with derivatives that has none."""


@dataclass(frozen=True, eq=False)
class Dual:
    """Values [...] and their derivatives [D ...] in D directions; an axis of the derivatives of size 1 is repeated."""

    xp: Any
    """Of both."""
    value: Array
    slope: Array

    __array_ufunc__ = None
    """An array on the left leaves the operation to us."""

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.value.shape

    @property
    def ndim(self) -> int:
        return len(self.value.shape)

    @property
    def dtype(self) -> Any:
        return self.value.dtype

    @property
    def device(self) -> Any:
        return self.value.device

    def __add__(self, other: Any) -> Dual:
        return _linear(self.xp, operator.add, self, other)

    def __radd__(self, other: Any) -> Dual:
        return self + other

    def __sub__(self, other: Any) -> Dual:
        return self + (-other)

    def __rsub__(self, other: Any) -> Dual:
        return (-self) + other

    def __neg__(self) -> Dual:
        return Dual(self.xp, -self.value, -self.slope)

    def __mul__(self, other: Any) -> Dual:
        value = self.value * _value(other)
        mine = _like(self.xp, self.slope, value) * _value(other)
        if not isinstance(other, Dual):
            return Dual(self.xp, value, mine)
        return Dual(self.xp, value, mine + _like(self.xp, other.slope, value) * self.value)

    def __rmul__(self, other: Any) -> Dual:
        return self * other

    def __truediv__(self, other: Any) -> Dual:
        if not isinstance(other, Dual):
            value = self.value / other
            return Dual(self.xp, value, _like(self.xp, self.slope, value) / other)
        return self * (1.0 / other)

    def __rtruediv__(self, other: Any) -> Dual:
        inverse = 1.0 / self.value
        return _chain(self, inverse, -inverse * inverse) * other

    def __pow__(self, power: Any) -> Dual:
        if isinstance(power, Dual):
            raise TangentError("x ** y with derivatives in y: it takes a y without, or xp.exp(y * xp.log(x))")
        return _chain(self, self.value**power, self.value ** (power - 1) * power)

    def __lt__(self, other: Any) -> Any:
        return self.value < _value(other)

    def __le__(self, other: Any) -> Any:
        return self.value <= _value(other)

    def __gt__(self, other: Any) -> Any:
        return self.value > _value(other)

    def __ge__(self, other: Any) -> Any:
        return self.value >= _value(other)

    def __eq__(self, other: object) -> Any:
        return self.value == _value(other)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise TangentError("values with derivatives have no truth value; instead of a Python if it takes xp.where")

    def __getitem__(self, key: Any) -> Dual:
        own = key if isinstance(key, tuple) else (key,)
        return Dual(self.xp, self.value[key], _whole(self)[(slice(None), *own)])


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Dual) else x


def _like(xp: Any, slope: Array, value: Array) -> Array:
    """Derivatives with as many axes behind their first as ``value`` has."""
    for _ in range(len(value.shape) - len(slope.shape) + 1):
        slope = xp.expand_dims(slope, 1)
    return slope


def _whole(x: Dual) -> Array:
    """The derivatives with every axis of the values."""
    shape = (x.slope.shape[0], *x.value.shape)
    return x.slope if tuple(x.slope.shape) == shape else x.xp.broadcast_to(x.slope, shape)


def _chain(x: Dual, value: Array, factor: Array) -> Dual:
    return Dual(x.xp, value, x.slope * factor)


def _linear(xp: Any, function: Callable[..., Array], x: Dual, other: Any) -> Dual:
    """What is done alike to values and derivatives; a constant beside them has none."""
    value = function(x.value, _value(other))
    mine = _like(xp, x.slope, value)
    return Dual(xp, value, function(mine, _like(xp, other.slope, value)) if isinstance(other, Dual) else mine)


def _or_base(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of arrays without derivatives the function is the base's."""
    name = function.__name__

    @functools.wraps(function)
    def either(self: Tangents, *args: Any, **kwargs: Any) -> Any:
        parts = [part for x in args for part in (x if isinstance(x, list | tuple) else (x,))]
        if any(isinstance(part, Dual) for part in parts):
            return function(self, *args, **kwargs)
        return getattr(self.base, name)(*args, **kwargs)

    return either


class Tangents:
    """The functions of ``core.XP_SUBSET``, and ``take``, on ``Dual``; all else is the base's."""

    def __init__(self, base: Any) -> None:
        self.base = base
        self.__name__ = f"tangents of {base.__name__}"

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.base, name)

        def function(*args: Any, **kwargs: Any) -> Any:
            if any(isinstance(x, Dual) for x in args):
                raise TangentError(f"xp.{name}: no derivative is known; it takes the functions of core.XP_SUBSET")
            return found(*args, **kwargs)

        return function

    # --- Element by element ----------------------------------------------------------------------------

    @_or_base
    def abs(self, x: Dual) -> Dual:
        return _chain(x, self.base.abs(x.value), self._where(x.value > 0.0, 1.0, self._where(x.value < 0.0, -1.0, 0.0)))

    @_or_base
    def cos(self, x: Dual) -> Dual:
        return _chain(x, self.base.cos(x.value), -self.base.sin(x.value))

    @_or_base
    def sin(self, x: Dual) -> Dual:
        return _chain(x, self.base.sin(x.value), self.base.cos(x.value))

    @_or_base
    def exp(self, x: Dual) -> Dual:
        value = self.base.exp(x.value)
        return _chain(x, value, value)

    @_or_base
    def log(self, x: Dual) -> Dual:
        return _chain(x, self.base.log(x.value), 1.0 / x.value)

    @_or_base
    def sqrt(self, x: Dual) -> Dual:
        value = self.base.sqrt(x.value)
        return _chain(x, value, 0.5 / value)

    @_or_base
    def square(self, x: Dual) -> Dual:
        return _chain(x, self.base.square(x.value), x.value * 2.0)

    @_or_base
    def tanh(self, x: Dual) -> Dual:
        value = self.base.tanh(x.value)
        return _chain(x, value, 1.0 - value * value)

    @_or_base
    def ceil(self, x: Dual) -> Array:
        return self.base.ceil(x.value)

    @_or_base
    def floor(self, x: Dual) -> Array:
        return self.base.floor(x.value)

    @_or_base
    def isfinite(self, x: Dual) -> Array:
        return self.base.isfinite(x.value)

    @_or_base
    def ones_like(self, x: Dual) -> Array:
        return self.base.ones_like(x.value)

    @_or_base
    def zeros_like(self, x: Dual) -> Array:
        return self.base.zeros_like(x.value)

    @_or_base
    def maximum(self, a: Any, b: Any) -> Dual:
        return self._either(self.base.maximum(_value(a), _value(b)), a, b, _value(a) - _value(b))

    @_or_base
    def minimum(self, a: Any, b: Any) -> Dual:
        return self._either(self.base.minimum(_value(a), _value(b)), a, b, _value(b) - _value(a))

    def _either(self, value: Array, a: Any, b: Any, ahead: Array) -> Dual:
        """The derivatives of a where it is ahead, of b where it is behind, and half of each between."""
        share = self._where(ahead > 0.0, 1.0, self._where(ahead < 0.0, 0.0, 0.5))
        parts = [
            _like(self.base, x.slope, value) * part for x, part in ((a, share), (b, 1.0 - share)) if isinstance(x, Dual)
        ]
        return Dual(self.base, value, functools.reduce(operator.add, parts))

    @_or_base
    def clip(self, x: Any, low: Any, high: Any) -> Dual:
        under, over = _value(x) < _value(low), _value(x) > _value(high)
        value = self.base.clip(_value(x), _value(low), _value(high))
        inside = self._where(under, 0.0, self._where(over, 0.0, 1.0))
        shares = ((x, inside), (low, self._where(under, 1.0, 0.0)), (high, self._where(over, 1.0, 0.0)))
        parts = [_like(self.base, part.slope, value) * share for part, share in shares if isinstance(part, Dual)]
        return Dual(self.base, value, functools.reduce(operator.add, parts))

    @_or_base
    def where(self, condition: Array, a: Any, b: Any) -> Dual:
        value = self.base.where(condition, _value(a), _value(b))
        left, right = (_like(self.base, x.slope, value) if isinstance(x, Dual) else 0.0 for x in (a, b))
        return Dual(self.base, value, self.base.where(condition, left, right))

    def _where(self, condition: Array, a: Any, b: Any) -> Array:
        """Numbers by a condition."""
        return self.base.where(condition, a, b)

    # --- Shapes ----------------------------------------------------------------------------------------

    @_or_base
    def asarray(self, x: Dual, **kwargs: Any) -> Dual:
        return Dual(self.base, self.base.asarray(x.value, **kwargs), self.base.asarray(x.slope, **kwargs))

    @_or_base
    def broadcast_to(self, x: Dual, shape: Sequence[Any]) -> Dual:
        value = self.base.broadcast_to(x.value, shape)
        return Dual(self.base, value, _like(self.base, x.slope, value))

    @_or_base
    def reshape(self, x: Dual, shape: Sequence[int]) -> Dual:
        value = self.base.reshape(x.value, shape)
        return Dual(self.base, value, self.base.reshape(_whole(x), (x.slope.shape[0], *value.shape)))

    @_or_base
    def expand_dims(self, x: Dual, axis: int) -> Dual:
        return Dual(self.base, self.base.expand_dims(x.value, axis), self.base.expand_dims(x.slope, _behind(axis)))

    @_or_base
    def moveaxis(self, x: Dual, source: int, destination: int) -> Dual:
        slope = self.base.moveaxis(x.slope, _behind(source), _behind(destination))
        return Dual(self.base, self.base.moveaxis(x.value, source, destination), slope)

    @_or_base
    def concat(self, arrays: Sequence[Any], axis: int = 0) -> Dual:
        value = self.base.concat([_value(x) for x in arrays], axis=axis)
        count = next(x.slope.shape[0] for x in arrays if isinstance(x, Dual))
        slopes = [_whole(x) if isinstance(x, Dual) else self._none(count, x) for x in arrays]
        return Dual(self.base, value, self.base.concat(slopes, axis=_behind(axis)))

    def _none(self, count: Any, x: Array) -> Array:
        """The derivatives of a constant, all there."""
        zeros = self.base.expand_dims(self.base.zeros_like(x), 0)
        return self.base.broadcast_to(zeros, (count, *x.shape))

    @_or_base
    def stack(self, arrays: Sequence[Any], axis: int = 0) -> Dual:
        return self.concat([self.expand_dims(x, axis) for x in arrays], axis)

    @_or_base
    def take(self, x: Dual, indices: Array, axis: int) -> Dual:
        slope = self.base.take(_whole(x), indices, axis=_behind(axis))
        return Dual(self.base, self.base.take(x.value, indices, axis=axis), slope)

    # --- Products and reductions -----------------------------------------------------------------------

    @_or_base
    def matmul(self, a: Any, b: Any) -> Dual:
        if len(a.shape) == 1 and len(b.shape) == 2 and isinstance(a, Dual) and not isinstance(b, Dual):
            return Dual(self.base, self.base.matmul(a.value, b), self.base.matmul(_whole(a), b))
        value = self.base.matmul(_value(a), _value(b))
        parts = []
        if isinstance(a, Dual):
            parts.append(self.base.matmul(self._matrices(a, value), _value(b)))
        if isinstance(b, Dual):
            parts.append(self.base.matmul(_value(a), self._matrices(b, value)))
        return Dual(self.base, value, functools.reduce(operator.add, parts))

    def _matrices(self, x: Dual, product: Array) -> Array:
        """The derivatives of a factor, its matrices behind the leading axes of the product."""
        if x.ndim < 2:
            raise TangentError(
                f"xp.matmul of {list(x.shape)} with derivatives: it takes two axes or more, or one before a constant "
                f"matrix"
            )
        return _like(self.base, _whole(x), product)

    @_or_base
    def sum(self, x: Dual, axis: int, **kwargs: Any) -> Dual:
        return Dual(self.base, self.base.sum(x.value, axis=axis, **kwargs), self._reduced("sum", x, axis, **kwargs))

    @_or_base
    def mean(self, x: Dual, axis: int, **kwargs: Any) -> Dual:
        return Dual(self.base, self.base.mean(x.value, axis=axis, **kwargs), self._reduced("mean", x, axis, **kwargs))

    def _reduced(self, name: str, x: Dual, axis: int, **kwargs: Any) -> Array:
        return getattr(self.base, name)(_whole(x), axis=_behind(axis), **kwargs)

    @_or_base
    def max(self, x: Dual, axis: int) -> Dual:
        return self._extreme(x, self.base.max(x.value, axis=axis), axis)

    @_or_base
    def min(self, x: Dual, axis: int) -> Dual:
        return self._extreme(x, self.base.min(x.value, axis=axis), axis)

    def _extreme(self, x: Dual, value: Array, axis: int) -> Dual:
        """The mean of the derivatives of those that are as far out as any."""
        there = x.value == self.base.expand_dims(value, axis)
        mark = self.base.where(there, self.base.ones_like(x.value), self.base.zeros_like(x.value))
        found = self.base.sum(_whole(x) * mark, axis=_behind(axis))
        return Dual(self.base, value, found / self.base.sum(mark, axis=axis))


def _behind(axis: int) -> int:
    """Where an axis of the values is among those of the derivatives."""
    return axis if axis < 0 else axis + 1


def seeded(base: Any, **parts: Array) -> dict[str, Dual]:
    """Arrays [... n] as independent variables: a direction for each element of each one's last axis, in order."""
    sizes = [x.shape[-1] for x in parts.values()]
    each, at, found = np.eye(sum(sizes)), 0, {}
    for (name, x), size in zip(parts.items(), sizes, strict=True):
        unit = np.reshape(each[:, at : at + size], (len(each), *[1] * (len(x.shape) - 1), size))
        found[name], at = Dual(base, x, base.asarray(unit, dtype=x.dtype)), at + size
    return found


def jacobians(
    step: Callable[[dict[str, Any], Any], Mapping[str, Array]], s: Latent, u: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A [... nx nx] and B [... nx nu] of ``step(s, u)``, which is on ``Tangents(numpy)``, at (s, u) [... n].

    x is ``core.flat`` of the state, before and after.
    """
    sizes = {name: np.shape(x)[-1] for name, x in s.items()}
    u = np.asarray(u, dtype=float)
    lead = np.broadcast_shapes(u.shape[:-1], *(np.shape(x)[:-1] for x in s.values()))
    wide = {name: np.broadcast_to(np.asarray(x, dtype=float), (*lead, sizes[name])) for name, x in s.items()}
    x = flat(np, wide)
    variables = seeded(np, x=x, u=np.broadcast_to(u, (*lead, u.shape[-1])))
    after = step(unflat(variables["x"], sizes), variables["u"])
    found = flat(Tangents(np), {name: after[name] for name in sizes})
    assert isinstance(found, Dual)
    both = np.moveaxis(_whole(found), 0, -1)
    return both[..., : x.shape[-1]], both[..., x.shape[-1] :]
