"""Who gives the goal: a person who drags it, or another program. No ROS, no clock.

A planner goes to the goal that it heard last, so two who both repeat theirs would pull it to and fro. The rules:
whoever repeats a goal owns it; a person may take it over when nobody has said a goal for ``QUIET``; and we repeat
ours only until anybody else says another one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np

from mbrl_control.core import MbrlError

QUIET = 1.0
"""A goal of another program that was not said again for so long [s] may be replaced."""
EVERY = 0.1
"""While it is dragged, the goal is said at most this often [s]."""
AGAIN = 0.5
"""A goal of ours is repeated after this long [s], so that a planner that starts later hears it too."""
ECHOES = 64
"""As many goals of ours are remembered, to know them when we hear ourselves."""


class GoalDesk:
    """Keeps the goal in force, and says what of a person's wishes goes out."""

    def __init__(self, check: Callable[[np.ndarray], None]) -> None:
        """``check`` raises an ``MbrlError`` for a goal that no planner would take."""
        self._check = check
        self.in_force: np.ndarray | None = None
        """The goal that was said last, by whomever; None: none was yet."""
        self.refusal = ""
        """Why the last wish came to nothing, in words."""
        self.held = False
        """A person has the goal in hand: what is drawn must not jump away."""
        self._wish: np.ndarray | None = None
        self._ours = False
        self._sent: deque[tuple[float, ...]] = deque(maxlen=ECHOES)
        self._last_heard: tuple[float, ...] | None = None
        self._sent_at = self._heard_at = -math.inf

    @property
    def ours(self) -> bool:
        """Whether the goal in force came from here."""
        return self._ours

    def foreign(self, now: float) -> bool:
        """Whether another program gives the goals."""
        return now - self._heard_at < QUIET

    def hear(self, goal: np.ndarray, now: float) -> None:
        """A goal was said on the topic; ours come back this way as well."""
        said = tuple(goal.tolist())
        if said in self._sent:
            return
        self._heard_at, self._ours, self._wish = now, False, None
        if said == self._last_heard:
            return
        self._last_heard = said
        try:
            self._check(goal)
        except MbrlError as error:  # a planner refuses it as well, and stays with the one before
            self.refusal = f"of another program: {error}"
        else:
            self.in_force, self.refusal = goal, ""

    def drag(self, wish: np.ndarray, now: float) -> None:
        """A person moves the goal; what becomes of it is told by ``due`` and ``refusal``."""
        self.held = True
        if self.foreign(now):
            self.refusal = "another program gives the goals (as mbrl demo does); dragging changes nothing until it ends"
            return
        self._wish = wish

    def release(self) -> None:
        """The person lets go."""
        self.held = False

    def due(self, now: float) -> np.ndarray | None:
        """The goal to say now, if one is due."""
        if self._wish is not None and now - self._sent_at >= EVERY:
            wish, self._wish = self._wish, None
            try:
                self._check(wish)
            except MbrlError as error:
                self.refusal = str(error)
            else:
                self.in_force, self._ours, self.refusal = wish, True, ""
                return self._say(wish, now)
        if self._ours and self.in_force is not None and now - self._sent_at >= AGAIN:
            return self._say(self.in_force, now)
        return None

    def _say(self, goal: np.ndarray, now: float) -> np.ndarray:
        self._sent_at = now
        sent = tuple(goal.tolist())
        if sent not in self._sent:
            self._sent.append(sent)
        self._last_heard = None
        return goal
