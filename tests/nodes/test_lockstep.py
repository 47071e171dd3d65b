"""Lock-step: three processes, and yet the same commands to the last bit every time."""

from __future__ import annotations

import numpy as np
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from stack import Stack

from mbrl_control.nodes.convert import to_ns

ARM_AT = 1_000_000_000
"""The guard is armed while the simulation waits here [ns]."""
UNTIL = 3_500_000_000
DEPTH = QoSProfile(depth=1000)


def commands(domain: int, shuffled: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """What was commanded from arming to ``UNTIL``: times and positions."""
    extra = {
        "sim": f"-r controller/tick:=gate/tick -p shuffle_joint_order:={str(shuffled).lower()}",
        "planner": "-p goal:=[0.45,0.25,0.45]",
    }
    with Stack(domain, extra=extra, use_sim_time="true", lockstep="true", seed="3") as stack:
        person = stack.person
        gate = person.create_publisher(Clock, "gate/tick", DEPTH)
        state = {"now": 0, "open": False}

        def pass_on(message: Clock) -> None:
            """The simulation's permission to go on, withheld at ``ARM_AT`` until the guard is armed."""
            state["now"] = to_ns(message.clock)
            if state["open"] or state["now"] < ARM_AT:
                gate.publish(message)

        person.create_subscription(Clock, "controller/tick", pass_on, DEPTH)
        stack.until(lambda: state["now"] >= ARM_AT, "the time to arm", patience=60.0)
        answer = stack.ask("arm")
        assert answer.success, answer.message
        state["open"] = True
        stack.until(lambda: state["now"] >= UNTIL, "the end", patience=60.0)
        assert person.state == "ACTIVE"
        times, first = np.unique(np.round(person.record.command_t, 6), return_index=True)
        return times, np.array(person.record.q_ref)[first]


def test_the_same_commands_every_time_and_in_every_joint_order(domain: int) -> None:
    (times, once), (again_t, again), (shuffled_t, shuffled) = (
        commands((domain + 33 * i) % 100 + 1, shuffled=i == 2) for i in range(3)
    )
    times, again_t, shuffled_t = (t - t[0] for t in (times, again_t, shuffled_t))
    n = min(len(once), len(again), len(shuffled))
    assert n > 200
    assert np.abs(once[n - 1] - once[0]).max() > 0.1, "nothing moved"
    np.testing.assert_allclose(times[:n], again_t[:n], atol=1e-5)
    np.testing.assert_array_equal(once[:n], again[:n])
    np.testing.assert_array_equal(once[:n], shuffled[:n])
