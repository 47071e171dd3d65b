"""A minute of the whole stack with the learned model: what `benchmarks/soak.py` records has to hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).resolve().parents[2] / "benchmarks" / "soak.py"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_minute_of_the_whole_stack_keeps_its_times_and_its_memory(domain: int, tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    words = [sys.executable, str(SOAK), "--json", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
