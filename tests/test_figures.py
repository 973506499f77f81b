"""The figures of how core reads: of a small package whose figures are known, and of core itself."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from source_files import ROOT, import_file

FILES = {
    "__init__.py": '"""Front."""\n',
    "ground.py": "def one():\n    return 1\n",
    "upper.py": '''from small.ground import one


def two():
    """Two."""
    a, b = one(), 1  # a comment
    return a + b
''',
    "left.py": "from small import right\n",
    "right.py": "import small.left\n\n\ndef _hidden():\n    x, y = 1, 2\n    return x, y\n",
}


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    return import_file(ROOT / "tests" / "figures.py")


def test_a_small_package(figures: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    found = figures.figures(folder)
    expected = {
        "files": 5, "floors": 2, "modules in circles": 2, "functions": 3, "function length, median": 2,
        "functions that begin with an underscore, %": 33, "public functions documented, %": 50,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert found["tuple assignments per 1000 lines"] == pytest.approx(1000 * 2 / found["lines"], abs=0.1)


def test_core_has_no_circle(figures: ModuleType) -> None:
    """As its own tests hold it, by a reading of the imports of their own: core's tests run where core is alone."""
    found = figures.figures(figures.CORE)
    assert found["modules in circles"] == 0
    assert found["function length, median"] <= 7
