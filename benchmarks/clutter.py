"""How often an arm gets round obstacles, and touches them: task ``clutter``, and ``reach`` on the same goals.

Contacts are MuJoCo's, of the arm's own shapes with anything, every 5 ms along the joints' path as it was; the distances
that the task plans with have no part in them. Prints the table of docs/obstacles.md.

    .venv/bin/python benchmarks/clutter.py [EPISODES]
"""

from __future__ import annotations

import sys

import mujoco
import numpy as np

from mbrl_control import evaluate, mjcf, registry
from mbrl_control.tasks.clutter import SETTINGS

ROBOT = "panda_clutter"
CASES = (("reach", "mppi"), ("clutter", "mppi"), ("clutter", "icem"), ("clutter", "cem"))
ITERATIONS = 3
FINE = 10


def contacts(robot, episodes) -> list[int]:
    """Of each episode, how many of the postures on its way touch something."""
    model = mjcf.compiled(robot, mjcf.read(robot))
    data, at = mujoco.MjData(model), mjcf.addresses(model, robot)[0]

    def touches(q) -> bool:
        data.qpos[at] = q
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        return any(contact.dist <= 0.0 for contact in data.contact[: data.ncon])

    share = np.linspace(0.0, 1.0, FINE, endpoint=False)[:, None]
    ways = [(a + share * (b - a) for a, b in zip(done.q, done.q[1:], strict=False)) for done in episodes]
    return [sum(touches(q) for part in way for q in part) for way in ways]


def main(count: int) -> None:
    print("| task | planner | goals met | after | episodes with a contact | nearest |")
    print("|---|---|---|---|---|---|")
    drawing = registry.make("tasks", "clutter", registry.make("robots", ROBOT))
    for task, planner in CASES:
        parts = evaluate.assemble(ROBOT, task, planner, "kinematic", SETTINGS)
        wanted = parts.task
        wanted.sample_goal, wanted.reset = drawing.sample_goal, drawing.reset
        done = [evaluate.run_episode(parts, seed, iterations=ITERATIONS) for seed in range(count)]
        touched = contacts(parts.robot, done)
        met = [one.met_at for one, touch in zip(done, touched, strict=True) if one.success and not touch]
        nearest = [drawing.clearance(np, {"q": one.q}).min() * 1e3 for one in done]
        after = f"{np.median(met):.1f} s ({min(met):.1f} to {max(met):.1f})" if met else "-"
        print(
            f"| `{task}` | `{planner}` | {len(met)} of {count} | {after} | {sum(t > 0 for t in touched)} | "
            f"{min(nearest):.0f} mm |",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
