"""What tests and benchmarks import of the distributions is there, also where a test imports it when it runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("core/tests", "tests", "docs/examples", *(str(p.relative_to(ROOT)) for p in ROOT.glob("*/mtl-*/tests")))


def imported(folder: str) -> Iterator[tuple[str, str, str]]:
    """(file and line, module, name) of every ``from mtl_… import …``."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mtl_"):
                for alias in node.names:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.module, alias.name


def is_there(module: str, name: str) -> bool:
    found = import_module(module)
    is_package = hasattr(found, "__path__")
    return hasattr(found, name) or (is_package and find_spec(f"{module}.{name}") is not None)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_imported_name_is_there(folder: str) -> None:
    gone = [f"{place}: no {name} in {module}" for place, module, name in imported(folder) if not is_there(module, name)]
    assert not gone, "\n".join(gone)


def test_a_name_that_was_renamed_is_found() -> None:
    assert is_there("mtl_core.training.gramian", "_by_pairs")
    assert is_there("mtl_core.training", "gramian")
    assert not is_there("mtl_core.training.gramian", "by_pairs")
    assert not is_there("mtl_core.training", "by_pairs")
