"""Functions of one knot of a trajectory, built by CasADi and evaluated at many knots at once.

A function is written out as C, statement by statement, in which every number is a vector of ``LANES`` of them: a knot
in each lane. That is about ten times as quick as CasADi's virtual machine, which takes over where there is no compiler.
A function is of one knot and never of the horizon, so that what is compiled stays small, and is compiled once
(``machine_code.py``).
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from mbrl_control import machine_code
from mbrl_control.casadi_graph import package

LANES = 8
"""Numbers in a vector: of 64 bytes, which processors that have shorter ones take in parts."""
ONE = "tan exp log sqrt tanh fabs floor ceil asin acos atan sinh cosh"
TWO = "fmin fmax atan2 fmod pow"
"""Functions that are taken from C's library, number by number."""
HEAD = f"""#include <math.h>
#define LANES {LANES}
typedef double V __attribute__((vector_size({8 * LANES})));
#define EACH1(f) static inline V v_##f(V x) {{ V r; for (int i = 0; i < LANES; i++) r[i] = f(x[i]); return r; }}
#define EACH2(f) static inline V v_##f(V x, V y) \\
    {{ V r; for (int i = 0; i < LANES; i++) r[i] = f(x[i], y[i]); return r; }}
{" ".join(f"EACH1({name})" for name in ONE.split())}
{" ".join(f"EACH2({name})" for name in TWO.split())}
#define IF(c) ((V)((c) & (__typeof__((V){{0}} < (V){{0}}))((V){{0}} + 1.0)))
static inline double sign(double x) {{ return x > 0.0 ? 1.0 : x < 0.0 ? -1.0 : x; }}
EACH1(sign)
{(Path(__file__).parent / "native" / "turns.c").read_text()}
"""
BATCH = """
static const int in_sizes[] = {{{inputs}}}, out_sizes[] = {{{outputs}}};
void batch(long count, const double *const *in, double *const *out) {{
    V a[{all_in}], b[{all_out}];
    for (long k = 0; k < count; k += LANES) {{
        int there = count - k < LANES ? count - k : LANES, at = 0;
        for (int part = 0; part < {parts_in}; at += in_sizes[part++])
            for (int l = 0; l < LANES; l++)
                for (int i = 0; i < in_sizes[part]; i++)
                    a[at + i][l] = in[part][(k + (l < there ? l : 0)) * in_sizes[part] + i];
        knot(a, b);
        at = 0;
        for (int part = 0; part < {parts_out}; at += out_sizes[part++])
            for (int l = 0; l < there; l++)
                for (int i = 0; i < out_sizes[part]; i++) out[part][(k + l) * out_sizes[part] + i] = b[at + i][l];
    }}
}}
"""


@functools.cache
def _statements() -> Mapping[int, str]:
    """What each of CasADi's operations is in C."""
    casadi = package()
    one, two = [*ONE.split(), "sin", "cos", "sign"], TWO.split()
    found = {getattr(casadi, f"OP_{name.upper()}"): f"v_{name}({{0}})" for name in one}
    found |= {getattr(casadi, f"OP_{name.upper()}"): f"v_{name}({{0}}, {{1}})" for name in two}
    found[casadi.OP_CONSTPOW] = found[casadi.OP_POW]
    plain = {"ADD": "{0} + {1}", "SUB": "{0} - {1}", "MUL": "{0} * {1}", "DIV": "{0} / {1}", "NEG": "-{0}"}
    plain |= {"SQ": "{0} * {0}", "TWICE": "{0} + {0}", "INV": "1.0 / {0}", "ASSIGN": "{0}"}
    plain |= {"LT": "IF({0} < {1})", "LE": "IF({0} <= {1})", "EQ": "IF({0} == {1})", "NE": "IF({0} != {1})"}
    plain |= {"NOT": "IF({0} == 0.0)", "AND": "{0} * {1}", "OR": "IF({0} + {1} != 0.0)"}
    plain |= {"IF_ELSE_ZERO": "(V)((__typeof__({0} < {0}))({1}) & ({0} != 0.0))"}
    return found | {getattr(casadi, f"OP_{name}"): text for name, text in plain.items()}


def written(function: Any, name: str) -> str:
    """A CasADi function of scalars as a C function ``name(const V *in, V *out)``, inputs and outputs one by one."""
    casadi = package()
    first_in = np.cumsum([0] + [function.nnz_in(i) for i in range(function.n_in())])
    first_out = np.cumsum([0] + [function.nnz_out(i) for i in range(function.n_out())])
    lines = [f"static void {name}(const V *in, V *out) {{"]
    if function.sz_w():
        lines.append("V " + ", ".join(f"w{i}" for i in range(function.sz_w())) + ";")
    for k in range(function.n_instructions()):
        kind, given, put = function.instruction_id(k), function.instruction_input(k), function.instruction_output(k)
        if kind == casadi.OP_INPUT:
            text = f"w{put[0]} = in[{first_in[given[0]] + given[1]}];"
        elif kind == casadi.OP_OUTPUT:
            text = f"out[{first_out[put[0]] + put[1]}] = w{given[0]};"
        elif kind == casadi.OP_CONST:
            text = f"w{put[0]} = (V){{0}} + {_number(function.instruction_constant(k))};"
        else:
            text = f"w{put[0]} = {_statements()[kind].format(*(f'w{i}' for i in given))};"
        lines.append(text)
    return "\n".join([*lines, "}\n"])


def _number(value: float) -> str:
    if math.isnan(value):
        return "NAN"
    return repr(float(value)) if math.isfinite(value) else "INFINITY" if value > 0 else "-INFINITY"


def sizes(function: Any) -> tuple[list[int], list[int]]:
    """Numbers in each input, and in each output."""
    return (
        [function.nnz_in(i) for i in range(function.n_in())],
        [function.nnz_out(i) for i in range(function.n_out())],
    )


class Knots:
    """A CasADi function whose inputs and outputs are columns, evaluated at many knots."""

    def __init__(self, function: Any, what: str, compile: bool = True) -> None:
        """``what`` it is, in words. It is compiled when it is first called, if it is to be."""
        self.function, self._what, self._compile = function, what, compile
        self._sizes = sizes(function)[1]

    def __call__(self, *columns: Annotated[np.ndarray, "n _"]) -> list[Annotated[np.ndarray, "n _"]]:
        """Each output at each knot."""
        batch = self._batch if self._compile else None
        if batch is None:
            found = self.function(*(column.T for column in columns))
            return [np.array(x).T for x in (found if isinstance(found, tuple) else (found,))]
        given = [np.ascontiguousarray(column, dtype=float) for column in columns]
        out = [np.empty((len(given[0]), size)) for size in self._sizes]
        ins, outs = machine_code.pointers(given), machine_code.pointers(out)
        batch(len(given[0]), ins.ctypes.data, outs.ctypes.data)
        return out

    @property
    def native(self) -> bool:
        """Whether it runs as machine code."""
        return self._compile and self._batch is not None

    @functools.cached_property
    def _batch(self) -> Any:
        ins, outs = sizes(self.function)
        about = {"inputs": ", ".join(map(str, ins)), "outputs": ", ".join(map(str, outs))}
        about |= {"all_in": sum(ins), "all_out": sum(outs), "parts_in": len(ins), "parts_out": len(outs)}
        library = machine_code.compiled(HEAD + written(self.function, "knot") + BATCH.format(**about), self._what)
        if library is None:
            return None
        library.batch.argtypes = [ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        library.batch.restype = None
        return library.batch
