"""A push at the tip of a Panda on torques while it tracks, with and without feedback along the plan: docs/push.png.

    python benchmarks/push.py                     the table
    python benchmarks/push.py --plot docs/push.png --json push.json

The tip follows a circle (task track) by plans of iLQR through the equations of motion, in MuJoCo, at 200 torques a
second. 20 N act for 0.2 s, in six directions. Plans are made once, before the push, and last; or anew 20 times a second
from the measured joints. With feedback u + K (x - x_plan) is applied, without it u. Deviations are the tip's from where
the goal is.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mbrl_control import registry
from mbrl_control.core import Goal, Observation, Plan, State
from mbrl_sim.world import World

DT, HORIZON, TICK, PERIOD = 0.02, 120, 0.005, 0.05
START, FORCE, LASTS, WITHIN, SEEN = 0.8, 20.0, 0.2, 0.5, 1.5
"""The push: when [s], how strong [N], for how long [s], by when it is to be over [s], and how much is looked at [s]."""
RETURNED = 0.02
SETTLE = 40
DIRECTIONS = {"+x": (1, 0, 0), "-x": (-1, 0, 0), "+y": (0, 1, 0), "-y": (0, -1, 0), "+z": (0, 0, 1), "-z": (0, 0, -1)}


@dataclass(frozen=True)
class Case:
    """How the arm is controlled."""

    feedback: bool
    replanned: bool

    def __str__(self) -> str:
        plans = "planned 20 times a second" if self.replanned else "one plan"
        return f"{plans}, {'with' if self.feedback else 'without'} feedback"


class Tracking:
    """The arm on its circle."""

    def __init__(self) -> None:
        self.robot = registry.make("robots", "panda_torque")
        self.task = registry.make("tasks", "track", self.robot)
        model = registry.make("dynamics", "symbolic", self.robot, np, overrides={"dt": DT, "integrator": "euler"})
        self.planner = registry.make("planners", "ilqr", self.task, model, np, overrides={"dt": DT, "horizon": HORIZON})
        self.goal = self.task.sample_goal(np.random.default_rng(0))

    def played(self, case: Case, direction: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Times after the push began, and how far the tip was from its goal."""
        world = World(self.robot)
        steps, carry, plan = round(TICK * 1e9) // world.step_ns, None, None
        t, rows = 0.0, []
        while t < START + LASTS + SEEN - 1e-9:
            k = round(t / TICK)
            due = k == 0 or ((case.replanned or t < START) and k % round(PERIOD / TICK) == 0)
            sample = world.observe()
            if due:
                obs = Observation(t, State(t, sample.q, sample.v))
                wanted = Goal.ahead(self.task, self.goal, t + DT * np.arange(HORIZON + 1))
                carry = carry or self.planner.init(obs)
                for _ in range(SETTLE if k == 0 else 2):
                    carry, plan, info = self.planner.improve(obs, wanted, self.planner.knobs(), carry, {})
                assert not info.status, info.reason
            if k == round(START / TICK):
                world.push(FORCE * np.array(direction, dtype=float), LASTS)
            refused = world.command("effort", self._torque(plan, t, sample.q, sample.v, case.feedback))
            assert refused is None, refused
            world.step(steps)
            t = (k + 1) * TICK
            sample = world.observe()
            there = self.task.distance(Observation(t, State(t, sample.q, sample.v)), self._wanted(t))
            rows.append((t - START, there))
        return tuple(np.array(rows).T)

    def _wanted(self, t: float) -> np.ndarray:
        return self.task.course(self.goal, np.array([t]))[0]

    def _torque(self, plan: Plan, t: float, q: np.ndarray, v: np.ndarray, feedback: bool) -> np.ndarray:
        u = plan.at(t, q, v).u if feedback else plan.at(t).u
        bound = self.robot.channels.bound
        return self.robot.channels.coupling @ np.clip(u, -bound, bound)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, help="a picture of it")
    parser.add_argument("--json", type=Path, help="the figures")
    asked = parser.parse_args()
    tracking, curves, found = Tracking(), {}, []
    for case in [Case(feedback, replanned) for replanned in (False, True) for feedback in (True, False)]:
        curves[case] = {name: tracking.played(case, way) for name, way in DIRECTIONS.items()}
        after = [float(away[t >= LASTS + WITHIN - 1e-9][0]) for t, away in curves[case].values()]
        most = [float(away[(t >= 0.0)].max()) for t, away in curves[case].values()]
        found.append({"case": str(case), "most_mm": max(most) * 1e3, "after_mm": max(after) * 1e3})
        print(f"{case!s:50} at most {max(most) * 1e3:6.1f} mm   {WITHIN:g} s after the push {max(after) * 1e3:6.1f} mm")
    if asked.json:
        asked.json.write_text(json.dumps({"rows": found}, indent=1) + "\n")
    if asked.plot:
        draw(curves, asked.plot)
    held = {row["case"]: row["after_mm"] <= RETURNED * 1e3 for row in found}
    one, other = (held[str(Case(feedback, False))] for feedback in (True, False))
    return 0 if one and not other else 1


def draw(curves: dict, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, constrained_layout=True)
    for axis, replanned in zip(axes, (False, True), strict=True):
        for feedback, colour in ((True, "#1f77b4"), (False, "#d62728")):
            for i, (t, away) in enumerate(curves[Case(feedback, replanned)].values()):
                label = ("with" if feedback else "without") + " feedback" if i == 0 else None
                axis.plot(t, away * 1e3, color=colour, lw=1.2, alpha=0.8, label=label)
        axis.axvspan(0.0, LASTS, color="0.85", label=f"{FORCE:g} N at the tip")
        axis.axhline(RETURNED * 1e3, color="0.4", lw=0.8, ls=":")
        axis.axvline(LASTS + WITHIN, color="0.4", lw=0.8, ls=":")
        axis.set(title="planned 20 times a second" if replanned else "one plan, made before the push", xlabel="s")
        axis.set(ylim=(0.0, 150.0), xlim=(-0.3, LASTS + SEEN))
    axes[0].set_ylabel("tip to goal [mm]")
    axes[0].legend(loc="upper left", frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
