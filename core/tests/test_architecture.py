"""The rooms of core: imports go down only, nothing runs in a circle, the front names all, tests mirror it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mtl_core

SOURCE = Path(mtl_core.__file__).parent

ORDER = (
    "errors",
    "seeds",
    "tasks",
    "data",
    "step",
    "options",
    "discovery",
    "run_folder",
    "experiment",
    "hooks",
    "settings",
    "console",
    "training",
    "commands",
    "cli",
)
"""From the ground up: a file imports from its own room and from those before it. See docs/architecture.md."""

BESIDE = {"testing", "seam", "mtl_core"}
"""The kit for authors, the seam without the framework, and the package's own front: above everything."""


def files() -> dict[str, Path]:
    """Module → file, the package itself left out."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name != "mtl_core":
            found[name] = path
    return found


def imports(path: Path, known: set[str]) -> set[str]:
    """The modules of core that a file imports, anywhere in it, those for type checkers included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                found.add(below if below in known else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & known


def room(module: str) -> str:
    return module.split(".")[1]


GRAPH = {module: imports(path, set(files())) - {module} for module, path in files().items()}


@pytest.mark.parametrize("module", [m for m in GRAPH if room(m) not in BESIDE])
def test_imports_go_down_only(module: str) -> None:
    allowed = set(ORDER[: ORDER.index(room(module)) + 1])
    wrong = {target for target in GRAPH[module] if room(target) not in allowed}
    assert not wrong, f"{module} imports {sorted(wrong)}, which lie above it"


def test_there_is_no_circle() -> None:
    rest = {module: set(targets) for module, targets in GRAPH.items()}
    while ground := {module for module, targets in rest.items() if not targets & rest.keys()}:
        rest = {module: targets for module, targets in rest.items() if module not in ground}
    assert not rest, f"these import each other in circles: {sorted(rest)}"


def test_the_front_names_what_it_imports_for_editors() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    for_editors = {
        alias.name: node.module.removeprefix("mtl_core.")
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    assert for_editors == mtl_core._MODULES
    assert set(mtl_core.__all__) - set(for_editors) == {"About", "help", "hookimpl", "plugin"}
    assert set(mtl_core.__all__) <= set(dir(mtl_core))


def has_code(path: Path) -> bool:
    """Whether a file has more than its docstring."""
    return any(not isinstance(node, ast.Expr) for node in ast.parse(path.read_text("utf-8")).body)


CONTRACTS = "testing"
"""The kit for authors: a contract is tested by plugins that break it, several files for some contracts."""

WITH_CODE = [m for m, path in files().items() if path.stem != "__init__" and room(m) != CONTRACTS and has_code(path)]


@pytest.mark.parametrize("module", WITH_CODE)
def test_every_module_has_a_test_file_of_its_name(module: str) -> None:
    *rooms, name = module.split(".")[1:]
    file = Path(__file__).parent.joinpath(*rooms, f"test_{name}.py")
    assert file.is_file(), f"{module} has no {file.relative_to(Path(__file__).parent)}: its tests belong there"
    assert "def test_" in file.read_text("utf-8"), f"{file} has no test"


def test_every_folder_of_tests_is_a_room() -> None:
    folders = {path.parent.name for path in Path(__file__).parent.glob("*/test_*.py")}
    assert folders <= {room(module) for module in GRAPH}


@pytest.mark.parametrize("name", mtl_core.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(mtl_core, name) is not None
