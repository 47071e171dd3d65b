"""Torques over real DDS: what is too weak to lift a rod swings it up, and everything that dies leaves it held."""

from __future__ import annotations

import os
import signal

import numpy as np
from stack import Stack

HIGH = 2.05
"""The tip is up from here on [m]; upright it is at 2.2, hanging at 0.2."""


def test_a_pendulum_is_swung_up_then_held_without_planner_then_braked_without_guard(domain: int) -> None:
    lean = {"planner": "-p mppi.samples:=64 -p sizing:=fixed"}
    with Stack(domain, robot="pendulum", task="swing_up", planner="mppi", model="analytic", extra=lean) as stack:
        person = stack.armed().person

        def high(ago: int = 1) -> bool:
            return all(float(stack.robot.tip(np, q)[2]) > HIGH for q in person.record.q[-ago:])

        stack.until(lambda: person.state == "ACTIVE" and high(200), "upright for a second", patience=40.0)
        stack.until(lambda: person.figure("controller", "torque_ticks") > 200, "torques counted")
        assert person.figure("controller", "rate_hz") == 200.0
        os.kill(stack.pid("planner"), signal.SIGKILL)
        stack.until(lambda: person.state == "HOLD", "hold")
        stack.during(1.0, high, "held upright without a planner")
        stack.clean()
        os.kill(stack.pid("controller"), signal.SIGKILL)
        stack.during(1.0, high, "braked upright without a guard")
        q = np.array(person.record.q[-50:])
        assert np.ptp(q) < 0.01, "it stands"
