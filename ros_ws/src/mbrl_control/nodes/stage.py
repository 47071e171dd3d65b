"""The stage of a page in the browser: sky and floor, a robot and what is around it, its tip's path, and a target.

The live page and the replay of recorded episodes draw on it, and so look alike. No ROS in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import viser

from mbrl_control.core import Robot
from mbrl_control.shapes import Figure, Outlook

SKY = ((214, 226, 238), (246, 248, 250))
"""The background, above and below."""
PATH_COLOURS = ((240, 140, 0), (255, 224, 178))
"""Of a path, at its beginning and at its end."""
SEEN = 5e-4
"""A ball that moved by less [m] is left where it is."""
NEAR = 2.65
"""An eye so far away [m] sees tip, target and path in their own size; one that is farther away, larger ones."""
CELLS = ((2.0, 0.1, 0.5), (np.inf, 0.5, 1.0))
"""Lines on the floor, fine and coarse [m], seen from up to so many times as far away."""


class Stage:
    """What is drawn. Its methods may be called from any thread."""

    def __init__(self, server: viser.ViserServer, robot: Robot, figure: Figure | None, outlook: Outlook) -> None:
        """Without a figure only the tip is drawn."""
        self._server, self._robot, self._figure, self._outlook = server, robot, figure, outlook
        self._scale = max(1.0, float(np.linalg.norm(outlook.camera - outlook.look_at)) / NEAR)
        self._aside = np.zeros(3)
        """How far the eye has gone along; everything is drawn so much back instead."""
        self._target_at = self._tip_at = np.asarray(robot.tip(np, robot.home), dtype=float)
        self._home = figure.poses(robot.home)[outlook.follows].position if figure and outlook.follows else None
        self._light()
        self._bodies: dict[str, viser.FrameHandle] = {}
        self._build()
        scene, scale, tip = server.scene, self._scale, self._tip_at
        self._tip = scene.add_icosphere("/tip", 0.012 * scale, color=(240, 140, 0), position=tip)
        nowhere = np.repeat(tip[None, None], 2, axis=1)
        self._path = scene.add_line_segments("/path", nowhere, PATH_COLOURS[0], thickness=0.006 * scale)
        self._target = scene.add_icosphere("/target", 0.022 * scale, color=(224, 49, 49), opacity=0.6, position=tip)
        self.show(robot.home)

    def _light(self) -> None:
        scene, camera, outlook = self._server.scene, self._server.initial_camera, self._outlook
        camera.position, camera.look_at, camera.fov = outlook.camera, outlook.look_at, outlook.field_of_view
        shades = np.linspace(*SKY, 256).astype(np.uint8)
        scene.set_background_image(np.repeat(shades[:, None], 4, axis=1), format="png")
        scene.world_axes.visible = False
        scene.configure_default_lights(cast_shadow=False)
        fine, coarse = next((fine, coarse) for scale, fine, coarse in CELLS if self._scale < scale)
        self._floor = scene.add_grid(
            "/floor",
            *outlook.size,
            cell_size=fine,
            section_size=coarse,
            cell_color=(222, 226, 230),
            section_color=(173, 181, 189),
            position=outlook.floor,
        )

    def _build(self) -> None:
        scene = self._server.scene
        for i, part in enumerate(self._figure.parts if self._figure else ()):
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

    def show(self, q: Annotated[np.ndarray, "nj"], blocks: Mapping[str, np.ndarray] | None = None) -> None:
        """The joints at ``q``, and what is around the robot where ``blocks`` say."""
        poses = self._figure.poses(q, blocks) if self._figure else {}
        self._tip_at = np.asarray(self._robot.tip(np, q), dtype=float)
        with self._server.atomic():
            if self._home is not None:
                self._go_along((poses[self._outlook.follows].position - self._home) * (1.0, 1.0, 0.0))
            for name, pose in poses.items():
                self._bodies[name].position, self._bodies[name].wxyz = pose.position - self._aside, pose.wxyz
            self._tip.position = self._tip_at - self._aside

    def _go_along(self, aside: Annotated[np.ndarray, "3"]) -> None:
        self._aside = aside
        self._floor.position = self._outlook.floor - aside
        self._path.position = -aside
        self._target.position = self._target_at - aside

    def show_path(self, points: Annotated[np.ndarray, "n 3"]) -> None:
        """A line through points, paler towards its end."""
        colours = np.linspace(*PATH_COLOURS, len(points)).astype(np.uint8)
        with self._server.atomic():
            if len(colours) != len(self._path.colors) + 1:
                self._path.colors = _segments(colours)
            self._path.points = _segments(points.astype(np.float32))

    def show_target(self, point: Annotated[np.ndarray, "3"] | None) -> None:
        """The ball: where the tip is to be; None: nowhere."""
        if self._target.visible != (point is not None):
            self._target.visible = point is not None
        if point is not None and np.abs(point - self._target_at).max() > SEEN:
            self._target_at = point
            self._target.position = point - self._aside


def _segments(points: Annotated[np.ndarray, "n 3"]) -> Annotated[np.ndarray, "n-1 2 3"]:
    return np.stack([points[:-1], points[1:]], axis=1)
