"""Measures the table and the pictures of docs/performance.md by ``mbrl bench all --peers``, and writes them there.

    .venv/bin/python benchmarks/performance.py                  everything; about half an hour on two free cores
    .venv/bin/python benchmarks/performance.py --of all.json    of what was measured before

What is measured lies in runs/benchmark/performance.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from upper_bound import put

from mbrl_control.bench.plots import draw
from mbrl_control.bench.rows import table

ROOT = Path(__file__).resolve().parents[1]
PAGE, RESULT = ROOT / "docs" / "performance.md", ROOT / "runs" / "benchmark" / "performance.json"
COMMAND = ".venv/bin/python benchmarks/performance.py"
PICTURES = {
    "performance.png": "Time of a plan over samples, steps and networks: points measured, a line in proportion",
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


def words(facts: dict) -> str:
    """On what it was measured."""
    options, [*products] = facts["options"], facts["sgemm"]
    sgemm = ", ".join(f"{p['gflops'][p['library']]:.0f} GFLOP/s by {p['library']} on {p['threads']}" for p in products)
    return (
        f"{facts['machine']['cpu']}, {options['threads']} threads, {options['pairs']} rounds, {options['seeds']} seeds "
        f"of `loop`; its own matrix product: {sgemm} threads."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", type=Path, help="write what this file has, and measure nothing")
    given, more = parser.parse_known_args()
    facts = json.loads((given.of or measured(more)).read_text(encoding="utf-8"))
    drawn = [path.name for path in draw(facts, PAGE.parent)]
    shown = [f"![{words}]({name})" for name, words in PICTURES.items() if name in drawn]
    put(PAGE, COMMAND, "performance", "\n\n".join([words(facts), table(facts["rows"]), *shown]))


if __name__ == "__main__":
    main()
