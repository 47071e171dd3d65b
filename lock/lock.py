"""Resolve the extras of setup.py to exact versions: writes lock/robot.txt and lock/train.txt (make lock)."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

LOCKS = {"robot": "demo", "train": "demo,train,test,check,docs"}
BUILD = ["setuptools>=77,<81"]
HELD = ["torch==2.13.0"]  # the newest that has been tried
HEADER = "# Exact versions of [{extras}], resolved by `make lock` on Python {python}; `make` installs these.\n"


def resolve(extras: str) -> list[str]:
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        held = HELD if "train" in extras else []
        subprocess.run([*command, "--report", report.name, f".[{extras}]", *BUILD, *held], check=True)
        found = json.loads(Path(report.name).read_text())["install"]
    pins = {item["metadata"]["name"].lower().replace("_", "-"): item["metadata"]["version"] for item in found}
    pins.pop("mbrl-control")
    return [f"{name}=={version.split('+')[0]}" for name, version in sorted(pins.items())]


for lock, extras in LOCKS.items():
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    pins = resolve(extras)
    Path(f"lock/{lock}.txt").write_text(HEADER.format(extras=extras, python=python) + "\n".join(pins) + "\n")
    print(f"lock/{lock}.txt: {len(pins)} packages")
