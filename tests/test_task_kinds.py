"""Every kind of task that a distribution defines is registered, so that a checkpoint can name it."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from mtl_core.training.saved_tasks import OWN

ROOT = Path(__file__).parent.parent
KINDS = {"Task", *(cls.__name__ for cls in OWN.values())}


def classes(source: Path) -> list[tuple[str, ast.ClassDef]]:
    found = []
    for path in sorted(source.rglob("*.py")):
        module = ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
        nodes = ast.parse(path.read_text("utf-8")).body
        found += [(module, node) for node in nodes if isinstance(node, ast.ClassDef)]
    return found


def kinds(project: Path) -> set[str]:
    """``module:Class`` of the subclasses of kinds of tasks, those of a distribution's own kinds too."""
    known = set(KINDS)
    found = set[str]()
    every = classes(project / "src")
    for _ in every:
        for module, node in every:
            if any(isinstance(base, ast.Name) and base.id in known for base in node.bases):
                known.add(node.name)
                found.add(f"{module}:{node.name}")
    return found


FILES = [*ROOT.glob("plugins/*/pyproject.toml"), *ROOT.glob("contrib/*/pyproject.toml")]
PROJECTS = [path.parent for path in sorted(FILES)]


@pytest.mark.parametrize("project", [p for p in PROJECTS if kinds(p)], ids=lambda path: path.name)
def test_every_kind_is_registered(project: Path) -> None:
    points = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"].get("entry-points", {})
    assert set(points.get("mtl.tasks", {}).values()) == kinds(project)
