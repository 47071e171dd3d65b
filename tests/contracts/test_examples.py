"""Every example runs, and stays short enough to be read."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mbrl_control import registry

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path):
    assert len(path.read_text().splitlines()) <= 60
    out = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert out.returncode == 0, out.stdout + out.stderr
    assert "Traceback" not in out.stderr


def test_there_are_examples():
    assert EXAMPLES


def test_a_plan_of_the_model_that_ships_needs_numpy_and_onnxruntime_alone(tmp_path):
    path = next(path for path in EXAMPLES if path.stem == "plan_with_onnxruntime")
    alone = (
        "import runpy, sys\n"
        "class Nobody:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('mbrl_control', 'mbrl_sim', 'onnx', 'yaml', 'rclpy', 'torch'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Nobody())\n"
        f"found = runpy.run_path({str(path)!r})\n"
        "import numpy as np\n"
        "np.savez('plan.npz', q=found['found']['next/q'], goal=found['feed']['goal'], alive=found['found']['alive'])\n"
    )
    subprocess.run([sys.executable, "-c", alone], cwd=tmp_path, check=True, timeout=60, capture_output=True)
    with np.load(tmp_path / "plan.npz") as made:
        tip = registry.make("robots", "panda").tip(np, made["q"].astype(float))
        away = np.linalg.norm(tip - made["goal"], axis=-1)
        assert made["alive"]
    assert away[-1] < 0.75 * away[0]


def test_a_loop_of_fifteen_lines_is_fifteen_lines():
    text = next(path for path in EXAMPLES if path.stem == "plan_with_onnxruntime").read_text()
    code = [line for line in text.splitlines() if line and not line.startswith(("import", "from", '"""'))]
    assert len([line for line in code if not line.lstrip().startswith(("print", "if iteration"))]) <= 15
