"""mtl-all requires every distribution of the repository."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def project(path: Path) -> dict[str, object]:
    found: dict[str, object] = tomllib.loads(path.read_text("utf-8"))["project"]
    return found


def test_it_requires_every_distribution() -> None:
    files = [
        ROOT / "core" / "pyproject.toml",
        *ROOT.glob("plugins/*/pyproject.toml"),
        *ROOT.glob("contrib/*/pyproject.toml"),
    ]
    every = {project(path)["name"] for path in files} - {"mtl-all"}
    lines = project(ROOT / "plugins" / "mtl-all" / "pyproject.toml")["dependencies"]
    assert isinstance(lines, list)
    assert {Requirement(line).name for line in lines} == every
