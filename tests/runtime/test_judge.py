"""The judge must be able to convict: every kind of violation, planted into commands that are otherwise clean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from rig import HOME, LIMITS

from mbrl_control.runtime.judge import Dwell, Judge, Sent

TICK = 0.01


def motion(t: np.ndarray, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A sine of 0.2 rad at 0.5 Hz about home, at rest at t = 0 but for its acceleration's jump, which is faded in."""
    w = 3.0
    fade = 1.0 - np.exp(-((t / 0.5) ** 4))
    h = 1e-4

    def q(at: np.ndarray) -> np.ndarray:
        return HOME + scale * 0.2 * ((1.0 - np.exp(-((at / 0.5) ** 4))) * (1.0 - np.cos(w * at)))[:, None]

    assert fade[0] == 0.0 or t[0] > 0.0
    return q(t), (q(t + h) - q(t - h)) / (2 * h), (q(t + h) - 2 * q(t) + q(t - h)) / h**2


def commands(scale: float = 1.0) -> list[Sent]:
    """What a guard would send over two seconds: four ticks and a stop far away, smooth enough for this purpose."""
    sent = []
    for k in range(200):
        t = (k + np.arange(5)) * TICK
        q, v, a = motion(t, scale)
        v[-1], a[-1] = 0.0, 0.0
        t[-1] += 1.0
        sent.append(Sent(float(t[0]), t, q, v, a))
    first = sent[0]
    sent[0] = replace(
        first, v=np.concatenate([first.v[:1] * 0, first.v[1:]]), a=np.concatenate([first.a[:1] * 0, first.a[1:]])
    )
    return sent


def judged(sent: list[Sent]) -> Judge:
    judge = Judge(LIMITS)
    for one in sent:
        judge.see(one)
    return judge


def test_clean_commands_are_clean() -> None:
    judge = judged(commands())
    assert judge.violations == {}
    assert 0.1 < judge.worst["v"] < 1.0


def stretched(sent: Sent, name: str, by: float) -> Sent:
    return replace(sent, **{name: getattr(sent, name) + by * np.eye(7)[2]})


PLANTED: dict[str, Callable[[list[Sent]], list[Sent]]] = {
    "step of q across a splice": lambda s: [*s[:100], *(stretched(x, "q", 1e-5) for x in s[100:])],
    "step of v across a splice": lambda s: [*s[:100], *(stretched(x, "v", 1e-3) for x in s[100:])],
    "velocity of joint": lambda s: commands(12.0),
    "acceleration of joint": lambda s: [replace(x, a=np.where(np.arange(5)[:, None] == 1, 30.0, x.a)) for x in s],
    "jerk of joint": lambda s: [
        replace(x, a=x.a + (80.0 if i % 2 else -80.0) * (np.arange(5)[:, None] == 1)) for i, x in enumerate(s)
    ],
    "position of joint": lambda s: [replace(x, q=x.q + np.eye(7)[3] * 2.28) for x in s],
    "no stop at the end": lambda s: [stretched(x, "v", 0.1) for x in s[:1]],
    "times do not increase": lambda s: [replace(s[0], t=s[0].t[::-1].copy())],
    "starts in motion": lambda s: s[100:],
}


@pytest.mark.parametrize("crime", PLANTED)
def test_a_planted_violation_is_found(crime: str) -> None:
    judge = judged(PLANTED[crime](commands()))
    assert any(found.startswith(crime) for found in judge.violations), judge.violations
    assert judge.examples


def test_what_is_not_finite_is_counted() -> None:
    sent = commands()[:3]
    assert judged([sent[0], replace(sent[1], q=sent[1].q * np.nan), sent[2]]).nonfinite == 1


def test_a_silent_guard_is_judged_by_its_tail() -> None:
    """Nothing sent for 0.5 s: the sink follows the tail, and going on where the plan would be is a step."""
    sent = commands()
    judge = judged([*sent[:100], *sent[150:]])
    assert any("splice" in found for found in judge.violations)


def test_what_was_not_seen_is_not_judged_and_what_follows_is() -> None:
    """The same commands are missing, but here they were sent: no step, not a start in motion, limits as before."""
    sent = commands()
    judge = Judge(LIMITS)
    for command in sent[:100]:
        judge.see(command)
    judge.skip()
    for command in sent[150:180]:
        judge.see(command)
    assert not judge.violations
    for command in sent[180:]:
        judge.see(stretched(command, "q", 1e-5))
    assert [what for what in judge.violations if "splice" in what]


def test_a_goal_is_reached_after_dwelling() -> None:
    goal = Dwell(0.02, 0.3)
    for t, d, reached in [
        (0.0, 0.01, False),
        (0.2, 0.03, False),
        (0.3, 0.01, False),
        (0.59, 0.0, False),
        (0.6, 0.0, True),
        (0.7, 9.0, True),
    ]:
        assert goal.see(t, d) is reached
    assert goal.reached_at == 0.6
    assert not Dwell(0.02, 0.3).see(0.0, float("nan"))
