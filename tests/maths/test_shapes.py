"""What is drawn is what MuJoCo has: volumes in closed form, every vertex on its geom, bodies where the tip says."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import pytest

from mbrl_control import mjcf, registry, shapes

ROBOTS = registry.ours("robots")
POLYGON = shapes.ROUND / (2 * np.pi) * np.sin(2 * np.pi / shapes.ROUND)
"""Area of the polygon that stands for a circle, against the circle's."""


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """By the divergence theorem: right only if the surface is closed and every face looks outwards."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float(np.sum(a * np.cross(b, c)) / 6.0)


def test_a_cylinder_has_its_volume() -> None:
    assert volume(*shapes.cylinder(0.1, 0.3)) == pytest.approx(np.pi * 0.01 * 0.6 * POLYGON)


def test_a_box_has_its_volume() -> None:
    assert volume(*shapes.box(np.array([0.1, 0.2, 0.3]))) == pytest.approx(0.048)


@pytest.mark.parametrize("half", [0.0, 0.2])
def test_a_capsule_has_almost_its_volume_and_a_sphere_is_a_short_one(half: float) -> None:
    exact = np.pi * 0.01 * 2 * half + 4 / 3 * np.pi * 0.001
    assert volume(*shapes.capsule(0.1, half)) == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("shape", [shapes.capsule(0.1, 0.2), shapes.cylinder(0.1, 0.2)])
def test_every_edge_that_is_shared_is_shared_by_two_faces_the_other_way_round(shape: tuple) -> None:
    vertices, faces = shape
    _, same = np.unique(np.round(vertices, 9), axis=0, return_inverse=True)
    faces = same.reshape(-1)[faces]
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    edges = {(int(f[i]), int(f[(i + 1) % 3])) for f in faces for i in range(3)}
    assert len(edges) == 3 * len(faces)
    assert all((b, a) in edges for a, b in edges)


def off_surface(kind: int, size: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Distance of points in a geom's frame to its surface; for cylinders and boxes of points at their edges."""
    if kind in (mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_SPHERE):
        half = size[1] if kind == mujoco.mjtGeom.mjGEOM_CAPSULE else 0.0
        nearest = np.zeros_like(points)
        nearest[:, 2] = np.clip(points[:, 2], -half, half)
        return np.abs(np.linalg.norm(points - nearest, axis=1) - size[0])
    if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        radius = np.linalg.norm(points[:, :2], axis=1)
        return np.abs(np.abs(points[:, 2]) - size[1]) + np.minimum(np.abs(radius - size[0]), radius)
    return np.abs(np.abs(points) - size).max(axis=1)


@pytest.mark.parametrize("name", ROBOTS)
def test_every_vertex_lies_on_a_geom_of_its_body(name: str) -> None:
    robot = registry.make("robots", name)
    model = mjcf.compiled(robot, mjcf.read(robot))
    figure = shapes.Figure(robot)
    assert figure.parts
    assert figure.left_out == 0
    for part in figure.parts:
        body = model.body(part.body)
        off = np.full(len(part.vertices), np.inf)
        for g in range(body.geomadr[0], body.geomadr[0] + body.geomnum[0]):
            turn = np.zeros(9)
            mujoco.mju_quat2Mat(turn, model.geom_quat[g])
            local = (part.vertices - model.geom_pos[g]) @ turn.reshape(3, 3)
            off = np.minimum(off, off_surface(int(model.geom_type[g]), model.geom_size[g], local))
        assert off.max() < 1e-6, part.body


@pytest.mark.parametrize("name", ROBOTS)
def test_the_tip_is_where_its_body_is(name: str) -> None:
    robot = registry.make("robots", name)
    model = mjcf.compiled(robot, mjcf.read(robot))
    offset = model.site("tip").pos
    figure, rng = shapes.Figure(robot), np.random.default_rng(0)
    for _ in range(5):
        q = robot.home + rng.uniform(-0.3, 0.3, robot.nj)
        pose = figure.poses(q)[robot.tip_body]
        turn = np.zeros(9)
        mujoco.mju_quat2Mat(turn, pose.wxyz)
        np.testing.assert_allclose(pose.position + turn.reshape(3, 3) @ offset, robot.tip(np, q), atol=1e-6)


def test_what_is_mounted_is_drawn_and_what_is_no_primitive_is_counted() -> None:
    robot = registry.make("robots", "panda")

    def mount(spec) -> None:
        robot.mount(spec)
        hand = spec.body("hand")
        hand.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.1, 0.1, 0.1], rgba=[1, 0, 0, 0.5])
        hand.add_geom(type=mujoco.mjtGeom.mjGEOM_ELLIPSOID, size=[0.1, 0.1, 0.1])
        hand.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.1, 0.1, 0.1], group=3)

    plain, mounted = shapes.Figure(robot), shapes.Figure(replace(robot, mount=mount))
    (more,) = [part for part in mounted.parts if part.colour == (255, 0, 0)]
    assert (more.body, more.opacity) == ("hand", pytest.approx(0.5, abs=0.01))
    assert len(mounted.parts) == len(plain.parts) + 1
    assert mounted.left_out == 1


def test_the_colours_are_those_of_the_world() -> None:
    colours = {part.colour for part in shapes.Figure(registry.make("robots", "panda")).parts}
    assert (240, 242, 245) in colours, "the material 'white'"


def test_what_is_around_the_robot_is_where_its_block_says_and_stays_there() -> None:
    robot = registry.make("robots", "pusher")
    figure, at = shapes.Figure(robot), np.array([0.3, 0.1, -0.275])
    before = figure.poses(robot.home)["object"].position
    assert np.linalg.norm(before - at) > 0.1
    seen = {"object": at, "object_velocity": np.ones(3)}
    np.testing.assert_allclose(figure.poses(robot.home, seen)["object"].position, at, atol=1e-12)
    np.testing.assert_allclose(figure.poses(robot.home + 0.1)["object"].position, at, atol=1e-12)


@pytest.mark.parametrize("name", ROBOTS)
def test_the_whole_robot_at_home_is_in_the_picture(name: str) -> None:
    """Every vertex, of a picture that is as wide as it is high."""
    robot = registry.make("robots", name)
    figure = shapes.Figure(robot)
    outlook, poses = figure.outlook(), figure.poses(robot.home)
    ahead = (outlook.look_at - outlook.camera) / np.linalg.norm(outlook.look_at - outlook.camera)
    right = np.cross(ahead, [0.0, 0.0, 1.0]) / np.linalg.norm(np.cross(ahead, [0.0, 0.0, 1.0]))
    for part in figure.parts:
        turn = np.zeros(9)
        mujoco.mju_quat2Mat(turn, poses[part.body].wxyz)
        seen = poses[part.body].position + part.vertices @ turn.reshape(3, 3).T - outlook.camera
        depth, half = seen @ ahead, np.tan(outlook.field_of_view / 2.0)
        assert depth.min() > 0.2
        assert np.abs(seen @ right / depth).max() < half, part.body
        assert np.abs(seen @ np.cross(right, ahead) / depth).max() < half, part.body


def test_the_eye_goes_along_with_a_runner_and_stays_with_an_arm() -> None:
    outlooks = {name: shapes.Figure(registry.make("robots", name)).outlook() for name in ("half_cheetah", "pusher")}
    assert {name: outlook.follows for name, outlook in outlooks.items()} == {"half_cheetah": "torso", "pusher": ""}
    assert outlooks["pusher"].floor.tolist() == [0.0, 0.5, -0.325]
