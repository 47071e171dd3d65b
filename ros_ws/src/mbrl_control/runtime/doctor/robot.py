"""A running robot: are its joint states usable, and is its command topic ours alone and heard by the right sink?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mbrl_control.runtime.doctor import Check, Verdict
from mbrl_control.runtime.loop import STATE_TIMEOUT
from mbrl_control.runtime.safety import LEAST_RATE, MAX_SKEW

GUARD = "controller"
"""Name of the node that alone may command."""
SOME_SKEW = 0.05
"""Difference between stamps and our clock that is worth a word [s]."""
FAR_BELOW = 0.5
"""Share of the declared rate below which something is wrong with the driver."""


@dataclass(frozen=True)
class States:
    """What was heard on the topic of the joint states."""

    topic: str
    publishers: Sequence[str]
    """The nodes that offer it."""
    types: Sequence[str]
    """Types under which the topic is known."""
    count: int = 0
    rate: float = 0.0
    """Usable messages a second [Hz]."""
    longest_gap: float = 0.0
    """Between two usable ones [s]."""
    names: Sequence[str] = ()
    """The joints of the last message, in its order."""
    changing: bool = False
    """Whether the order changed from message to message."""
    drops: Mapping[str, int] = field(default_factory=dict)
    """Messages that the guard would not have used, by reason."""
    fault: str = ""
    """A joint that is missing or doubled, in the guard's words."""
    writers: int = 0
    """Publishers whose messages name our joints; 0: the middleware does not say."""
    skew: float = 0.0
    """Stamps minus our clock, in the middle [s]."""


@dataclass(frozen=True)
class CommandTopic:
    """Who is at the topic of the commands."""

    topic: str
    kind: str
    publishers: Sequence[str]
    subscribers: Sequence[str]
    types: Sequence[str]
    wanted_type: str


@dataclass(frozen=True)
class Parameters:
    """The driver's controller, asked for its parameters."""

    node: str
    values: Mapping[str, Any] | None
    """None: it did not answer."""
    mismatches: Sequence[str] = ()
    """What they say against commanding it."""


@dataclass(frozen=True)
class Live:
    """Everything that was seen of a robot."""

    robot: str
    domain: str
    seconds: float
    joints: Sequence[str]
    """What the driver is expected to call them."""
    declared_rate: float
    promise_class: str
    states: States
    command: CommandTopic
    parameters: Parameters
    clock: bool = False
    """Whether somebody publishes /clock."""


def checks(live: Live) -> list[Check]:
    """Verdicts on a running robot."""
    found = [heard(live)]
    if live.states.count or live.states.fault:
        found += [names(live), velocities(live)]
    if live.states.count:
        found += [rate(live), stamps(live)]
    if live.states.publishers:
        found.append(state_publishers(live))
    return [*found, command_publishers(live), sink(live), sink_parameters(live)]


def heard(live: Live) -> Check:
    s, name = live.states, live.states.topic
    if s.count:
        return Check(name, Verdict.OK, f"{s.rate:.0f} Hz, {len(s.names)} joints, from {_list(s.publishers)}")
    if s.fault or s.drops:
        reasons = ", ".join(f"{reason} {count} times" for reason, count in s.drops.items())
        return Check(name, Verdict.FAIL, f"nothing usable: {s.fault or reasons}", "see the lines below")
    if s.publishers:
        found = f"{_list(s.publishers)} offers it, and nothing came in {live.seconds:g} s"
        return Check(
            name, Verdict.FAIL, found, "see whether the driver runs and is not paused; see discovery and firewall"
        )
    change = f"start the driver in this domain: export ROS_DOMAIN_ID={live.domain}"
    other = f", or say where they are: wiring.state_topic in launch/{live.robot}.yaml"
    return Check(name, Verdict.FAIL, f"nobody publishes it in domain {live.domain}", change + other)


def names(live: Live) -> Check:
    s = live.states
    if s.fault:
        change = f"say what the driver calls them, in our order: wiring.joints in launch/{live.robot}.yaml; it says "
        return Check("joint names", Verdict.FAIL, s.fault, change + f"[{', '.join(s.names)}]")
    extra = [name for name in s.names if name not in live.joints]
    ours = [name for name in s.names if name in live.joints]
    parts = [f"all {len(live.joints)} there"]
    if s.changing:
        parts.append("their order changes from message to message (mapped by name)")
    elif ours != list(live.joints):
        parts.append("order differs from ours (mapped by name)")
    if extra:
        parts.append(f"others ignored: {_list(extra)}")
    return Check("joint names", Verdict.OK, ", ".join(parts))


def velocities(live: Live) -> Check:
    drops, name = live.states.drops, "joint states used"
    total = live.states.count + sum(drops.values())
    if not drops:
        return Check(name, Verdict.OK, f"all {total}: positions and velocities there and finite, stamps increasing")
    said = ", ".join(f"{reason} {count}" for reason, count in drops.items())
    found = f"{live.states.count} of {total}; dropped: {said}"
    changes = {
        "no velocity": "make the driver publish velocities (joint_state_broadcaster: the velocity state interface)",
        "not finite": "see why the driver publishes NaN: often a joint without encoder, or an interface not yet read",
        "repeated": "make the driver stamp every message anew, and publish each once",
        "out of order": "make the driver stamp with an increasing clock; see whether two publish (below)",
        "wrong size": "make the driver publish one position and one velocity for each name",
    }
    change = next((text for reason, text in changes.items() if reason in drops), "see what else publishes there")
    harmless = set(drops) == {"none of our joints"}
    verdict = Verdict.INFO if harmless else Verdict.WARN if live.states.count > sum(drops.values()) else Verdict.FAIL
    return Check(name, verdict, found, "" if harmless else change)


def rate(live: Live) -> Check:
    s, timeout = live.states, STATE_TIMEOUT[live.promise_class]
    least = max(LEAST_RATE, 1.0 / timeout)
    found = f"{s.rate:.0f} Hz (declared: {live.declared_rate:g}), longest gap {s.longest_gap * 1e3:.0f} ms; "
    found += f"the guard stops after {timeout * 1e3:.0f} ms without (class {live.promise_class})"
    name = "state rate"
    if s.rate < least:
        change = f"make the driver publish {least:g} times a second or more (joint_state_broadcaster: update_rate)"
        return Check(name, Verdict.FAIL, found, change)
    if s.longest_gap > timeout:
        change = "the guard would have stopped: see load, tick and network; a driver of its own priority helps"
        return Check(name, Verdict.FAIL, found, change)
    if s.rate < FAR_BELOW * live.declared_rate:
        change = f"see why the driver is slow, or whether '{live.robot}' is the robot that runs here"
        return Check(name, Verdict.WARN, found, change)
    return Check(name, Verdict.OK, found)


def stamps(live: Live) -> Check:
    skew, name = live.states.skew, "stamps"
    found = f"{skew * 1e3:+.1f} ms from our clock"
    if abs(skew) <= SOME_SKEW:
        return Check(name, Verdict.OK, found)
    if abs(skew) > MAX_SKEW and live.clock:
        change = "launch with use_sim_time:=true"
        return Check(
            name, Verdict.FAIL, "they follow /clock, a simulation's time: the guard would refuse to arm", change
        )
    change = "keep both machines on one clock: sudo timedatectl set-ntp true on each (or chrony, PTP)"
    if abs(skew) > MAX_SKEW:
        found = f"{skew:+.1f} s from our clock: the guard refuses to arm beyond {MAX_SKEW:g} s"
        return Check(name, Verdict.FAIL, found, change)
    return Check(name, Verdict.WARN, found, change)


def state_publishers(live: Live) -> Check:
    s, name = live.states, f"publishers of {live.states.topic}"
    if s.writers > 1 or (s.writers == 0 and len(s.publishers) > 1):
        found = f"{_list(s.publishers)}: the joint states of this arm come from more than one"
        return Check(name, Verdict.FAIL, found, "end all but the driver's: the guard refuses to arm")
    if len(s.publishers) > 1:
        return Check(name, Verdict.INFO, f"{_list(s.publishers)}; one of them speaks of our joints")
    return Check(name, Verdict.OK, f"one, {s.publishers[0]}")


def command_publishers(live: Live) -> Check:
    """Only the guard may command, and only one of it."""
    c = live.command
    name = f"publishers of {c.topic}"
    strangers = [node for node in c.publishers if node.rsplit("/", 1)[-1] != GUARD]
    if strangers:
        which = "a second publisher" if len(c.publishers) > 1 else "a publisher that is not the guard"
        return Check(name, Verdict.FAIL, f"{which}, {_list(strangers)}: refuse to arm", f"end {_list(strangers)}")
    if len(c.publishers) > 1:
        return Check(name, Verdict.FAIL, f"{len(c.publishers)} guards: refuse to arm", "end all launches but one")
    return Check(name, Verdict.OK, "the guard alone" if c.publishers else "none yet: the guard will be the only one")


def sink(live: Live) -> Check:
    c = live.command
    if c.types and list(c.types) != [c.wanted_type]:
        change = f"say what is there: wiring.sink and wiring.command_topic in launch/{live.robot}.yaml"
        return Check(
            "sink", Verdict.FAIL, f"{c.topic} is {_list(c.types)}; a {c.kind} sink has {c.wanted_type}", change
        )
    if not c.subscribers:
        change = (
            "load and activate the arm's controller (ros2 control load_controller --set-state active NAME), or say "
        )
        change += f"where it is: wiring.command_topic in launch/{live.robot}.yaml"
        return Check("sink", Verdict.FAIL, f"nobody listens to {c.topic}", change)
    return Check("sink", Verdict.OK, f"{_list(c.subscribers)} listens to {c.topic} ({c.kind})")


def sink_parameters(live: Live) -> Check:
    p, name = live.parameters, "sink's parameters"
    if p.values is None:
        found = f"{p.node} has no parameters to ask for: whether it interpolates from its desired state is not known"
        return Check(name, Verdict.INFO, found)
    if p.mismatches:
        wanted = "ros__parameters: {interpolate_from_desired_state: true}"
        yaml = f"in the driver's controllers.yaml, then start it again: {p.node.strip('/')}: {{{wanted}}}"
        change = (
            yaml if "interpolate" in " ".join(p.mismatches) else f"make them agree: launch/{live.robot}.yaml, wiring"
        )
        return Check(name, Verdict.FAIL, "; ".join(p.mismatches), change)
    said = ", ".join(
        f"{key} {_shown(value)}" for key, value in p.values.items() if value not in (None, ()) and key != "joints"
    )
    return Check(name, Verdict.OK, f"{p.node}: {said or 'joints as expected'}")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "nobody"


def live(found: Mapping[str, Any]) -> Live:
    """The facts, from JSON."""
    parts = {"states": States, "command": CommandTopic, "parameters": Parameters}
    return Live(**{name: parts[name](**value) if name in parts else value for name, value in found.items()})
