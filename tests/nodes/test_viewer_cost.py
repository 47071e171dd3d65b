"""What a page that is open costs the guard: the lateness of its ticks with and without, in turns, in one run."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from stack import Stack
from test_viewer_node import ANY_PORT, link
from visitor import Visitor

ROUNDS, WINDOW = 4, 12.0
"""Turns of each kind, and how long one is [s]."""
MOST = 1.2
"""Of the figure without a viewer."""
BINS = {"without": signal.SIGUSR1, "with": signal.SIGUSR2, "between": signal.SIGHUP}
GUARD = f"""
import signal
from mbrl_control.nodes import controller, process
from mbrl_control.runtime.loop import Timings

def make():
    node = controller.ControllerNode()
    for number in {[int(number) for number in BINS.values()]}:
        bin = Timings()
        signal.signal(number, lambda *_, bin=bin: setattr(node.loop, "late", bin))
    return node

raise SystemExit(process.run(make, "controller"))
"""
"""The controller node as it is, but for its histogram of lateness: a signal says into which one it counts."""
GOALS = ((0.45, 0.25, 0.45), (0.45, -0.25, 0.5))


class Run:
    """The stack, and a figure of its guard for each bin."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.p50: dict[str, float] = {}
        self.p99: dict[str, float] = {}

    def count_into(self, name: str) -> None:
        os.kill(self.stack.pid("controller"), BINS[name])

    def window(self, name: str) -> None:
        """Let the arm go to and fro; the figures are those of every window of that name so far."""
        person = self.stack.person
        self.count_into(name)
        start = time.monotonic()
        while time.monotonic() - start < WINDOW:
            person.goal(*GOALS[int(2.0 * (time.monotonic() - start) / 3.0) % 2])
            self.stack.spin()
            if person.state in ("READY", "HOLD"):
                self.stack.armed()
        person.record.diagnostics.pop("controller", None)
        self.stack.until(lambda: "controller" in person.record.diagnostics, "the figures")
        self.p50[name], self.p99[name] = (person.figure("controller", f"late_ms_{p}") for p in ("p50", "p99"))
        self.count_into("between")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_page_that_is_open_does_not_delay_the_guard(domain: int, capsys: pytest.CaptureFixture[str]) -> None:
    with Stack(domain, only=("sim", "controller", "planner"), extra=ANY_PORT, viewer="true") as stack:
        stack.launchers["controller"].stop()
        spec = stack.specs["controller"]
        at = spec.argv.index("--ros-args")
        stack.specs["controller"] = replace(spec, argv=(sys.executable, "-c", GUARD, *spec.argv[at:]))
        stack.start("controller")
        stack.armed()
        run = Run(stack)
        run.count_into("between")
        read = 0
        for _ in range(ROUNDS):
            run.window("without")
            stack.lines.clear()
            stack.start("viewer")
            with Visitor(link(stack)) as visitor:
                stack.until(lambda visitor=visitor: "200 Hz" in visitor.words, "the page is filled", patience=60.0)
                before = visitor.messages
                run.window("with")
                read += visitor.messages - before
            stack.launchers.pop("viewer").stop()
    per_second = read / (ROUNDS * WINDOW)
    with capsys.disabled():
        print(f"\nlateness of the guard's tick, {ROUNDS} x {WINDOW:g} s of each in turns; {per_second:.0f} messages/s")
        for name in ("without", "with"):
            print(f"  {name:8} a page: p50 {run.p50[name]:.3f} ms, p99 {run.p99[name]:.3f} ms")
        print(f"  p99 with / without: {run.p99['with'] / run.p99['without']:.2f}")
    assert per_second > 100, "the page moved"
    assert np.isfinite(list(run.p99.values())).all()
    assert run.p99["with"] <= MOST * run.p99["without"]
