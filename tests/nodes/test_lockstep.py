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


def commands(domain: int, shuffled: bool = False) -> dict[int, np.ndarray]:
    """What was commanded from arming to ``UNTIL``: positions by tick."""
    extra = {
        "sim": f"-r controller/tick:=gate/tick -p shuffle_joint_order:={str(shuffled).lower()}",
        "planner": "-p goal:=[0.45,0.25,0.45]",
    }
    with Stack(domain, extra=extra, since_ns=0, use_sim_time="true", lockstep="true", seed="3") as stack:
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
        ticks = np.round(np.array(person.record.command_t) / 0.01).astype(int)
        return dict(zip(ticks.tolist(), person.record.q_ref, strict=True))


def test_the_same_commands_every_time_and_in_every_joint_order(domain: int) -> None:
    once, again, shuffled = (commands((domain + 33 * i) % 100 + 1, shuffled=i == 2) for i in range(3))
    ticks = sorted(once.keys() & again.keys() & shuffled.keys())  # a loaded observer may miss one
    assert len(ticks) > 200
    assert np.abs(once[ticks[-1]] - once[ticks[0]]).max() > 0.1, "nothing moved"
    for tick in ticks:
        np.testing.assert_array_equal(once[tick], again[tick], err_msg=f"at tick {tick}")
        np.testing.assert_array_equal(once[tick], shuffled[tick], err_msg=f"at tick {tick}, shuffled")
