"""The judge of torques can convict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rig import LIMITS

from mbrl_control.runtime.torque_judge import TorqueJudge

RATED = replace(LIMITS, torque_rate=np.full(7, 1000.0))
MOST = LIMITS.torque


def judged(*sent: tuple[int, np.ndarray], limits=RATED) -> TorqueJudge:
    judge = TorqueJudge(limits, 0.01)
    for tick, torque in sent:
        judge.see(tick, torque)
    return judge


def test_what_is_right_is_not_found_wrong() -> None:
    judge = judged((0, MOST * 0.0), (1, np.full(7, 10.0)), (3, np.full(7, -10.0)), (3, np.full(7, -10.0)))
    assert judge.violations == {}
    assert judge.worst == {"torque": pytest.approx(10.0 / 12.0), "torque rate": pytest.approx(1.0)}
    assert judge.commands == 4


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        ([(0, MOST * 1.001)], "torque of joint 1"),
        ([(0, MOST * 0.0), (1, np.eye(7)[4] * 10.1)], "torque rate of joint 5"),
        ([(0, MOST * 0.0), (5, np.eye(7)[2] * 50.2)], "torque rate of joint 3"),
    ],
)
def test_a_planted_violation_is_found(sent: list, what: str) -> None:
    judge = judged(*sent)
    assert judge.violations == {what: 1}
    assert what in judge.examples[0]


def test_what_was_braked_by_the_other_side_begins_anew() -> None:
    assert judged((0, MOST), (20, -MOST)).violations == {}
    judge = TorqueJudge(RATED, 0.01)
    judge.see(0, MOST)
    judge.forget()
    judge.see(1, -MOST)
    assert judge.violations == {}


def test_a_joint_without_a_motor_gets_none_and_rates_are_judged_where_there_are_some() -> None:
    limits = replace(LIMITS, torque=MOST * (np.arange(7) != 3))
    assert judged((0, limits.torque), (1, -limits.torque), limits=limits).violations == {}
    assert judged((0, np.eye(7)[3] * 0.1), limits=limits).violations == {"torque of joint 4": 1}


def test_not_finite_is_counted() -> None:
    judge = judged((0, MOST * np.nan), (1, MOST))
    assert (judge.nonfinite, judge.violations) == (1, {})
