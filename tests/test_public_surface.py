"""What plugins, their tests, the templates and the documentation import of core."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PUBLIC = {"mtl_core", "mtl_core.testing", "mtl_core.testing.distributions", "mtl_core.seam"}
PATTERNS = ("plugins/**/*.py", "contrib/**/*.py", "templates/**/*", "docs/**/*.py", "docs/**/*.md", "README.md")
IMPORT = re.compile(r"^\s*(?:from|import)\s+(mtl_core[\w.]*)", re.MULTILINE)


def sources() -> list[Path]:
    found = [path for pattern in PATTERNS for path in sorted(ROOT.glob(pattern))]
    return [path for path in found if path.is_file() and path.suffix in {".py", ".md", ".jinja"}]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_public_modules_are_imported(path: Path) -> None:
    found = set(IMPORT.findall(path.read_text("utf-8")))
    assert found <= PUBLIC, f"imports {sorted(found - PUBLIC)}; export the names from mtl_core"
