"""The MuJoCo simulation that stands in for the hardware."""

import mbrl_control  # noqa: F401 - first, for how it lets an interrupted start end
