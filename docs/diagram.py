"""The picture of processes and topics, ``processes.svg``, from one list of boxes and arrows.

``generate.py`` writes it; ``tests/nodes/test_graph.py`` compares the arrows with the ROS graph of the running stack.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 960, 552
LINE = 16
"""From one line of text to the next [px]."""
LONGEST = 26
"""Letters of a topic that fit between two boxes."""
PERSON = "person"
"""Stands for no process of ours: who gives goals and arms, by hand, through the viewer or as ``mbrl demo``."""


@dataclass(frozen=True)
class Box:
    """A process: its node's name, what is said of it, and where it is drawn."""

    node: str
    words: tuple[str, ...]
    x: int
    y: int
    width: int = 220
    height: int = 92
    fill: str = "#f3f5f8"


@dataclass(frozen=True)
class Arrow:
    """Topics, or services, from one process to another one; the way it is drawn, and where its words stand."""

    source: str
    target: str
    topics: tuple[str, ...]
    way: tuple[tuple[int, int], ...]
    words_at: tuple[int, int]
    anchor: str = "middle"
    services: tuple[str, ...] = ()
    words: str = ""
    """What is drawn where it is neither a topic nor a service."""


S, E = "start", "end"
REQUESTS = ("controller/arm", "controller/stop", "controller/reset")
BOXES = (
    Box("planner", ("20 Hz, any planner and model", "may be late, may die"), 370, 26),
    Box("sim", ("MuJoCo, 200 Hz", "or the driver of an arm"), 40, 228, width=180),
    Box("controller", ("the guard, 100 Hz", "alone commands the arm"), 370, 228, fill="#dcefe3"),
    Box(PERSON, ("gives goals, arms, stops;", "mbrl demo plays one"), 740, 228, width=180, fill="#ffffff"),
    Box("viewer", ("a page in the browser", "reads the guard's digest"), 370, 430),
)
ARROWS = (
    Arrow("sim", "planner", ("joint_states",), ((130, 228), (130, 90), (370, 90)), (250, 82)),
    Arrow("sim", "controller", ("joint_states",), ((220, 256), (370, 256)), (295, 248)),
    Arrow("controller", "sim", ("panda_arm_controller/joint_trajectory",), ((370, 292), (220, 292)), (295, 310)),
    Arrow("planner", "controller", ("planner/plan_packed",), ((440, 118), (440, 228)), (432, 178), E),
    Arrow("controller", "planner", ("controller/reference",), ((520, 228), (520, 118)), (528, 178), S),
    Arrow(PERSON, "planner", ("planner/goal_pose",), ((830, 228), (830, 90), (590, 90)), (710, 82)),
    Arrow("controller", PERSON, ("controller/state",), ((590, 256), (740, 256)), (665, 248)),
    Arrow(
        PERSON,
        "controller",
        ("controller/estop",),
        ((740, 292), (590, 292)),
        (665, 310),
        services=REQUESTS,
    ),
    Arrow("controller", "viewer", ("controller/state", "controller/digest"), ((440, 320), (440, 430)), (432, 370), E),
    Arrow("viewer", "controller", (), ((520, 430), (520, 320)), (528, 370), S, services=REQUESTS),
    Arrow("planner", "viewer", ("planner/plan",), ((370, 50), (16, 50), (16, 480), (370, 480)), (193, 472)),
    Arrow("viewer", "planner", ("planner/goal_pose",), ((590, 500), (944, 500), (944, 50), (590, 50)), (767, 492)),
    Arrow(PERSON, "viewer", (), ((830, 320), (830, 456), (590, 456)), (710, 448), words="browser, this machine only"),
)
WATCHED = {"controller/digest", "planner/plan"}
"""Heard by the viewer only while a page is open."""
UNDRAWN = {
    "/clock": "time, with use_sim_time only",
    "/diagnostics": "from all to the viewer and the demo",
    "/parameter_events": "rclpy's own",
    "/rosout": "rclpy's own",
}
"""Topics between two processes that the picture leaves out, and why."""
HEAD = f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" \
aria-label="Processes and the topics between them">
<style>
text {{ font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2a37 }}
.name {{ font-weight: 700; font-size: 15px }}
.topic {{ font: 11px ui-monospace, "DejaVu Sans Mono", monospace; fill: #344054 }}
.box {{ stroke: #475467; stroke-width: 1.4 }}
.arrow {{ fill: none; stroke: #475467; stroke-width: 1.4; marker-end: url(#head) }}
</style>
<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">\
<path d="M0,0 L10,5 L0,10 z" fill="#475467"/></marker></defs>
<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>
"""


def svg() -> str:
    """The whole picture."""
    boxes = (drawn for box in BOXES for drawn in box_drawn(box))
    return HEAD + "".join((*boxes, *map(arrow_drawn, ARROWS))) + "</svg>\n"


def box_drawn(box: Box) -> Iterator[str]:
    """A rectangle, the name in it, and its words below."""
    dashed = ' stroke-dasharray="5 4"' if box.node == PERSON else ""
    yield (
        f'<rect class="box" x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="6" '
        f'fill="{box.fill}"{dashed}/>\n'
    )
    yield text(box.x + box.width // 2, box.y + 30, (box.node,), "middle", "name")
    yield text(box.x + box.width // 2, box.y + 54, box.words, "middle", "")


def arrow_drawn(arrow: Arrow) -> str:
    """A line of straight parts with a head, and the names of its topics."""
    points = " ".join(f"{x},{y}" for x, y in arrow.way)
    return f'<polyline class="arrow" points="{points}"/>\n' + text(*arrow.words_at, shown(arrow), arrow.anchor, "topic")


def shown(arrow: Arrow) -> tuple[str, ...]:
    """Names as drawn: several of one node in two lines, and so is a long one."""
    names = arrow.topics + arrow.services or (arrow.words,)
    heads = {name.rpartition("/")[0] for name in names}
    if len(heads) > 1 or (len(names) == 1 and len(names[0]) <= LONGEST):
        return names
    return f"{heads.pop()}/", ", ".join(name.rpartition("/")[2] for name in names)


def text(x: int, y: int, lines: tuple[str, ...], anchor: str, kind: str) -> str:
    """Lines of text below each other."""
    attributes = f' class="{kind}"' if kind else ""
    return "".join(
        f'<text x="{x}" y="{y + i * LINE}" text-anchor="{anchor}"{attributes}>{escape(line)}</text>\n'
        for i, line in enumerate(lines)
    )
