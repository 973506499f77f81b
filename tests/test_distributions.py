"""Every distribution can be published: licence, changelog, classifiers, typed marker, a README that stands alone.

``make dist`` builds all wheels and runs this with ``MTL_DIST``, which looks into the wheels themselves.
"""

from __future__ import annotations

import ast
import os
import re
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = [ROOT / "core", *sorted(path.parent for path in ROOT.glob("*/*/pyproject.toml"))]
WHEELS = sorted(Path(os.environ["MTL_DIST"]).glob("*.whl")) if "MTL_DIST" in os.environ else []
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)]+)\)")


def project(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    return found


def packages(folder: Path) -> list[Path]:
    return [path for path in (folder / "src").glob("mtl_*") if path.is_dir()]


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_it_has_the_licence(folder: Path) -> None:
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert project(folder)["license"] == "Apache-2.0"
    assert project(folder)["license-files"] == ["LICENSE"]


def test_its_metadata_say_what_it_is(folder: Path) -> None:
    about = project(folder)
    assert about["description"]
    assert about["requires-python"] == ">=3.11"
    assert "Intended Audience :: Science/Research" in about["classifiers"]
    assert ("Typing :: Typed" in about["classifiers"]) is bool(packages(folder))
    assert not any(line.startswith("License ::") for line in about["classifiers"]), "an SPDX licence has no classifier"


def test_it_has_no_invented_address(folder: Path) -> None:
    """The repository has no public address yet; docs/releasing.md says where it goes."""
    assert "urls" not in project(folder)


def test_its_package_is_typed_and_has_a_changelog(folder: Path) -> None:
    version = project(folder)["version"]
    for package in packages(folder):
        assert (package / "py.typed").is_file()
        assert f"## {version}\n" in (package / "CHANGELOG.md").read_text("utf-8"), "no entry for its version"


def test_its_readme_stands_alone(folder: Path) -> None:
    """It is the page on an index: a link into the repository would lead nowhere."""
    text = (folder / "README.md").read_text("utf-8")
    outside = [link for link in LINK.findall(FENCE.sub("", text)) if not link.startswith(("http://", "https://", "#"))]
    assert not outside, f"links out of the wheel: {outside}; write the path as text"
    assert text.startswith(f"# {project(folder)['name']}\n")


def test_requirements_have_a_lowest_version(folder: Path) -> None:
    """``make test-lowest`` installs these."""
    for line in project(folder).get("dependencies", []):
        assert ">=" in line, f"{line}: say from which version on it is known to work"


def classes_of_plugins(path: Path) -> list[str]:
    """Names of a file's classes that are declared with ``@plugin``."""
    nodes = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.ClassDef)]
    return [node.name for node in nodes if "plugin" in map(ast.unparse, node.decorator_list)]


WHOLE = {"plugin.py", "__init__.py"}
"""Files of a distribution that has one method or data set: all of its tests are about it."""


def test_a_file_of_a_method_has_a_test_file_of_its_name(folder: Path) -> None:
    tests = {path.name for path in (folder / "tests").glob("test_*.py")}
    files = [path for package in packages(folder) for path in package.rglob("*.py") if classes_of_plugins(path)]
    if folder.name == "core":
        return  # its plugins are toys for tests
    missing = [path.name for path in files if path.name not in WHOLE and f"test_{path.name}" not in tests]
    assert not missing, f"one method, one file, one test file: no test_*.py for {missing}"
    assert tests or not files, "plugins without tests"


@pytest.mark.skipif(not WHEELS, reason="make dist builds the wheels")
def test_there_is_a_wheel_of_each() -> None:
    names = {wheel.name.partition("-")[0] for wheel in WHEELS}
    assert names == {project(folder)["name"].replace("-", "_") for folder in FOLDERS}


@pytest.mark.parametrize("wheel", WHEELS, ids=lambda wheel: wheel.name)
def test_the_wheel_has_it_all(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        about = next(name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(about).decode())
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert str(metadata.get_payload()).strip()
    package = wheel.name.partition("-")[0]
    if package != "mtl_all":
        assert {f"{package}/py.typed", f"{package}/CHANGELOG.md"} <= set(names)
