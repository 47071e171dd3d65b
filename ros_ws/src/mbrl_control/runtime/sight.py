"""What is seen of the bodies around a robot: the newest of each block, and whether it is new enough to plan from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np

from mbrl_control.core import Block, MbrlError


class SightError(MbrlError):
    """What cannot be where a body is."""


class Sight:
    """The newest of each block, with the time that it is of [control-clock s]."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = {block.name: block for block in blocks}
        self._newest: Mapping[str, tuple[float, np.ndarray]] = {}

    def put(self, name: str, t: float, values: Annotated[np.ndarray, "n"]) -> None:
        """Take what a message says; raises ``SightError`` where that is nothing to plan from."""
        block = self._blocks[name]
        if not np.isfinite(values).all():
            raise SightError(
                f"block '{name}' is {values.tolist()}; it takes {block.size} finite numbers [{block.unit}]"
            )
        self._newest = {**self._newest, name: (t, values)}

    @property
    def since(self) -> float:
        """The time of the oldest of them; minus infinity if one is missing."""
        return min(
            (self._newest[name][0] if name in self._newest else -np.inf for name in self._blocks), default=np.inf
        )

    def lacking(self, now: float) -> str:
        """What stands against planning now; empty: nothing.

        What is stamped as far ahead counts as too old as well: whatever it is, it is not of now.
        """
        for name, block in self._blocks.items():
            if name not in self._newest:
                return f"no {name} yet"
            if not abs(now - self._newest[name][0]) <= block.max_age:
                return f"{name} too old"
        return ""

    def now(self) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Blocks and stamps of an observation."""
        newest = self._newest
        return {name: values for name, (_, values) in newest.items()}, {name: t for name, (t, _) in newest.items()}
