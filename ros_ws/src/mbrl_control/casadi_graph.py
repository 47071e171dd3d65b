"""CasADi's expressions, built from code that takes ``xp``: the adapter of gradient planners.

``namespace()`` is an ``xp``: every function of ``core.XP_SUBSET`` on ``Symbols``, NumPy arrays whose elements are
CasADi's scalar SX. The same source that runs on NumPy then yields an expression graph, of which CasADi takes
derivatives (Andersson et al., "CasADi", Mathematical Programming Computation 11, 2019). The only file that imports
casadi, and only when something symbolic is made: robots run without it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mbrl_control.core import Array
from mbrl_control.errors import MbrlError

COMPARISONS = (np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal)


class CasadiError(MbrlError):
    """CasADi is not installed."""


class SymbolError(MbrlError):
    """A use of symbols that only numbers allow."""


def package() -> Any:
    try:
        import casadi
    except ImportError:
        raise CasadiError("casadi is not installed: pip install mbrl_control[train]") from None
    return casadi


class Symbols(np.ndarray):
    """An array of SX. NumPy's arithmetic and comparisons act on the elements; results stay arrays, even of no axes."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if "out" in kwargs:
            return NotImplemented  # no in-place writes
        plain = [_plain(x) for x in inputs]
        if ufunc in COMPARISONS:
            kwargs["dtype"] = object
        return _symbols(getattr(ufunc, method)(*plain, **kwargs))

    def __getitem__(self, key: Any) -> Any:
        return _symbols(self.view(np.ndarray)[key])

    def __bool__(self) -> bool:
        raise SymbolError(f"{self.view(np.ndarray)} has no truth value; instead of a Python if it takes xp.where")


def _plain(x: Any) -> np.ndarray:
    """Numbers, SX or arrays of either, as a base NumPy array of SX."""
    sx = package().SX
    if isinstance(x, sx):
        array = np.empty((), dtype=object)
        array[()] = x
        return array
    array = x.view(np.ndarray) if isinstance(x, np.ndarray) else None
    if array is None and isinstance(x, Sequence):
        return np.stack([_plain(part) for part in x]) if len(x) else np.empty(0, dtype=object)
    array = np.asarray(x) if array is None else array
    out = np.empty(array.shape, dtype=object)
    for index in np.ndindex(array.shape):
        out[index] = array[index] if isinstance(array[index], sx) else sx(float(array[index]))
    return out


def _symbols(x: Any) -> Symbols:
    return _plain(x).view(Symbols)


def symbols(name: str, *shape: int) -> Symbols:
    """New independent variables, named after their place."""
    out = np.empty(shape, dtype=object)
    for index in np.ndindex(*shape):
        out[index] = package().SX.sym("_".join([name, *map(str, index)]))
    return out.view(Symbols)


def column(x: Array) -> Any:
    """An array flattened into CasADi's own column vector, to build functions from."""
    return package().vertcat(*_plain(x).ravel().tolist())


def rows(matrix: Any) -> Any:
    """A matrix of CasADi's as one column, row by row, with its zeros."""
    return package().densify(package().vec(matrix.T))


class _Namespace:
    """The functions of ``core.XP_SUBSET`` on ``Symbols``. Reductions of no elements are not defined.

    ``max``, ``maximum`` and the like are C's fmax and fmin: they ignore a NaN where NumPy's hand it on.
    """

    def __init__(self, casadi: Any) -> None:
        """Bind the elementwise functions to CasADi's."""
        one = {"abs": "fabs", "ceil": "ceil", "cos": "cos", "exp": "exp", "floor": "floor", "log": "log"}
        one |= {"sin": "sin", "sqrt": "sqrt", "tanh": "tanh"}
        for name, source in one.items():
            setattr(self, name, self._elementwise(getattr(casadi, source), 1))
        self.square = self._elementwise(lambda x: x * x, 1)
        self.maximum = self._elementwise(casadi.fmax, 2)
        self.minimum = self._elementwise(casadi.fmin, 2)
        self.where = self._elementwise(casadi.if_else, 3)
        self.isfinite = self._elementwise(lambda x: casadi.fabs(x) < np.inf, 1)

    @staticmethod
    def _elementwise(f: Callable[..., Any], count: int) -> Callable[..., Symbols]:
        over = np.frompyfunc(f, count, 1)
        return lambda *xs: _symbols(over(*map(_plain, xs)))

    def clip(self, x: Array, low: Array, high: Array) -> Symbols:
        return self.minimum(self.maximum(x, low), high)

    def asarray(self, x: Any, dtype: Any = None, device: Any = None) -> Symbols:  # noqa: ARG002 - all are SX
        return _symbols(x)

    def arange(self, *args: float, dtype: Any = None, device: Any = None) -> Symbols:  # noqa: ARG002
        return _symbols(np.arange(*args))

    def broadcast_to(self, x: Array, shape: tuple[int, ...]) -> Symbols:
        return _symbols(np.broadcast_to(_plain(x), shape))

    def concat(self, arrays: Sequence[Array], axis: int = 0) -> Symbols:
        return _symbols(np.concatenate([_plain(x) for x in arrays], axis=axis))

    def stack(self, arrays: Sequence[Array], axis: int = 0) -> Symbols:
        return _symbols(np.stack([_plain(x) for x in arrays], axis=axis))

    def expand_dims(self, x: Array, axis: int) -> Symbols:
        return _symbols(np.expand_dims(_plain(x), axis))

    def moveaxis(self, x: Array, source: int, destination: int) -> Symbols:
        return _symbols(np.moveaxis(_plain(x), source, destination))

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Symbols:
        return _symbols(np.reshape(_plain(x), shape))

    def matmul(self, a: Array, b: Array) -> Symbols:
        return _symbols(np.matmul(_plain(a), _plain(b)))

    def ones_like(self, x: Array) -> Symbols:
        return _symbols(np.ones(np.shape(_plain(x))))

    def zeros_like(self, x: Array) -> Symbols:
        return _symbols(np.zeros(np.shape(_plain(x))))

    def sum(self, x: Array, axis: int, keepdims: bool = False) -> Symbols:
        return _symbols(np.add.reduce(_plain(x), axis=axis, keepdims=keepdims))

    def mean(self, x: Array, axis: int, keepdims: bool = False) -> Symbols:
        return self.sum(x, axis, keepdims) * (1.0 / np.shape(_plain(x))[axis])

    def max(self, x: Array, axis: int, keepdims: bool = False) -> Symbols:
        return self._fold(self.maximum, x, axis, keepdims)

    def min(self, x: Array, axis: int, keepdims: bool = False) -> Symbols:
        return self._fold(self.minimum, x, axis, keepdims)

    @staticmethod
    def _fold(f: Callable[..., Symbols], x: Array, axis: int, keepdims: bool) -> Symbols:
        folded = functools.reduce(f, list(np.moveaxis(_plain(x), axis, 0)))
        return _symbols(np.expand_dims(_plain(folded), axis) if keepdims else folded)


@functools.cache
def namespace() -> Any:
    """The ``xp`` that builds CasADi expressions; ``CasadiError`` where casadi is not installed."""
    return _Namespace(package())
