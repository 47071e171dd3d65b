"""The site that `make docs` builds from README.md and this folder: Sphinx, MyST and furo; nothing is loaded from afar.

The pages are the same files that a code-hosting page shows, with the same links between them: the source folder is
the root of the repository, and what only the site needs (the navigation, the caption of a listing) is added here.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx

NAVIGATION = {
    "Use": ["installing", "viewer", "simulation", "robot", "tasks", "obstacles", "evaluation", "doctor"],
    "Understand": [
        "architecture",
        "safety",
        "learning",
        "graphs",
        "trajectory_optimisation",
        "realtime",
        "performance",
    ],
    "Extend": ["extending", "../CONTRIBUTING"],
    "Look up": ["commands", "parameters", "dependencies", "../CHANGELOG"],
}
"""Every page, in the order of the navigation. One in docs/ that is not here fails the build, and so does one that is
here and not there."""

project = "mbrl_control"
author = "The mbrl_control authors"
copyright = author
html_title = project
smartquotes = False

extensions = ["myst_parser"]
myst_heading_anchors = 4
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md"]
exclude_patterns = ["[!CRd]*", "**/.*"]  # folders that need not be walked

html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
html_additional_pages = {"index": "index.html"}
templates_path = ["_templates"]

TITLED = re.compile(r'^```(\w+) title="([^"]+)"$', re.MULTILINE)


def toctree(caption: str, pages: list[str]) -> str:
    """A part of the navigation."""
    entries = "\n".join(f"docs/{page}".replace("docs/../", "") for page in pages)
    return f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"


def read(_: Sphinx, docname: str, source: list[str]) -> None:
    """The navigation is added to the first page; ``title="..."`` becomes the caption of a listing."""
    source[0] = TITLED.sub(r"```{code-block} \1\n:caption: \2\n", source[0])
    if docname == root_doc:
        source[0] += "\n" + "\n".join(toctree(*part) for part in NAVIGATION.items())


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", read)
