"""What a benchmark says: rows, and the table and the JSON that are made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mbrl_control.bench.measuring import Times


@dataclass(frozen=True)
class Row:
    """The same work by us and by one peer, or by us alone."""

    kind: str
    work: str
    ours: Times
    peer: str | None = None
    """Name and version."""
    theirs: Times | None = None
    flops: int | None = None
    """Of the work, once."""
    sgemm: float | None = None
    """The machine's matrix product in the same run [FLOP/s]."""
    parity: float | None = None
    """Largest relative difference of what both compute of the same; None: nothing to be the same."""
    ours_return: float | None = None
    peer_return: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times longer the peer takes: peer_ms / ours_ms."""
        return None if self.theirs is None else self.theirs.ms / self.ours.ms

    @property
    def rate(self) -> float | None:
        """Of ours [FLOP/s]."""
        return None if self.flops is None else self.flops / self.ours.median

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        fraction = None if self.rate is None or self.sgemm is None else self.rate / self.sgemm
        found = {
            "kind": self.kind,
            "work": self.work,
            "ours_ms": self.ours.ms,
            "ours_range_ms": self.ours.range_ms,
            "peer": self.peer,
            "peer_ms": self.theirs.ms if self.theirs else None,
            "peer_range_ms": self.theirs.range_ms if self.theirs else None,
            "ratio": self.ratio,
            "gflop": None if self.flops is None else self.flops / 1e9,
            "gflops": None if self.rate is None else self.rate / 1e9,
            "sgemm_fraction": fraction,
            "parity": self.parity,
        }
        if self.ours_return is not None:
            found |= {"ours_return": self.ours_return, "peer_return": self.peer_return}
        return found | dict(self.more)


COLUMNS = ("work", "ours", "peer", "peer's", "ratio", "GFLOP/s", "of sgemm", "parity")


def cells(fact: Mapping[str, Any]) -> list[str]:
    """A row of the table, of a row of the JSON."""
    fraction = fact["sgemm_fraction"]
    returns = [fact.get(name) for name in ("ours_return", "peer_return")]
    ours, theirs = (f" (return {value:.1f})" if value is not None else "" for value in returns)
    if fact["kind"] == "ilqr":
        ours, theirs = (solved(fact, who) for who in ("ours", "peer"))
    return [
        fact["work"],
        spread(fact["ours_ms"], fact["ours_range_ms"]) + ours,
        fact["peer"] or "-",
        "-" if fact["peer_ms"] is None else spread(fact["peer_ms"], fact["peer_range_ms"]) + theirs,
        "-" if fact["ratio"] is None else number(fact["ratio"]),
        "-" if fact["gflops"] is None else number(fact["gflops"]),
        "-" if fraction is None else f"{100 * fraction:.0f} %",
        "-" if fact["parity"] is None else f"{fact['parity']:.0e}",
    ]


def solved(fact: Mapping[str, Any], who: str) -> str:
    """How many iterations of whom led to what cost."""
    many, cost = fact[f"iterations_{who}"], fact[f"cost_{who}"]
    return "" if many is None else f" ({many} iteration{'s' * (many > 1)} to {cost:.6g})"


def spread(middle: float, ends: Sequence[float]) -> str:
    """Median, least and greatest, in a unit that suits them."""
    factor, unit = (1e3, "us") if middle < 0.5 else (1e-3, "s") if middle >= 1e3 else (1.0, "ms")
    shown, low, high = (number(factor * value) for value in (middle, *ends))
    return f"{shown} {unit} ({low} to {high})"


def number(value: float) -> str:
    """Three digits, and no powers of ten."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def table(facts: Sequence[Mapping[str, Any]]) -> str:
    """All rows, in Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    return "\n".join(lines + ["| " + " | ".join(cells(fact)) + " |" for fact in facts])
