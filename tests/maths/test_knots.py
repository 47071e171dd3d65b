"""Functions of knots: machine code and CasADi's virtual machine give the same numbers, and who lacks one is told."""

from __future__ import annotations

import casadi as ca
import numpy as np
import pytest

from mbrl_control import machine_code
from mbrl_control.knots import LANES, Knots
from mbrl_control.machine_code import CompilerError

X, Y = ca.SX.sym("x", 3), ca.SX.sym("y", 3)
OPERATIONS = {
    "arithmetic": [X + Y, X - Y, X * Y, X / Y, -X, X * X, X + X, 1 / X, X**3, ca.fabs(X) ** 1.5],
    "functions": [ca.sin(X), ca.cos(X), ca.tan(X), ca.exp(X), ca.log(ca.fabs(X)), ca.sqrt(ca.fabs(X)), ca.tanh(X)],
    "more functions": [ca.asin(ca.sin(X)), ca.atan(X), ca.sinh(X), ca.cosh(X), ca.floor(X), ca.ceil(X), ca.fabs(X)],
    "of two": [ca.fmin(X, Y), ca.fmax(X, Y), ca.atan2(X, Y), ca.fmod(X, Y), ca.sign(X)],
    "comparisons": [X < Y, X <= Y, X == Y, X != Y, ca.logic_and(X > 0, Y > 0), ca.logic_or(X > 0, Y > 0)],
    "choices": [ca.if_else(X > Y, 2 * X, Y * Y), ca.logic_not(X > 0) * X, ca.if_else(X > 0, ca.SX(3), ca.SX(4))],
    "constants": [ca.SX(1.5) * X, ca.SX.inf() + X, ca.SX(-np.inf) + X, ca.SX.nan() * X, ca.SX(0)],
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_gives_what_the_virtual_machine_gives(name, cache):
    function = ca.Function("f", [X, Y], [ca.densify(ca.vertcat(*OPERATIONS[name])), X])
    rng = np.random.default_rng(0)
    for count in (1, LANES - 1, LANES, 2 * LANES + 3):
        x, y = rng.normal(size=(2, count, 3))
        y[0], x[-1, 0] = x[0], np.nan
        compiled, plain = Knots(function, name)(x, y), Knots(function, name, compile=False)(x, y)
        for mine, theirs in zip(compiled, plain, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-15, atol=0.0)


def test_turns_are_exact_to_two_units_in_the_last_place_however_many(cache):
    rng = np.random.default_rng(1)
    quarters = np.arange(-40, 41) * np.pi / 4
    apart = [rng.uniform(-10.0, 10.0, 20_000), rng.uniform(-1e5, 1e5, 20_000), rng.uniform(-1e12, 1e12, 1000)]
    x = np.concatenate([*apart, quarters, np.nextafter(quarters, np.inf), [0.0, -0.0, 1e-300, 1e300, np.nan, np.inf]])
    angle = ca.SX.sym("angle")
    found = Knots(ca.Function("f", [angle], [ca.sin(angle), ca.cos(angle)]), "turns")(x[:, None])
    with np.errstate(invalid="ignore"):
        expected = np.sin(x), np.cos(x)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine[:, 0], theirs, rtol=4.5e-16, atol=1e-29)
    assert np.signbit(found[0][x == 0.0, 0]).tolist() == [False, False, True]  # of 0, 0 and -0


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache of compiled code."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    machine_code.compiled.cache_clear()
    yield tmp_path / "mbrl_control" / "compiled"
    machine_code.compiled.cache_clear()


@pytest.fixture
def function():
    return ca.Function("f", [X], [ca.densify(X * 2.0)])


def test_what_is_compiled_is_kept_by_its_content(cache, function):
    Knots(function, "a")(np.ones((2, 3)))
    (kept,) = cache.iterdir()
    before = kept.stat().st_mtime_ns
    machine_code.compiled.cache_clear()
    assert np.array_equal(Knots(function, "a")(np.ones((2, 3)))[0], np.full((2, 3), 2.0))
    assert [path.stat().st_mtime_ns for path in cache.iterdir()] == [before]
    Knots(ca.Function("f", [X], [X * 3.0]), "b")(np.ones((2, 3)))
    assert len(list(cache.iterdir())) == 2


def test_without_a_compiler_the_virtual_machine_does_it_and_it_is_said(cache, function, monkeypatch, capfd):
    monkeypatch.setattr(machine_code, "compiler", lambda: None)
    assert np.array_equal(Knots(function, "derivatives of it")(np.ones((2, 3)))[0], np.full((2, 3), 2.0))
    assert "no C compiler" in capfd.readouterr().err
    assert not cache.exists()


def test_a_compiler_that_does_not_compile_is_an_error_with_its_own_words(cache):
    with pytest.raises(CompilerError, match=r"does not compile nonsense:.*error"):
        machine_code.compiled("int f( { return 1; }", "nonsense")
    assert not list(cache.glob("*.so"))
