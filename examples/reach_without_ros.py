"""A Panda reaches a point with MPPI and the guard's reference filter, in one process, without ROS.

    .venv/bin/python examples/reach_without_ros.py

The planner plans twenty times a second through the kinematic model; the reference filter follows its plans a
hundred times a second inside the limits; MuJoCo is not needed, the arm is taken to follow its reference.
"""

import numpy as np

from mbrl_control import Goal, Observation, State, make
from mbrl_control.runtime.reference import follow, seed

TICK, TICKS_A_PLAN, ITERATIONS = 0.01, 5, 3

robot = make("robots", "panda")
task = make("tasks", "reach", robot)
model = make("dynamics", "kinematic", robot)
planner = make("planners", "mppi", task, model)

rng = np.random.default_rng(0)
goal = Goal.still([0.45, 0.25, 0.45], planner.horizon, task.tolerance, task.dwell)
task.check_goal(goal.value[0])

tick = seed(0, robot.home)
carry = plan = None
while tick.index < 300:
    t, at = tick.index * TICK, tick.motion
    if tick.index % TICKS_A_PLAN == 0:
        reference = np.concatenate([at.q, at.v])
        obs = Observation(t, State(t, at.q, at.v), {"reference": reference}, {"reference": t})
        carry = planner.init(obs) if carry is None else carry
        for _ in range(ITERATIONS):
            carry, plan, info = planner.improve(obs, goal, planner.knobs(), carry, planner.noise(rng))
        if tick.index % 50 == 0:
            miss = np.linalg.norm(robot.tip(np, at.q) - goal.value[0])
            print(f"t {t:4.2f} s   distance {miss * 1e3:6.1f} mm   cost {info.cost:.4f}")
    tick = follow(tick, plan.at(t + TICK), robot.limits, TICK)

miss = np.linalg.norm(robot.tip(np, tick.motion.q) - goal.value[0])
print(f"reached within {miss * 1e3:.1f} mm")
raise SystemExit(0 if miss < task.tolerance else 1)
