"""``Config`` dataclasses as ROS parameters: declared with ranges and descriptions, validated like everywhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from mbrl_control import registry
from mbrl_control.config import ConfigError, Param, build, nearest, params
from mbrl_control.core import MbrlError, Robot
from mbrl_control.wiring import PREFIX, Wiring, wired

T = TypeVar("T")
HUGE = 1e308
ROS_OWN = ("use_sim_time", "start_type_description_service")
QOS_PREFIX = "qos_overrides."


def descriptor(p: Param) -> ParameterDescriptor:
    """The ROS description of a parameter: text, unit, range, and whether it can change while running."""
    unit = f" [{p.unit}]" if p.unit else ""
    d = ParameterDescriptor(name=p.name, description=p.doc + unit, additional_constraints=p.accepts())
    d.dynamic_typing = True  # `speed: 1` is a number too; our own parser is stricter than the type
    d.read_only = not p.live
    bounded = p.low is not None or p.high is not None
    low, high = -HUGE if p.low is None else p.low, HUGE if p.high is None else p.high
    if p.type is float and bounded:
        d.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
    elif p.type is int and bounded:
        low, high = max(low, -(2**63)), min(high, 2**63 - 1)
        d.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return d


def declare(node: Node, config: type[T], prefix: str = "", settings: Mapping[str, Any] | None = None) -> T:
    """Declare every parameter of ``config`` (as ``prefix.name``) and read what was given for it.

    ``settings``, by full names, stand where nothing was given; those of other parts are passed over.
    """
    full = {name: f"{prefix}.{name}" if prefix else name for name in params(config)}
    values = {}
    for name, p in params(config).items():
        bare = ParameterDescriptor(name=full[name], dynamic_typing=True)
        default = (settings or {}).get(full[name], p.default)
        values[name] = node.declare_parameter(full[name], list(default) if p.type is tuple else default, bare).value
    built = build(config, values, where=f"{prefix}." if prefix else "")
    for name, p in params(config).items():  # ranges only now, so that our own message is the one that is read
        d = descriptor(p)
        d.name = full[name]
        node.set_descriptor(full[name], d)
    return built


def prefix_of(entry: registry.Entry) -> str:
    """Under which name the parameters of a part stand: ``reach`` for ``my_lab.reach`` too."""
    return entry.name.split(".")[-1]


def declare_part(
    node: Node, kind: str, name: str, settings: Mapping[str, Any] | None = None
) -> tuple[registry.Entry, Any]:
    """Declare a plugin's parameters under its name, as ``panda.payload``; the plugin and its ``Config`` as given."""
    entry = registry.load(kind, name)
    return entry, declare(node, entry.config, prefix_of(entry), settings)


def declare_robot(node: Node, name: str, connect: Callable[[Robot, Wiring], Robot] = wired) -> Robot:
    """Declare the parameters of a robot and of its wiring; the robot as it is connected here."""
    entry, config = declare_part(node, "robots", name)
    return connect(entry.make(config), declare(node, Wiring, PREFIX))


def refuse_unknown(node: Node) -> None:
    """Raise if a parameter was given that nothing declared; silence here is how wrong namespaces go unnoticed."""
    given: Mapping[str, Any] = node._parameter_overrides
    for name in given:
        if not node.has_parameter(name) and name not in ROS_OWN and not name.startswith(QOS_PREFIX):
            known = [known for known in node._parameters if known not in ROS_OWN]
            raise ConfigError(f"{node.get_name()}.{name}: no such parameter; {nearest(name, known)}")


def on_change(node: Node, configs: Mapping[str, type], apply: Callable[[dict[str, dict[str, Any]]], None]) -> None:
    """Let live parameters be set while running: all of one request are validated first, then applied together.

    ``configs`` by prefix; ``apply`` gets the changes by prefix and may refuse them with an ``MbrlError``.
    """
    declared = {
        f"{prefix}.{name}": (prefix, p) for prefix, config in configs.items() for name, p in params(config).items()
    }

    def change(changes: list[Parameter]) -> SetParametersResult:
        found: dict[str, dict[str, Any]] = {}
        try:
            for one in changes:
                if one.name in declared:
                    prefix, p = declared[one.name]
                    found.setdefault(prefix, {})[p.name] = p.parse(one.value)
            apply(found)
        except MbrlError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(change)
