"""The whole stack for a minute with the learned Panda: simulation, planner, guard, view and observer in real time, and
what it costs. Writes the table of docs/realtime.md; exit status 1 where it does not hold what it has to.

    .venv/bin/python benchmarks/soak.py                       60 s, on a machine with nothing else to do
    .venv/bin/python benchmarks/soak.py --seconds 600 --json soak.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from upper_bound import put

PAGE = Path(__file__).resolve().parents[1] / "docs" / "realtime.md"
COMMAND = ".venv/bin/python benchmarks/soak.py"
SETTLED, EVERY = 10.0, 1.0
"""Memory counts from so many seconds after the start, and is looked at so often."""
P99, GROWTH = 50.0, 0.05
"""Plans in the 99th percentile [ms], and the growth of memory over the run, that may be."""
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


def family(pid: int) -> Iterator[int]:
    """A process and all that it started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text(encoding="ascii").split():
            yield from family(int(child))


def usage(pid: int) -> tuple[int, float]:
    """Memory [bytes] and processor time [s] of a process and all that it started."""
    memory, ticks = 0, 0
    for one in family(pid):
        try:
            memory += int(Path(f"/proc/{one}/statm").read_text(encoding="ascii").split()[1]) * PAGE_SIZE
            fields = Path(f"/proc/{one}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        except OSError:  # it has ended
            continue
    return memory, ticks / os.sysconf("SC_CLK_TCK")


def run(seconds: float) -> dict[str, Any]:
    """The figures of one demo, with its memory and processor time."""
    with tempfile.TemporaryDirectory() as folder:
        out, memory, spent, begun = Path(folder) / "out.json", [], 0.0, time.monotonic()
        words = [f"--seconds={seconds}", f"--json={out}", f"--out={folder}"]
        demo = subprocess.Popen([sys.executable, "-m", "mbrl_control.cli", "demo", *words])
        while demo.poll() is None:
            time.sleep(EVERY)
            try:
                now, used = usage(demo.pid)
            except FileNotFoundError:
                break
            spent = max(spent, used)
            if SETTLED < time.monotonic() - begun < seconds:
                memory.append(now)
        if demo.wait() not in (0, 1) or not out.exists():
            raise SystemExit(f"mbrl demo {' '.join(words)}: exit status {demo.returncode}")
        figures = json.loads(out.read_text(encoding="utf-8"))
        report = json.loads(next(Path(folder).glob("*/report.json")).read_text(encoding="utf-8"))
    third = max(1, len(memory) // 3)
    first, last = (statistics.median(part) for part in (memory[:third], memory[-third:]))
    cores = spent / (time.monotonic() - begun)
    figures |= {name: report[name] for name in ("violations", "examples")}
    return {**figures, "memory_first_mb": first / 1e6, "memory_last_mb": last / 1e6, "cores": cores}


def broken(figures: Mapping[str, Any]) -> list[str]:
    """What does not hold, in words."""
    growth = figures["memory_last_mb"] / figures["memory_first_mb"] - 1.0
    checks = {
        f"plan p99 {figures['plan_ms_p99']:.1f} ms, at most {P99:g}": figures["plan_ms_p99"] < P99,
        f"{figures['handovers_missed']} hand-overs missed, none may be": figures["handovers_missed"] == 0,
        f"limit violations, none may be: {figures['violations']} {figures['examples']}": not figures["violations"],
        f"{figures['holds']} holds, none may be": figures["holds"] == 0,
        f"memory grew by {growth:.1%}, at most {GROWTH:.0%}": growth < GROWTH,
    }
    return [words for words, holds in checks.items() if not holds]


def table(figures: Mapping[str, Any]) -> str:
    rows = {
        "seconds, goals reached": f"{figures['seconds']:.0f}, {figures['goals_reached']} of {figures['goals_total']}",
        "plan: duration, median and 99th percentile (period 50 ms)": (
            f"{figures['plan_ms_p50']:.1f} ms, {figures['plan_ms_p99']:.1f} ms"
        ),
        "state to command, median and 99th percentile": (
            f"{figures['latency_ms_p50']:.0f} ms, {figures['latency_ms_p99']:.0f} ms"
        ),
        "hand-overs missed, holds, steps down": (
            f"{figures['handovers_missed']}, {figures['holds']}, {figures['steps_down']}"
        ),
        "tick: lateness, 99th percentile; ticks missed": (
            f"{figures['tick_late_ms_p99']:.2f} ms; {figures['tick_overruns']}"
        ),
        "limit violations": f"{figures['limit_violations']}",
        "memory of all processes, first and last third": (
            f"{figures['memory_first_mb']:.0f} MB, {figures['memory_last_mb']:.0f} MB"
        ),
        "processor time, cores": f"{figures['cores']:.2f}",
    }
    return "\n".join(["| figure | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default 60)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, and not to the page")
    args = parser.parse_args()
    figures = run(args.seconds)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    else:
        put(PAGE, COMMAND, "soak", table(figures))
    print(table(figures))
    for words in broken(figures):
        print(f"does not hold: {words}", file=sys.stderr)
    return int(bool(broken(figures)))


if __name__ == "__main__":
    raise SystemExit(main())
