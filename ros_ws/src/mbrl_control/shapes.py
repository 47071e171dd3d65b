"""What a robot and its world look like: the primitives of the MJCF as triangles on bodies, and where the bodies are.

MuJoCo reads the file (``mjcf.py``: with the robot's tool and payload) and does the kinematics, on data of our own;
nothing is simulated here. Meshes are left out: the worlds of this project have none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np

from mbrl_control import mjcf
from mbrl_control.core import Robot

Vertices = Annotated[np.ndarray, "n 3"]
Faces = Annotated[np.ndarray, "m 3"]
ROUND = 24
"""Sides of a circle."""
SHOWN_GROUPS = 3
"""MuJoCo's own viewer shows geoms of the groups 0 to 2; higher ones are for collisions, by custom."""
FRAMED = 2.3
"""Extents of the world from the eye to its middle: MuJoCo's own viewer takes 1.5, in pictures that are wider."""
UNSET = np.array([0.5, 0.5, 0.5, 1.0], dtype=np.float32)
"""The colour of a geom that has none of its own: its material's counts."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is of one colour on one body."""

    body: str
    colour: tuple[int, int, int]
    opacity: float
    vertices: Vertices
    """In the body's frame [m]."""
    faces: Faces
    """Counter-clockwise as seen from outside."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a body is, in the world."""

    position: Annotated[np.ndarray, "3"]
    wxyz: Annotated[np.ndarray, "4"]


@dataclass(frozen=True, slots=True)
class Outlook:
    """From where a world is looked at, and the floor that is seen."""

    camera: Annotated[np.ndarray, "3"]
    look_at: Annotated[np.ndarray, "3"]
    field_of_view: float
    """From below to above [rad]."""
    floor: Annotated[np.ndarray, "3"] = field(default_factory=lambda: np.zeros(3))
    """The middle of it."""
    size: tuple[float, float] = (4.0, 4.0)
    """Of the floor along x and y [m]."""
    follows: str = ""
    """The body that the eye goes along with; empty: it stays."""


class Figure:
    """A robot and what is around it as its MJCF draws them."""

    def __init__(self, robot: Robot) -> None:
        self._model: Any = mjcf.compiled(robot, mjcf.read(robot))
        self._data: Any = mjcf.mujoco().MjData(self._model)
        mjcf.reset(robot, self._model, self._data)
        self._at, _ = mjcf.addresses(self._model, robot)
        self._scene = mjcf.Scene(self._model, robot)
        self.parts, self.left_out = _parts(self._model)
        """What is drawn, and how many geoms are not, since they are no primitives."""
        self._bodies = {part.body: self._model.body(part.body).id for part in self.parts}

    def poses(
        self, q: Annotated[np.ndarray, "nj"], blocks: Mapping[str, Annotated[np.ndarray, "n"]] | None = None
    ) -> Mapping[str, Pose]:
        """Where the drawn bodies are with the joints at ``q`` and what is around the robot as ``blocks`` say.

        What no block says stays where it was.
        """
        self._data.qpos[self._at] = q
        self._scene.write(blocks or {}, self._data.qpos, self._data.qvel)
        mjcf.mujoco().mj_kinematics(self._model, self._data)
        return {
            name: Pose(self._data.xpos[body].copy(), self._data.xquat[body].copy())
            for name, body in self._bodies.items()
        }

    def outlook(self) -> Outlook:
        """As MuJoCo's own viewer begins, from farther away; along with the body that a camera of the file tracks."""
        model, kinds = self._model, mjcf.mujoco().mjtCamLight
        azimuth, elevation = np.radians([model.vis.global_.azimuth, model.vis.global_.elevation])
        ahead = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
        tracking = np.isin(model.cam_mode, [int(kinds.mjCAMLIGHT_TRACK), int(kinds.mjCAMLIGHT_TRACKCOM)])
        follows = [model.body(int(body)).name for body in model.cam_bodyid[tracking]]
        planes = np.flatnonzero(model.geom_type == int(mjcf.mujoco().mjtGeom.mjGEOM_PLANE))
        floor, size = np.zeros(3), (4.0, 4.0)
        if len(planes):
            lowest = planes[np.argmin(model.geom_pos[planes, 2])]
            floor, size = model.geom_pos[lowest].copy(), tuple(2.0 * model.geom_size[lowest, :2])
        return Outlook(
            camera=model.stat.center - FRAMED * model.stat.extent * ahead,
            look_at=model.stat.center.copy(),
            field_of_view=float(np.radians(model.vis.global_.fovy)),
            floor=floor,
            size=size,
            follows=follows[0] if follows else "",
        )


def _parts(model: Any) -> tuple[tuple[Part, ...], int]:
    """The drawn geoms, joined by body and colour, and how many could not be drawn."""
    kinds = mjcf.mujoco().mjtGeom
    shapes: dict[int, Callable[[np.ndarray], tuple[Vertices, Faces]]] = {
        int(kinds.mjGEOM_CAPSULE): lambda size: capsule(size[0], size[1]),
        int(kinds.mjGEOM_CYLINDER): lambda size: cylinder(size[0], size[1]),
        int(kinds.mjGEOM_SPHERE): lambda size: capsule(size[0], 0.0),
        int(kinds.mjGEOM_BOX): box,
    }
    grouped: dict[tuple[str, tuple[int, int, int, int]], list[tuple[Vertices, Faces]]] = {}
    left_out = 0
    for g in range(model.ngeom):
        colour, kind = _colour(model, g), int(model.geom_type[g])
        if model.geom_group[g] >= SHOWN_GROUPS or colour[3] == 0 or kind == int(kinds.mjGEOM_PLANE):
            continue  # a plane is the floor, which is drawn as a grid
        if kind not in shapes:
            left_out += 1
            continue
        vertices, faces = shapes[kind](model.geom_size[g])
        turn = np.zeros(9)
        mjcf.mujoco().mju_quat2Mat(turn, model.geom_quat[g])
        placed = vertices @ turn.reshape(3, 3).T + model.geom_pos[g]
        grouped.setdefault((model.body(int(model.geom_bodyid[g])).name, colour), []).append((placed, faces))
    parts = [
        Part(body, (red, green, blue), alpha / 255.0, *_joined(pieces))
        for (body, (red, green, blue, alpha)), pieces in grouped.items()
    ]
    return tuple(parts), left_out


def _colour(model: Any, g: int) -> tuple[int, int, int, int]:
    own, material = model.geom_rgba[g], model.geom_matid[g]
    rgba = model.mat_rgba[material] if material >= 0 and np.array_equal(own, UNSET) else own
    red, green, blue, alpha = (round(255.0 * float(part)) for part in rgba)
    return red, green, blue, alpha


def _joined(pieces: list[tuple[Vertices, Faces]]) -> tuple[Vertices, Faces]:
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in pieces[:-1])])
    faces = [faces + start for (_, faces), start in zip(pieces, starts, strict=True)]
    return np.concatenate([vertices for vertices, _ in pieces]), np.concatenate(faces)


def capsule(radius: float, half: float) -> tuple[Vertices, Faces]:
    """A cylinder along z with round ends, ``half`` as long as its straight part; a sphere if that is 0."""
    quarter = np.linspace(0.0, np.pi / 2, ROUND // 4 + 1)
    angle = np.concatenate([quarter - np.pi / 2, quarter])
    height = radius * np.sin(angle) + np.repeat([-half, half], len(quarter))
    profile = np.stack([radius * np.cos(angle), height], axis=-1)
    profile[[0, -1], 0] = 0.0  # the poles, exactly
    return _turned(profile)


def cylinder(radius: float, half: float) -> tuple[Vertices, Faces]:
    """A cylinder along z; its edges have vertices of their own on either side, so that they stay sharp."""
    strips = [[[0.0, -half], [radius, -half]], [[radius, -half], [radius, half]], [[radius, half], [0.0, half]]]
    return _joined([_turned(np.array(strip)) for strip in strips])


def box(half: Annotated[np.ndarray, "3"]) -> tuple[Vertices, Faces]:
    """A box with sharp edges."""
    square = np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], dtype=float)  # seen from +z
    turns = [np.roll(square, shift, axis=1) * sign for shift in range(3) for sign in (1.0, -1.0)]
    quads = np.array([[0, 1, 2], [0, 2, 3]])
    pieces = [
        (turn * half, quads if sign > 0 else quads[:, ::-1]) for turn, sign in zip(turns, [1, -1] * 3, strict=True)
    ]
    return _joined(pieces)


def _turned(profile: Annotated[np.ndarray, "k 2"]) -> tuple[Vertices, Faces]:
    """A profile of radii and heights, from below to above, turned about z."""
    turn = np.linspace(0.0, 2 * np.pi, ROUND, endpoint=False)
    radius, height = profile[:, :1], profile[:, 1:]
    rings = [radius * np.cos(turn), radius * np.sin(turn), height * np.ones(ROUND)]
    vertices = np.stack(rings, axis=-1).reshape(-1, 3)
    k, i = np.meshgrid(np.arange(len(profile) - 1), np.arange(ROUND), indexing="ij")
    here, beside = k * ROUND + i, k * ROUND + (i + 1) % ROUND
    lower = np.stack([here, beside, beside + ROUND], axis=-1)[profile[:-1, 0] > 0.0]
    upper = np.stack([here, beside + ROUND, here + ROUND], axis=-1)[profile[1:, 0] > 0.0]
    return vertices, np.concatenate([lower.reshape(-1, 3), upper.reshape(-1, 3)])
