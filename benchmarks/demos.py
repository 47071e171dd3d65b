"""Runs the demo with the learned and with the nominal model on the same simulated arm; writes the table of
README and docs/learning.md.

    .venv/bin/python benchmarks/demos.py          two times 45 s, on a machine with nothing else to do

Both meet the same goals and pushes: they are drawn from the seed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upper_bound import put

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "learning.md", ROOT / "README.md"
COMMAND = ".venv/bin/python benchmarks/demos.py"
MODELS = ("panda", "kinematic")
HEAD = [
    "| model | goals reached | tip off at the end of a goal: median, worst | limit violations | plan p50, p99 |",
    "|---|---|---|---|---|",
]


def run(model: str) -> Mapping[str, Any]:
    """The figures of one demo."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        words = [f"--model={model}", "--viewer=false", f"--json={out}", f"--out={folder}"]
        done = subprocess.run([sys.executable, "-m", "mbrl_control.cli", "demo", *words], check=False)
        if not out.exists():
            raise SystemExit(f"mbrl demo {' '.join(words)}: exit status {done.returncode}")
        return json.loads(out.read_text(encoding="utf-8"))


def row(figures: Mapping[str, Any]) -> str:
    reached = f"{figures['goals_reached']} of {figures['goals_total']}"
    off = f"{figures['miss_m'] * 1e3:.1f} mm, {figures['miss_worst_m'] * 1e3:.1f} mm"
    plan = f"{figures['plan_ms_p50']:.0f} ms, {figures['plan_ms_p99']:.0f} ms"
    return f"| `{figures['model']}` | {reached} | {off} | {figures['limit_violations']} | {plan} |"


def main() -> None:
    table = "\n".join([*HEAD, *(row(run(model)) for model in MODELS)])
    for page in PAGES:
        put(page, COMMAND, "demo", table)


if __name__ == "__main__":
    main()
