"""The page as a person uses it: real stack, real browser, real mouse."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from stack import Stack

from mbrl_control.nodes.page import CAMERA, FIELD_OF_VIEW, LOOK_AT

LOOK_EVERY = 0.2
"""A browser that is asked all the time has none left to draw [s]."""
UP = 0.12
"""How far the goal is pulled [m]."""
HANDLE = 0.1
"""A point of the arrow by which it is pulled, from its root [m]."""


class Person:
    """Eyes and a hand at the browser, while the stack goes on."""

    def __init__(self, stack: Stack, browser: Browser) -> None:
        self.stack, self.browser = stack, browser

    def reads(self, *words: str) -> None:
        look_at = 0.0

        def there() -> bool:
            nonlocal look_at
            if time.monotonic() < look_at:
                return False
            look_at = time.monotonic() + LOOK_EVERY
            text = self.browser.text()
            return all(word in text for word in words)

        self.stack.until(there, f"the page says {words}", patience=40.0)

    def presses(self, button: str) -> None:
        self.browser.click(*self.browser.middle("button", button))

    def pixel(self, point: np.ndarray) -> tuple[float, float]:
        """Where a point of the world is seen, before anybody turned the camera."""
        x, y, width, height = self.browser.evaluate(
            "(r => [r.x, r.y, r.width, r.height])(document.querySelector('canvas').getBoundingClientRect())"
        )
        ahead = np.subtract(LOOK_AT, CAMERA) / np.linalg.norm(np.subtract(LOOK_AT, CAMERA))
        right = np.cross(ahead, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        seen = point - np.array(CAMERA)
        scale = 0.5 * height / np.tan(FIELD_OF_VIEW / 2.0) / (seen @ ahead)
        return x + width / 2 + scale * (seen @ right), y + height / 2 - scale * (seen @ np.cross(right, ahead))

    def drags(self, start: np.ndarray, end: np.ndarray) -> None:
        path = [self.pixel(point) for point in np.linspace(start, end, 9)]
        self.browser.mouse("mouseMoved", *path[0])
        self.browser.mouse("mousePressed", *path[0], pressed=True)
        for at in path[1:]:
            self.browser.mouse("mouseMoved", *at, pressed=True)
            self.stack.spin()
        self.browser.mouse("mouseReleased", *path[-1])


@pytest.mark.timeout(300)  # software rendering, beside a stack, on two cores
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")
def test_a_person_arms_drags_the_goal_and_stops(domain: int, tmp_path: Path) -> None:
    with Stack(domain, extra={"viewer": "-p port:=0"}, viewer="true") as stack, Browser(tmp_path) as browser:
        hand, watch = Person(stack, browser), stack.person
        stack.until(lambda: any("view http" in line for line in stack.lines), "the link is printed")
        (link,) = re.findall(r"viewer: view (http://127\.0\.0\.1:\d+/\?token=\S+)", "\n".join(stack.lines))
        browser.open(link)
        hand.reads("READY", "STOP", "no goal was given yet", "promise class")
        assert "token" not in browser.evaluate("location.href")

        home = watch.robot.tip(np, watch.robot.home)
        stack.until(lambda: watch.record.q, "states")
        hand.presses("ARM")
        stack.until(lambda: watch.state == "ACTIVE", "armed by the page", patience=40.0)
        hand.reads("ACTIVE", "ARM: ACTIVE")

        wanted, along = home + np.array([0.0, 0.0, UP]), np.array([0.0, 0.0, HANDLE])
        hand.drags(home + along, wanted + along)
        tip = watch.robot.tip
        stack.until(lambda: np.linalg.norm(tip(np, watch.record.q[-1]) - wanted) < 0.03, "the arm goes there", 40.0)
        hand.reads("from this page", f"{home[0]:.3f} {home[1]:.3f} 0.6")

        hand.presses("STOP")
        stack.until(lambda: watch.state in ("STOPPING", "FAULT"), "stopped by the page", patience=40.0)
        hand.reads("FAULT", "STOP: ACTIVE -> STOPPING")
        hand.presses("ARM")
        hand.reads("ARM: cannot arm in FAULT")
        assert watch.state == "FAULT"
        hand.presses("RESET")
        stack.until(lambda: watch.state == "READY", "reset by the page", patience=40.0)
