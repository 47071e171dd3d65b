"""Vectors by component, the constants among them folded away.

A component is a plain Python float where it is constant, else an array [...] of any back end. What is added to an exact
zero or multiplied by an exact zero or one costs nothing; constants stay floats, so that results keep the type and
device of the arrays, and CasADi sees no dead terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from mbrl_control.core import Array

Vector = tuple[Any, Any, Any]
"""Three components: Python floats where constant, else arrays [...]."""
Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]


def apply(m: Matrix, p: Vector) -> Vector:
    """The product of a constant matrix and a vector."""
    rows = (plus(plus(times(a, p[0]), times(b, p[1])), times(c, p[2])) for a, b, c in m)
    x, y, z = rows
    return x, y, z


def add(a: Vector, b: Vector) -> Vector:
    return plus(a[0], b[0]), plus(a[1], b[1]), plus(a[2], b[2])


def cross(a: Vector, b: Vector) -> Vector:
    return (
        less(times(a[1], b[2]), times(a[2], b[1])),
        less(times(a[2], b[0]), times(a[0], b[2])),
        less(times(a[0], b[1]), times(a[1], b[0])),
    )


def times(a: Any, b: Any) -> Any:
    if type(a) is float:
        return _scaled(b, a)
    return _scaled(a, b) if type(b) is float else a * b


def _scaled(a: Any, constant: float) -> Any:
    if constant == 0.0:
        return 0.0
    if constant == 1.0:
        return a
    return -a if constant == -1.0 else a * constant


def plus(a: Any, b: Any) -> Any:
    return b if is_zero(a) else a if is_zero(b) else a + b


def less(a: Any, b: Any) -> Any:
    return a if is_zero(b) else -b if is_zero(a) else a - b


def is_zero(a: Any) -> bool:
    """Whether ``a`` is the constant zero; never true of a value (NumPy's scalars are no plain floats)."""
    return type(a) is float and a == 0.0


def column(xp: Any, p: Sequence[Any], q: Annotated[Array, "... n"]) -> Annotated[Array, "... p"]:
    """Components as one array with the leading axes of ``q``."""
    zero = xp.zeros_like(q[..., 0])
    return xp.stack([zero + x if type(x) is float else x for x in p], axis=-1)
