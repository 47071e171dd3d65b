"""What was commanded before now, by the plans that were sent."""

import numpy as np

from mbrl_control.core import Mode, Plan
from mbrl_control.runtime.commanded import PLANS, Commanded

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
