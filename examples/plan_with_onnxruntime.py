"""A plan of models/panda/plan.onnx with NumPy and ONNX Runtime: no ROS, and nothing of mbrl_control."""

import json
from pathlib import Path

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(str(Path(__file__).parents[1] / "models" / "panda" / "plan.onnx"))
facts = json.loads(session.get_modelmeta().custom_metadata_map["plan"])
kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
feed = {x.name: np.zeros(x.shape, kinds[x.type]) for x in session.get_inputs()}
feed |= {name: np.array(knob, np.float32) for name, knob in facts["knobs"].items()}

q = np.array([0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785], np.float32)
feed |= {"q": q, "seen/reference": np.concatenate([q, 0.0 * q]), "live": np.array(facts["samples"], np.float32)}
feed["goal"][:] = [0.45, 0.2, 0.5]  # the tip's place, at each step of the horizon

rng, outputs = np.random.default_rng(0), [x.name for x in session.get_outputs()]
for iteration in range(30):
    feed |= {x: rng.standard_normal(feed[x].shape, np.float32) for x in feed if x.startswith("noise/")}
    found = dict(zip(outputs, session.run(None, feed), strict=True))
    feed |= {x: found["next/" + x.removeprefix("carry/")] for x in feed if x.startswith("carry/")}
    if iteration % 10 == 9:
        print(f"iteration {iteration + 1}: cost {found['terms'].sum():.4f}")
print(f"joints after {facts['horizon'] * facts['dt']:.1f} s:", found["next/q"][-1].round(3))
print("the members of the model differ by", found["disagreement"].max().round(3), "of what is usual")
