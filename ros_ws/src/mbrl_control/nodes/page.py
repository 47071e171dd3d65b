"""The page that a browser shows: a robot, its path and its goal in three dimensions, words and buttons beside it.

viser serves page and WebSocket from one port and takes no hook for who may come in, so ``serve_behind`` puts the
gate (``runtime/gate.py``) into the one call by which viser starts listening. No ROS in here: what a person does
is handed on as it is.
"""

from __future__ import annotations

import contextlib
import errno
import http
import io
import logging
import math
import socket
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

import numpy as np
import viser
import websockets.asyncio.server
from viser import TransformControlsEvent
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from mbrl_control.core import MbrlError, Robot
from mbrl_control.runtime.gate import SHIELD, Gate
from mbrl_control.shapes import Figure

Button = Literal["arm", "stop", "reset"]
Phase = Literal["start", "update", "end"]
PORTS_TRIED = 20
"""Where the wanted port is taken, the next free one of so many is used."""
LARGEST_MESSAGE = 65536
"""From a browser [bytes]."""
MOST_PAGES = 8
"""Pages that may be open at a time."""
CAMERA, LOOK_AT, FIELD_OF_VIEW = (1.95, -1.75, 1.2), (0.2, 0.05, 0.36), math.radians(38.0)
SKY = ((214, 226, 238), (246, 248, 250))
"""The background, above and below."""
RED, GREEN, GREY = (201, 42, 42), (43, 138, 62), (73, 80, 87)
PATH_COLOURS = np.array([[240, 140, 0], [255, 224, 178]])
"""Of the planned path, at its beginning and at its end."""
PATH_POINTS = 24
SEEN = 5e-4
"""A ball that moved by less [m] is left where it is."""
LOUD_STOP = """\
<style>
button[style*="#c92a2a"] {height: 3.6em !important; font-size: 1.25em !important; letter-spacing: 0.08em}
</style>
"""


class ViewError(MbrlError):
    """A view that cannot be served as asked."""


class Asks(Protocol):
    """Where a person's wishes go. Called on the server's own thread: it must not block."""

    def press(self, button: Button) -> None: ...

    def drag(self, phase: Phase, point: np.ndarray) -> None: ...


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to ``port``, or to the next free one; 0 takes any."""
    wanted = [0] if port == 0 else range(port, min(port + PORTS_TRIED, 65536))
    for number in wanted:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
            sock = socket.socket(family, kind, protocol)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(address)
                sock.listen()
            except OSError:
                sock.close()
                raise
            return sock
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ViewError(f"cannot listen on {host} port {number}: {error.strerror or error}") from None
    raise ViewError(f"cannot listen on {host}: the ports {wanted[0]} to {wanted[-1]} are all taken")


class _Server(viser.ViserServer):
    """viser's server without its public sharing: a page that can arm a robot is not for the world."""

    def request_share_url(self, verbose: bool = True) -> str | None:  # noqa: ARG002 - viser's own signature
        return None


class Doorkeeper:
    """Applies a gate to the requests of viser's server, and counts the pages that are open."""

    def __init__(self, gate: Gate, sock: socket.socket) -> None:
        self.gate, self.pages = gate, 0
        self._sock = sock
        self._log = logging.getLogger(f"{__name__}.websockets")
        self._log.setLevel(logging.CRITICAL)  # strangers who knock and go are no news

    def start(self, make: Callable[[], viser.ViserServer]) -> viser.ViserServer:
        """Make the server with its requests judged here from the first one on."""
        plain, started = websockets.asyncio.server.serve, []

        def serve(handler: Any, _host: str, _port: int, **options: Any) -> Any:
            started.append(True)
            options["process_request"] = self._judged(options["process_request"])
            options |= {"sock": self._sock, "max_size": LARGEST_MESSAGE, "logger": self._log}
            return plain(self._counted(handler), **options)

        websockets.asyncio.server.serve = serve
        try:
            server = make()
        finally:
            websockets.asyncio.server.serve = plain
        if not started:
            server.stop()
            raise ViewError(f"viser {viser.__version__} does not start its server as version 1.1 does: no view")
        return server

    def _judged(self, answer: Callable[[ServerConnection, Request], Response | None]) -> Callable[..., Response | None]:
        def judge(connection: ServerConnection, request: Request) -> Response | None:
            headers, websocket = request.headers, "Upgrade" in request.headers
            hosts, origins, cookies = (headers.get_all(name) for name in ("Host", "Origin", "Cookie"))
            verdict = self.gate.judge(request.path, hosts, origins, cookies, websocket)
            if verdict.kind == "redirect":
                response = connection.respond(http.HTTPStatus.SEE_OTHER, "")
                response.headers["Location"], response.headers["Set-Cookie"] = "/", verdict.cookie
            elif verdict.kind == "refuse":
                response = connection.respond(http.HTTPStatus.FORBIDDEN, f"refused: {verdict.why}\n")
            elif websocket and self.pages >= MOST_PAGES:
                response = connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many pages are open\n")
            else:
                response = answer(connection, request)
            if response is not None:
                for name, value in SHIELD:
                    response.headers[name] = value
            return response

        return judge

    def _counted(self, handler: Callable[[ServerConnection], Any]) -> Callable[[ServerConnection], Any]:
        async def handle(connection: ServerConnection) -> None:
            self.pages += 1
            try:
                await handler(connection)
            finally:
                self.pages -= 1

        return handle


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
        host, port = sock.getsockname()[:2]
        with silence():
            self._server = self._door.start(
                lambda: _Server(host, port, label=f"mbrl_control · {robot.name}", verbose=False)
            )
        self._figure = figure
        self._draw(robot, draggable)
        self._furnish(asks)

    @property
    def watched(self) -> bool:
        """Whether any page is open."""
        return self._door.pages > 0

    def _draw(self, robot: Robot, draggable: bool) -> None:
        server, scene = self._server, self._server.scene
        camera = server.initial_camera
        camera.position, camera.look_at, camera.fov = CAMERA, LOOK_AT, FIELD_OF_VIEW
        shades = np.linspace(*SKY, 256).astype(np.uint8)
        scene.set_background_image(np.repeat(shades[:, None], 4, axis=1), format="png")
        scene.world_axes.visible = False
        scene.configure_default_lights(cast_shadow=False)
        scene.add_grid(
            "/floor",
            4.0,
            4.0,
            cell_size=0.1,
            section_size=0.5,
            cell_color=(222, 226, 230),
            section_color=(173, 181, 189),
        )
        self._bodies = {}
        parts = self._figure.parts if self._figure else ()
        for i, part in enumerate(parts):
            name = f"/arm/{part.body}"
            if part.body not in self._bodies:
                self._bodies[part.body] = scene.add_frame(name, show_axes=False)
            scene.add_mesh_simple(
                f"{name}/{i}",
                part.vertices,
                part.faces,
                color=part.colour,
                opacity=None if part.opacity == 1.0 else part.opacity,
                cast_shadow=False,
                receive_shadow=False,
            )
        tip = np.asarray(robot.tip(np, robot.home), dtype=float)
        self._tip = scene.add_icosphere("/tip", 0.012, color=(240, 140, 0), position=tip)
        self._path = scene.add_line_segments(
            "/path", np.repeat(tip[None, None], 2, axis=1), (240, 140, 0), thickness=0.006
        )
        self._goal = scene.add_transform_controls(
            "/goal",
            scale=0.18,
            line_width=3.5,
            disable_rotations=True,
            disable_sliders=True,
            depth_test=False,
            position=tip,
            visible=draggable,
        )
        self._target = scene.add_icosphere("/target", 0.022, color=(224, 49, 49), opacity=0.6, position=tip)
        self._robot = robot
        self.show_arm(robot.home)

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

    def show_arm(self, q: np.ndarray) -> None:
        """The joints at ``q``."""
        with self._server.atomic():
            for name, pose in (self._figure.poses(q) if self._figure else {}).items():
                self._bodies[name].position, self._bodies[name].wxyz = pose.position, pose.wxyz
            self._tip.position = np.asarray(self._robot.tip(np, q), dtype=float)

    def show_path(self, q: np.ndarray) -> None:
        """The tip along joint positions [n nj]."""
        points = np.asarray(self._robot.tip(np, q), dtype=float)
        at = np.linspace(0.0, len(points) - 1.0, PATH_POINTS)
        line = np.stack([np.interp(at, np.arange(len(points)), column) for column in points.T], axis=-1)
        self._path.points = np.stack([line[:-1], line[1:]], axis=1).astype(np.float32)

    def show_goal(self, point: np.ndarray) -> None:
        """The arrows, by which a person moves the goal."""
        self._goal.position = point

    def show_target(self, point: np.ndarray) -> None:
        """The ball: where the tip is to be now."""
        if np.abs(point - self._target.position).max() > SEEN:
            self._target.position = point

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


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """viser greets and says goodbye on the standard output."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
