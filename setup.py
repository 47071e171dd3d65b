"""Package metadata. The repository root is one ament_python package that pip installs as well."""

from pathlib import Path

from setuptools import Distribution, find_packages, setup

NAME = "mbrl_control"
ROOT = Path(__file__).resolve().parent
"""The source tree, also where colcon runs this file through a link from its build folder."""
ROS = [  # the wheels of ROS 2 Kilted; a distribution's own ROS 2 serves as well
    "ros-rclpy>=9.1,<10",
    "ros-rmw-fastrtps-cpp>=9.3,<10",
    "ros-rcl-interfaces>=2.3,<3",
    "ros-builtin-interfaces>=2.3,<3",
    "ros-std-msgs>=5.5,<6",
    "ros-sensor-msgs>=5.5,<6",
    "ros-geometry-msgs>=5.5,<6",
    "ros-trajectory-msgs>=5.5,<6",
    "ros-std-srvs>=5.5,<6",
    "ros-diagnostic-msgs>=5.5,<6",
    "ros-lifecycle-msgs>=2.3,<3",
    "ros-rosgraph-msgs>=2.3,<3",
]
SIM = ["mujoco>=3.10,<5"]
REPORT = ["matplotlib>=3.9"]
VIEWER = ["viser>=1.1,<1.2"]
TRAIN = [
    "torch>=2.9",
    "array-api-compat>=1.12",
    "safetensors>=0.6",
    "threadpoolctl>=3.5",
    "casadi>=3.7",
]
TENSORBOARD = ["tensorboard>=2.20"]
TEST = [
    "pytest>=9",
    "pytest-timeout>=2.4",
    "hypothesis>=6.150",
    "ruckig>=0.15",
    "colcon-core>=0.20",
    "colcon-ros>=0.5",
]
CHECK = ["ruff>=0.15", "pyright>=1.1.405", "import-linter>=2.7"]
DOCS = ["sphinx>=9", "myst-parser>=5", "furo>=2025.12"]


class WithDataFiles(Distribution):
    """Keeps data_files in editable installs, where setuptools would drop them."""

    def has_data(self):
        return bool(self.data_files)


def files(pattern: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern) if path.is_file())


def share(folder: str) -> list[tuple[str, list[str]]]:
    """data_files entries that mirror a folder of the repository under share/."""
    tree: dict[str, list[str]] = {}
    for path in files(f"{folder}/**/*"):
        tree.setdefault(f"share/{NAME}/{Path(path).parent}", []).append(path)
    return sorted(tree.items())


setup(
    name=NAME,
    version="0.1.0",
    description="ROS 2 control stack around learned-dynamics MPC and local controllers, guarded",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="The mbrl_control authors",
    maintainer="The mbrl_control authors",
    maintainer_email="maintainers@mbrl-control.invalid",
    python_requires=">=3.11,<3.14",
    package_dir={NAME: f"ros_ws/src/{NAME}", "mbrl_sim": "sim/mbrl_sim"},  # colcon links no other mapping to both
    packages=[*find_packages("ros_ws/src"), "mbrl_sim"],
    package_data={
        f"{NAME}.bench": ["peers/*.py"],  # scripts of other environments, which nothing here imports
        NAME: ["native/*.c"],  # compiled where they are used
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"lib/{NAME}", files("ros_ws/libexec/*")),
        *share("launch"),
        *share("sim/worlds"),
        *share("models"),
    ],
    install_requires=[
        "numpy>=2.2",
        "pyyaml>=6",
        "rich>=14",
        "onnx>=1.21",
        'onnxruntime-gpu>=1.24; platform_machine == "x86_64"',
    ],
    extras_require={
        "ros": ROS,
        "sim": SIM,
        "report": REPORT,
        "viewer": VIEWER,
        "demo": [*ROS, *SIM, *REPORT, *VIEWER],
        "train": [*TRAIN, *SIM],
        "tensorboard": TENSORBOARD,
        "test": TEST,
        "check": CHECK,
        "docs": DOCS,
    },
    entry_points={"console_scripts": ["mbrl = mbrl_control.cli:main"]},
    distclass=WithDataFiles,
    zip_safe=False,
)
