"""What is built once and looked at by several tests."""

import subprocess
import sys

import pytest

from .installation import OFFLINE, Site, copy_of_the_tree


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """A copy of the repository; no test changes it."""
    return copy_of_the_tree(tmp_path_factory.mktemp("tree") / "mbrl_control")


@pytest.fixture(scope="session")
def sdist(tree, tmp_path_factory):
    """What ``python -m build --sdist`` makes, by the hook that it calls."""
    out = tmp_path_factory.mktemp("sdist")
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, out], cwd=tree, check=True, capture_output=True, timeout=100)
    [made] = out.glob("mbrl_control-*.tar.gz")
    return made


@pytest.fixture(scope="session")
def wheel(tree, tmp_path_factory):
    """What ``pip wheel .`` makes."""
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", *OFFLINE, "--wheel-dir", out]
    subprocess.run([*pip, tree], check=True, capture_output=True, timeout=100)
    [made] = out.glob("mbrl_control-*.whl")
    return made


@pytest.fixture(scope="session")
def installed(sdist, tmp_path_factory):
    """An environment with our package installed from its sdist, as from a package index."""
    site = Site.make(tmp_path_factory.mktemp("installed") / "venv")
    site.pip(sdist)
    return site
