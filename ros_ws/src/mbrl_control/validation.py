"""Whether a model is good enough to go to a robot: named checks of what is known of it from episodes held out.

    held_out    it was judged by whole episodes that it was not fitted to
    finite      every figure of it is a number
    one_step    the least share of an output's variance that one step explains
    open_loop   the error after ``fit.horizon`` steps, over that of who says that nothing will move; root mean square
                over the elements of the state
    coverage    the least share of an output's truths in its 90 % interval, of members that give one

They are data: the card has each with its value, what is accepted, and whether it passed. A model that fails is not
exported unless each failed check is forced by name, and then the card says that too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mbrl_control.config import nearest
from mbrl_control.core import MbrlError
from mbrl_control.model import FLOOR
from mbrl_control.model_folder import plain

EXPLAINED = 0.8
"""Least share of the variance of each output."""
FORESEEN = 0.8
"""Largest error in open loop, as a share of that of who says that nothing will move."""
COVERED, WIDE = 0.85, 0.95
"""Least share in the 90 % interval; above the latter it is told that the interval is wider than it has to be."""
NOT_MEASURED = "not measured"
Facts = Mapping[str, Any]


class ValidationError(MbrlError):
    """A check that is not known."""


@dataclass(frozen=True)
class Check:
    """One check and what came of it."""

    name: str
    value: float | None
    """None: it could not be measured."""
    accepts: str
    passed: bool
    note: str = ""
    """Of which output, or what else there is to say."""


def examined(facts: Facts) -> list[Check]:
    """All checks, of the ``facts`` of a model."""
    known = plain(facts)
    return [check(known) for check in CHECKS.values()]


def forced(names: Iterable[str], checks: Sequence[Check]) -> list[str]:
    """Those failed checks that are forced by name."""
    wanted = list(names)
    for name in wanted:
        if name not in CHECKS:
            raise ValidationError(f"--force {name}: no such check; {nearest(name, CHECKS)}")
    return [check.name for check in checks if not check.passed and check.name in wanted]


def _held_out(facts: Facts) -> Check:
    data, metrics = facts.get("data", {}), facts.get("metrics", {})
    held = set(data.get("held_out_sha256") or ())
    both = held & set(data.get("sha256") or ())
    count = len(held) if metrics.get("held_out_steps") else 0
    note = f"{len(both)} of them are among those it was fitted to" if both else ""
    return Check("held_out", float(count), "at least 1 episode", count > 0 and not both, note)


def _finite(facts: Facts) -> Check:
    found = list(_numbers({name: facts.get(name) for name in ("metrics", "calibration")}))
    bad = sum(not math.isfinite(x) for x in found)
    if not found:
        return Check("finite", None, "0 figures that are not", False, NOT_MEASURED)
    return Check("finite", float(bad), "0 figures that are not", bad == 0)


def _one_step(facts: Facts) -> Check:
    accepts, metrics = f"at least {EXPLAINED:g}", facts.get("metrics", {})
    usual, explained = metrics.get("usual_change", {}), metrics.get("one_step_r2", {})
    moving = {name: x for name, x in explained.items() if usual.get(name, math.inf) > FLOOR}
    if not moving:
        return Check("one_step", None, accepts, False, NOT_MEASURED)
    name, least = min(moving.items(), key=_worst_first)
    return Check("one_step", least, accepts, least >= EXPLAINED, name)


def _open_loop(facts: Facts) -> Check:
    accepts, found = f"at most {FORESEEN:g}", facts.get("metrics", {}).get("open_loop", {})
    missed, unmoved = found.get("rmse_at_end", {}), found.get("unmoved_at_end", {})
    shares = [missed[name] / still for name, still in unmoved.items() if still > FLOOR]
    if not shares:
        return Check("open_loop", None, accepts, False, NOT_MEASURED)
    share = math.sqrt(sum(x * x for x in shares) / len(shares))
    return Check("open_loop", share, accepts, share <= FORESEEN, f"after {found['steps']} steps")


def _coverage(facts: Facts) -> Check:
    accepts = f"at least {COVERED:g}"
    if facts.get("net", {}).get("head", facts.get("fit", {}).get("head")) == "deterministic":
        return Check("coverage", None, accepts, True, "members without a variance")
    found = facts.get("calibration", {}).get("coverage_90", {})
    if not found:
        return Check("coverage", None, accepts, False, NOT_MEASURED)
    name, least = min(found.items(), key=_worst_first)
    wide = f"; wider than it has to be (above {WIDE:g})" if least > WIDE else ""
    return Check("coverage", least, accepts, least >= COVERED, name + wide)


CHECKS: Mapping[str, Callable[[Facts], Check]] = {
    "held_out": _held_out,
    "finite": _finite,
    "one_step": _one_step,
    "open_loop": _open_loop,
    "coverage": _coverage,
}


def _worst_first(item: tuple[str, float]) -> float:
    """What is not a number is worst."""
    return item[1] if math.isfinite(item[1]) else -math.inf


def _numbers(x: Any) -> Iterator[float]:
    """All numbers in lists and mappings."""
    if isinstance(x, Mapping):
        x = list(x.values())
    if isinstance(x, list | tuple):
        for value in x:
            yield from _numbers(value)
    elif isinstance(x, int | float):
        yield float(x)
