"""The script that tests distributions from their wheels: it has to see what is not declared."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from source_files import import_file

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheels() -> ModuleType:
    return import_file(ROOT / "tests" / "wheels.py")


def make_wheel(folder: Path, source: str, requires: tuple[str, ...]) -> Path:
    wheel = folder / "mtl_fake-1.0-py3-none-any.whl"
    lines = "".join(f"Requires-Dist: {line}\n" for line in requires)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("mtl_fake/__init__.py", source)
        archive.writestr(
            "mtl_fake-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: mtl-fake\nVersion: 1.0\n{lines}"
        )
    return wheel


def test_an_import_that_is_not_declared_is_seen(tmp_path: Path, wheels: ModuleType) -> None:
    source = (
        "import os, attrs.validators\nfrom numpy import array\ndef f():\n    import pluggy\nfrom mtl_fake import x\n"
    )
    wheel = make_wheel(tmp_path, source, ("attrs>=24",))
    assert wheels.undeclared(wheel) == [
        "mtl_fake/__init__.py imports numpy, which is not declared",
        "mtl_fake/__init__.py imports pluggy, which is not declared",
    ]
    assert wheels.undeclared(make_wheel(tmp_path, source, ("attrs", "NumPy>=1", "pluggy"))) == []


def test_a_plugin_may_not_need_another(tmp_path: Path, wheels: ModuleType) -> None:
    others = [name for name in wheels.projects() if name != wheels.CORE]
    wheel = make_wheel(tmp_path, "", (others[0], "mtl-core"))
    assert wheels.foreign("mtl-fake", wheel) == [f"it depends on another plugin, {others[0]}"]


def test_requirements_are_followed_to_their_ends(wheels: ModuleType) -> None:
    found = wheels.closure([Requirement("pytest")])
    assert {"pytest", "pluggy", "iniconfig", "packaging"} <= found
    assert not found & {"torch", "numpy", "colorama"} - ({"colorama"} if sys.platform == "win32" else set())


def test_what_is_not_installed_is_named(wheels: ModuleType) -> None:
    with pytest.raises(wheels.Failure, match="needs no-such-distribution"):
        wheels.closure([Requirement("no-such-distribution")])


def test_only_what_was_asked_for_is_linked(tmp_path: Path, wheels: ModuleType) -> None:
    wheels.link(["iniconfig"], tmp_path)
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {"iniconfig"}


def test_every_distribution_of_the_repository_is_found(wheels: ModuleType) -> None:
    expected = len([*ROOT.glob("core/pyproject.toml"), *ROOT.glob("*/*/pyproject.toml")])
    found = wheels.projects()
    assert next(iter(found)) == "mtl-core"
    assert len(found) == expected - 1  # all but mtl-all, which has no code
