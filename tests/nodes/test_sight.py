"""What is around a robot, on topics: the simulation says it, and nothing is planned while it is not known."""

from __future__ import annotations

from geometry_msgs.msg import PoseStamped, TwistStamped
from rosgraph_msgs.msg import Clock
from stack import Stack
from std_msgs.msg import Float64MultiArray

from mbrl_control.nodes.convert import SECOND, to_ns
from mbrl_control.nodes.qos import NEWEST

SMALL = "-p mppi.samples:=4 -p mppi.horizon:=4 -p mppi.sigma:=0.12 -p mujoco.timestep:=0.01 -p mujoco.coriolis:=0.05"
PUSHING = {"robot": "panda_push", "task": "push", "model": "mujoco"}


def refused(stack: Stack, why: str) -> float:
    """How often nothing was planned for this reason, as the planner says once a second."""
    return float(stack.person.record.diagnostics.get("planner", {}).get(f"not planned: {why}", 0.0))


def test_plans_are_made_while_the_puck_is_seen_and_only_then(domain: int) -> None:
    extra = {"planner": f"{SMALL} -r puck/pose:=tracker/pose"}
    with Stack(domain, only=("sim", "planner"), extra=extra, **PUSHING) as stack:
        person, plans, places, speeds = stack.person, [], [], []
        person.create_subscription(Float64MultiArray, "planner/plan_packed", plans.append, 1)
        person.create_subscription(PoseStamped, "puck/pose", places.append, 1)
        person.create_subscription(TwistStamped, "puck/twist", speeds.append, 1)
        tracker = person.create_publisher(PoseStamped, "tracker/pose", 10)
        frame = {"id": ""}

        def track() -> None:
            """What the simulation shows, as a tracker would say it; in no frame: it sees nothing."""
            if frame["id"]:
                places[-1].header.frame_id = frame["id"]
                tracker.publish(places[-1])

        stack.until(lambda: places and speeds, "the puck in the simulation")
        at, moves = places[-1].pose.position, speeds[-1].twist.linear
        assert (at.x, at.y, at.z, places[-1].header.frame_id) == (0.5, 0.0, 0.03, "world")
        assert (moves.x, moves.y, moves.z) == (0.0, 0.0, 0.0)

        person.create_timer(0.02, track)
        stack.until(lambda: refused(stack, "no puck yet") > 0, "nothing planned without the puck")
        assert not plans
        frame["id"] = "camera"
        stack.until(lambda: any("block 'puck' in frame 'camera'" in line for line in stack.lines), "a wrong frame")
        assert not plans
        frame["id"] = "world"
        stack.until(lambda: len(plans) >= 5, "plans with the puck")
        frame["id"] = ""
        stack.until(lambda: refused(stack, "puck too old") > 0, "nothing planned with an old puck")
        made = len(plans)
        stack.during(0.5, lambda: len(plans) == made, "no plan without the puck")
        frame["id"] = "world"
        stack.until(lambda: len(plans) >= made + 5, "plans with the puck again")


def test_in_lock_step_every_plan_waits_for_the_puck_of_its_time(domain: int) -> None:
    extra = {"planner": SMALL}
    with Stack(domain, extra=extra, since_ns=0, use_sim_time="true", lockstep="true", **PUSHING) as stack:
        stamps = []
        stack.person.create_subscription(Clock, "/clock", lambda m: stamps.append(to_ns(m.clock) / SECOND), NEWEST)
        said = stack.person.record.diagnostics
        stack.until(lambda: stamps and stamps[-1] >= 1.0, "a second in lock-step", patience=60.0)
        stack.until(lambda: float(said.get("planner", {}).get("plans", 0)) >= 15, "plans told")
        assert not [key for key in said["planner"] if key.startswith("not planned")]
