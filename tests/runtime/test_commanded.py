"""What was commanded before now, by the plans that were sent."""

import numpy as np

from mbrl_control.core import Mode, Plan
from mbrl_control.runtime.commanded import PLANS, Commanded, Reference

DT = 0.05


def plan(t0, first):
    u = first + np.arange(4.0)[:, None] * [1.0, 10.0]
    q = np.zeros((5, 2))
    return Plan(t0, DT, Mode.VELOCITY_REFERENCE, q, q, u, None, t0, 0)


def test_each_plan_is_in_force_until_the_next_one_begins():
    commanded = Commanded(2)
    assert not commanded.before(1.0, DT, 3).any()
    commanded.sent(plan(1.0, 100.0))
    commanded.sent(plan(1.1, 200.0))
    found = commanded.before(1.2, DT, 5).reshape(5, 2)
    expected = [[0.0, 0.0], [100.0, 100.0], [101.0, 110.0], [200.0, 200.0], [201.0, 210.0]]
    np.testing.assert_array_equal(found, expected)


def test_after_the_end_of_the_last_plan_nothing_is_commanded():
    commanded = Commanded(2)
    commanded.sent(plan(1.0, 100.0))
    np.testing.assert_array_equal(commanded.at(1.19), [103.0, 130.0])
    assert not commanded.at(1.21).any()


def test_it_does_not_grow():
    commanded = Commanded(2)
    for k in range(10 * PLANS):
        commanded.sent(plan(k * DT, float(k)))
    assert commanded.at((10 * PLANS - PLANS) * DT)[0] == 10 * PLANS - PLANS
    assert not commanded.at(0.0).any()


def moving(t0, speed):
    """A plan that goes straight on at a speed from wherever its own zero is."""
    t = DT * np.arange(5.0)[:, None]
    q = speed * t * np.ones(2)
    return Plan(t0, DT, Mode.VELOCITY_REFERENCE, q, 0.0 * q + speed, 0.0 * q[1:] + speed, None, t0, 0)


def reference(t, active=True):
    return Reference(t, np.array([5.0, 6.0]), np.array([0.1, 0.2]), active)


def test_the_reference_is_carried_on_by_the_plans_that_are_in_force_until_then():
    commanded = Commanded(2)
    commanded.sent(moving(1.0, 1.0))
    q, v = commanded.carried(reference(1.02), 1.1)
    np.testing.assert_allclose(q, [5.08, 6.08])
    np.testing.assert_allclose(v, [0.1, 0.2], atol=1e-12)
    commanded.sent(moving(1.04, 3.0))
    q, v = commanded.carried(reference(1.02), 1.1)
    np.testing.assert_allclose(q, np.array([5.0, 6.0]) + 0.02 * 1.0 + 0.06 * 3.0)
    commanded.sent(moving(1.2, 7.0))  # has not begun by then
    np.testing.assert_allclose(commanded.carried(reference(1.02), 1.1)[0], q)


def test_a_reference_that_follows_nothing_stays():
    commanded = Commanded(2)
    for known in (reference(1.0), reference(1.0, active=False)):
        np.testing.assert_array_equal(commanded.carried(known, 1.05)[0], known.q)
    commanded.sent(moving(0.9, 1.0))
    at_rest = commanded.carried(reference(1.0, active=False), 1.05)
    np.testing.assert_array_equal(at_rest, [[5.0, 6.0], [0.0, 0.0]])
    over = commanded.carried(reference(1.0), 2.0)
    np.testing.assert_array_equal(over, [[5.0, 6.0], [0.1, 0.2]])
