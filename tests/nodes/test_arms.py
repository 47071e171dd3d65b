"""Every arm on the real stack: the launch file with another word, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from arms import ARMS
from stack import Stack

from mbrl_control import registry
from mbrl_control.runtime.judge import Dwell


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_is_launched_armed_and_reaches_a_goal(name: str, domain: int) -> None:
    with Stack(domain, robot=name) as stack:
        person, robot = stack.armed().person, stack.robot
        task = registry.make("tasks", "reach", robot)
        goal = task.sample_goal(np.random.default_rng(1))
        start = np.linalg.norm(robot.tip(np, person.record.q[-1]) - goal)
        assert start > 5 * task.tolerance, "the goal is where the tip is already"
        person.goal(*map(float, goal))
        reached = Dwell(task.tolerance, task.dwell)

        def there() -> bool:
            distance = float(np.linalg.norm(robot.tip(np, person.record.q[-1]) - goal))
            return reached.see(person.record.state_t[-1], distance)

        stack.until(there, f"{name} at its goal")
        assert person.state == "ACTIVE"
        assert robot.nj == person.record.q[-1].size == person.record.q_ref[-1].size
        stack.clean()
