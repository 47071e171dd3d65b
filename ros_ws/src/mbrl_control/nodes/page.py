"""The page that a browser shows: a robot, its path and its goal in three dimensions, words and buttons beside it.

``door.py`` says who may come in, ``stage.py`` draws. No ROS in here: what a person does is handed on as it is.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import numpy as np
from viser import TransformControlsEvent

from mbrl_control.core import Robot
from mbrl_control.nodes.door import Doorkeeper, silence
from mbrl_control.nodes.stage import Stage
from mbrl_control.runtime.gate import Gate
from mbrl_control.shapes import Figure, Outlook

Button = Literal["arm", "stop", "reset"]
Phase = Literal["start", "update", "end"]
CAMERA, LOOK_AT, FIELD_OF_VIEW = (1.95, -1.75, 1.2), (0.2, 0.05, 0.36), math.radians(38.0)
RED, GREEN, GREY = (201, 42, 42), (43, 138, 62), (73, 80, 87)
PATH_POINTS = 24
LOUD_STOP = """\
<style>
button[style*="#c92a2a"] {height: 3.6em !important; font-size: 1.25em !important; letter-spacing: 0.08em}
</style>
"""


class Asks(Protocol):
    """Where a person's wishes go. Called on the server's own thread: it must not block."""

    def press(self, button: Button) -> None: ...

    def drag(self, phase: Phase, point: np.ndarray) -> None: ...


class Page:
    """What the browser shows. Its methods may be called from any thread."""

    def __init__(
        self,
        sock: socket.socket,
        gate: Gate,
        robot: Robot,
        figure: Figure | None,
        asks: Asks,
        *,
        draggable: bool = True,
    ) -> None:
        """``draggable``: the goal is a point, which a person may move."""
        self._door = Doorkeeper(gate, sock)
        self._server = self._door.serve(f"mbrl_control · {robot.name}")
        outlook = Outlook(np.array(CAMERA), np.array(LOOK_AT), FIELD_OF_VIEW)
        self._stage = Stage(self._server, robot, figure, outlook)
        self._goal = self._server.scene.add_transform_controls(
            "/goal",
            scale=0.18,
            line_width=3.5,
            disable_rotations=True,
            disable_sliders=True,
            depth_test=False,
            position=robot.tip(np, robot.home),
            visible=draggable,
        )
        self._robot = robot
        self._furnish(asks)

    @property
    def watched(self) -> bool:
        """Whether any page is open."""
        return self._door.pages > 0

    def _furnish(self, asks: Asks) -> None:
        gui = self._server.gui
        gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
        gui.main_panel.dock_right()
        gui.add_html(LOUD_STOP)
        self._texts = {"state": gui.add_html("")}
        stop = gui.add_button("STOP", color=RED, hint="the arm brakes at once; then RESET and ARM (key: Esc)")
        arm = gui.add_button("ARM", color=GREEN, hint="let the arm follow the plans")
        reset = gui.add_button("RESET", color=GREY, hint="after a stop: from FAULT to READY, no further")
        for name, handle in (("stop", stop), ("arm", arm), ("reset", reset)):
            handle.on_click(_calls(asks, name))
        gui.add_command("STOP", hotkey="escape").on_trigger(_calls(asks, "stop"))
        with gui.add_folder("goal"):
            self._texts["goal"] = gui.add_html("")
        with gui.add_folder("timing"):
            self._texts["figures"] = gui.add_html("")

        async def drag(event: TransformControlsEvent) -> None:
            asks.drag(event.phase, np.array(event.target.position, dtype=float))

        self._goal.on_update(drag)

    def show_arm(self, q: np.ndarray, blocks: Mapping[str, np.ndarray] | None = None) -> None:
        """The joints at ``q``, and what is around the robot where ``blocks`` of an observation say."""
        self._stage.show(q, blocks)

    def show_path(self, q: np.ndarray) -> None:
        """The tip along joint positions [n nj]."""
        points = np.asarray(self._robot.tip(np, q), dtype=float)
        at = np.linspace(0.0, len(points) - 1.0, PATH_POINTS)
        self._stage.show_path(np.stack([np.interp(at, np.arange(len(points)), column) for column in points.T], axis=-1))

    def show_goal(self, point: np.ndarray) -> None:
        """The arrows, by which a person moves the goal."""
        self._goal.position = point

    def show_target(self, point: np.ndarray) -> None:
        """The ball: where the tip is to be now."""
        self._stage.show_target(point)

    def show_text(self, **texts: str) -> None:
        """Replace the words of ``state``, ``goal`` or ``figures``."""
        for name, text in texts.items():
            if self._texts[name].content != text:
                self._texts[name].content = text

    def close(self) -> None:
        with silence():
            self._server.stop()


def _calls(asks: Asks, button: Any) -> Callable[[Any], Any]:
    async def pressed(_: object) -> None:  # async, so that it runs at once and not in a queue of threads
        asks.press(button)

    return pressed
