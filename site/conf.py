"""Sphinx's settings. The pages lie in docs/; `make docs` builds them with warnings as errors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

project = "mtl"
author = "the authors of mtl"
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "mtl"
exclude_patterns = ["README.md", "examples/**"]
# Pages link into the repository, to sources and examples, which are no part of the site. tests/test_docs.py looks
# whether such a link leads somewhere.
suppress_warnings = ["myst.xref_missing"]


def setup(app: Any) -> None:
    """Write the reference from the code before the pages are read."""
    from generate import write

    write(Path(app.srcdir) / "reference")
