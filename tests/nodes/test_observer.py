"""The observer of the demo, starved: commands that did not come are told, and are nobody's violation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from mbrl_control import registry
from mbrl_control.nodes.convert import to_time
from mbrl_control.nodes.observer import Observer

ROBOT = registry.make("robots", "panda")
KEPT = 100
"""Commands that wait for an observer that is not let run."""


@pytest.fixture
def context(domain: int) -> Iterator[rclpy.Context]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    yield context
    rclpy.shutdown(context=context)


def command(observer: Observer, k: int) -> JointTrajectory:
    """Standing still, ``k`` microradians from home: more than may lie between two commands in a row."""
    q = ROBOT.home + 1e-6 * k
    message = JointTrajectory(joint_names=ROBOT.joints)
    message.header.stamp = to_time(observer.get_clock().now().nanoseconds)
    still = np.zeros(ROBOT.nj).tolist()
    message.points = [JointTrajectoryPoint(positions=q.tolist(), velocities=still, accelerations=still)]
    return message


def test_commands_that_did_not_come_are_told_and_not_held_against_the_guard(context: rclpy.Context) -> None:
    observer = Observer(ROBOT, ROBOT.limits, context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(observer)
    sender = rclpy.create_node("sender", context=context)
    publisher = sender.create_publisher(JointTrajectory, ROBOT.sink.topic, 2 * KEPT)
    while not publisher.get_subscription_count():
        executor.spin_once(timeout_sec=0.05)

    def heard(count: int) -> None:
        while observer.judge.commands < count:
            executor.spin_once(timeout_sec=5.0)

    publisher.publish(command(observer, 0))
    heard(1)
    for _ in range(KEPT + 30):
        publisher.publish(command(observer, 20))
    heard(1 + KEPT)
    assert observer.record.unseen == 30
    assert observer.violations() == {}
    publisher.publish(command(observer, 40))
    heard(2 + KEPT)
    assert observer.record.unseen == 30
    assert observer.violations() == {"step of q across a splice": 1}
    sender.destroy_node()
    observer.destroy_node()
