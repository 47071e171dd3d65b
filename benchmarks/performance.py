"""Measures the table of README and the table and pictures of docs/performance.md by ``mbrl bench all --peers``.

    .venv/bin/python benchmarks/performance.py                            everything; half an hour on two free cores
    .venv/bin/python benchmarks/performance.py --of plan.json loop.json    of what was measured before

Other arguments go to that command, as --pairs 3.

What is measured lies in runs/benchmark/performance.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from upper_bound import put

from mbrl_control.bench.plots import draw
from mbrl_control.bench.rows import table

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGE, RESULT = ROOT / "docs" / "performance.md", ROOT / "runs" / "benchmark" / "performance.json"
COMMAND = ".venv/bin/python benchmarks/performance.py"
PICTURES = {
    "performance.png": "Time of a plan over samples, steps and networks: points measured, a line in proportion",
    "ilqr.png": "Time of an iteration and of a solve of iLQR over the knots of a motion: ours and crocoddyl's",
    "pareto.png": "Return of an episode over the time of a plan: ours and mbrl-lib's agent",
}


def measured(more: list[str]) -> Path:
    """Everything, by the command that anybody would type."""
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mbrl_control.cli", "bench", "all", "--peers", "--json", str(RESULT), *more]
    status = subprocess.run(command).returncode
    if status:
        raise SystemExit(status)
    return RESULT


def together(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Several results as one; what a later one has measured as well is not told twice."""
    rows = {(row["work"], row["peer"]): row for facts in found for row in facts["rows"]}
    return {
        "rows": list(rows.values()),
        "curves": {letter: pairs for facts in found for letter, pairs in facts["curves"].items()},
        "points": next((facts["points"] for facts in reversed(found) if facts["points"]), []),
    }


def words(facts: dict[str, Any]) -> str:
    """On what it was measured, and how."""
    options = facts["options"]
    made = [counted(options["pairs"], "round")] * (facts["benchmark"] != "loop")
    made += [counted(options["seeds"], "seed") + " of `loop`"] * (facts["benchmark"] in ("loop", "all"))
    products = ", ".join(
        f"{each['gflops'][each['library']]:.0f} GFLOP/s by {each['library']} on {counted(each['threads'], 'thread')}"
        for each in facts["sgemm"]
    )
    threads = 1 if facts["benchmark"] == "ilqr" else options["threads"]
    on = ", ".join([facts["machine"]["cpu"], counted(threads, "thread"), *made])
    return f"`{facts['benchmark']}`: {on}{'; its own matrix product: ' * bool(products)}{products}."


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count > 1)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", type=Path, nargs="+", help="write what these files have, and measure nothing")
    given, more = parser.parse_known_args()
    found = [json.loads(path.read_text(encoding="utf-8")) for path in given.of or [measured(more)]]
    facts = together(found)
    drawn = [path.name for path in draw(facts, PAGE.parent)]
    shown = [f"![{caption}]({name})" for name, caption in PICTURES.items() if name in drawn]
    told = "\n".join(f"* {words(each)}" for each in found)
    put(PAGE, COMMAND, "performance", "\n\n".join([told, table(facts["rows"]), *shown]))
    put(README, COMMAND, "performance", table(facts["rows"]))


if __name__ == "__main__":
    main()
