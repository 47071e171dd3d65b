"""What arms are made of and what stands around them: the same as in their worlds."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from mbrl_control import geometry, mjcf, registry
from mbrl_control.core import Box, HalfSpace

ROBOTS = {name: registry.make("robots", name) for name in registry.ours("robots")}
SOLID = list({robot.solids: name for name, robot in reversed(ROBOTS.items()) if robot.solids}.values())
"""One robot of each arm."""
CLUTTERED = [name for name, robot in ROBOTS.items() if robot.obstacles]
COVERED = 1e-3
"""How far the surface of a shape may stand out of the solids [m]."""


class Arm:
    """A robot and its world in the same posture."""

    def __init__(self, name):
        self.robot = ROBOTS[name]
        self.model = mjcf.compiled(self.robot, mjcf.read(self.robot))
        self.data = mujoco.MjData(self.model)
        self.at = mjcf.addresses(self.model, self.robot)[0]
        self.own = [i for i in range(self.model.ngeom) if self.collides(i) and self.model.geom_bodyid[i] != 0]

    def collides(self, geom):
        return bool(self.model.geom_contype[geom] or self.model.geom_conaffinity[geom])

    def put(self, q):
        self.data.qpos[self.at] = q
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_collision(self.model, self.data)

    def postures(self, count, seed=0):
        limits = self.robot.limits
        return np.random.default_rng(seed).uniform(limits.lower, limits.upper, (count, self.robot.nj))

    def surface(self, geom, count=400):
        """Points on a shape, in the world."""
        rng = np.random.default_rng(geom)
        kind, size = self.model.geom_type[geom], self.model.geom_size[geom]
        ball = rng.normal(size=(count, 3))
        ball /= np.linalg.norm(ball, axis=-1, keepdims=True)
        along = rng.uniform(-1.0, 1.0, (count, 1)) * [0.0, 0.0, size[1]]
        if kind == mujoco.mjtGeom.mjGEOM_BOX:
            local = np.sign(ball) * size
        elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
            local = ball * size[0] + np.sign(along) * [0.0, 0.0, size[1]]
        else:
            assert kind == mujoco.mjtGeom.mjGEOM_CYLINDER
            round_ = ball[:, :2] / np.linalg.norm(ball[:, :2], axis=-1, keepdims=True) * size[0]
            local = np.concatenate([round_, along[:, 2:]], axis=-1)
        return self.data.geom_xpos[geom] + local @ self.data.geom_xmat[geom].reshape(3, 3).T


@pytest.fixture(params=SOLID)
def arm(request):
    return Arm(request.param)


def test_solids_contain_all_of_the_arm_that_collides(arm):
    for q in arm.postures(4):
        arm.put(q)
        ends = arm.robot.ends(np, q)
        for geom in arm.own:
            points = tuple(arm.surface(geom).T)
            each = [
                geometry.segments(np, (points, points), end) - solid.radius
                for end, solid in zip(ends, arm.robot.solids, strict=True)
            ]
            assert np.min(each, axis=0).max() < COVERED, f"geom {geom} stands out"


def test_whatever_meets_in_the_world_is_kept_apart_and_overlaps_there(arm):
    """Contacts of the arm with itself, by MuJoCo, against our distances."""
    robot = arm.robot
    apart = geometry.to_itself(robot, 0.0)
    assert (apart(np, robot.ends(np, robot.home), robot.home[0]) > 0.02).all(), "at home"
    met = 0
    for q in arm.postures(800, seed=1):
        arm.put(q)
        owners = [
            {int(arm.model.geom_bodyid[g]) for g in (c.geom1, c.geom2)} for c in arm.data.contact[: arm.data.ncon]
        ]
        if any(0 not in pair for pair in owners):
            met += 1
            assert apart(np, robot.ends(np, q), q[0]).min() < COVERED
    assert met > 10


@pytest.mark.parametrize("name", CLUTTERED)
def test_obstacles_are_those_of_the_world(name):
    """All that an arm can touch which is no part of it, to the last digit, and nothing else."""
    arm = Arm(name)
    model, found = arm.model, {solid.name: solid for solid in arm.robot.obstacles}
    around = [i for i in range(model.ngeom) if model.geom_bodyid[i] == 0 and arm.collides(i)]
    assert [model.geom(i).name for i in around] == list(found)
    mujoco.mj_kinematics(model, arm.data)
    for i in around:
        solid, at = found[model.geom(i).name], arm.data.geom_xpos[i]
        axes, size = arm.data.geom_xmat[i].reshape(3, 3), model.geom_size[i]
        if isinstance(solid, HalfSpace):
            assert model.geom_type[i] == mujoco.mjtGeom.mjGEOM_PLANE
            np.testing.assert_allclose([*solid.normal, solid.height], [*axes[:, 2], at @ axes[:, 2]], atol=1e-12)
        elif isinstance(solid, Box):
            assert model.geom_type[i] == mujoco.mjtGeom.mjGEOM_BOX
            np.testing.assert_allclose([solid.half, solid.centre, *solid.axes], [size, at, *axes.T], atol=1e-12)
        else:
            assert model.geom_type[i] == mujoco.mjtGeom.mjGEOM_CAPSULE
            ends = np.array([at - size[1] * axes[:, 2], at + size[1] * axes[:, 2]])
            given = np.array([solid.start, solid.end])
            assert solid.radius == size[0]
            assert min(np.abs(ends - given).max(), np.abs(ends - given[::-1]).max()) < 1e-12
