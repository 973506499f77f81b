"""A plain file becomes a distribution: its class as it is, tests of its hooks, what it imports required."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mtl_core import MtlError
from mtl_new import pack
from mtl_new.commands import app
from mtl_new.packing import _hyphenated

IDEA = '''"""My idea."""

import math

import numpy as np
import torch
from attrs import field
from torch import Tensor

from mtl_core import Step, help, hookimpl, plugin


@plugin
class MyIdea:
    """Pulls "predictions" towards zero."""

    weight: float = field(default=0.1, metadata=help("coefficient"))

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        term = torch.stack([p.float().square().mean() for p in step.predictions.values()]).sum()
        return {"pull": self.weight * term * float(np.cos(0)) * math.cos(0)}
'''


@pytest.fixture
def idea(tmp_path: Path) -> Path:
    path = tmp_path / "my_idea.py"
    path.write_text(IDEA)
    return path


def test_the_file_is_the_package_and_its_imports_are_required(idea: Path, tmp_path: Path) -> None:
    folder = pack(idea, tmp_path / "out", author="Ann")
    assert folder == tmp_path / "out" / "mtl-my-idea"
    assert (folder / "src" / "mtl_my_idea" / "__init__.py").read_text() == IDEA
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {"mtl.plugins": {"my-idea": "mtl_my_idea:MyIdea"}}
    assert project["description"] == 'Pulls "predictions" towards zero'
    assert [line for line in project["dependencies"] if line.startswith("numpy>=")]
    assert not [line for line in project["dependencies"] if line.startswith("math")]
    assert 'Pulls "predictions" towards zero.' in (folder / "README.md").read_text()


def test_its_tests_pass(idea: Path, tmp_path: Path) -> None:
    folder = pack(idea, tmp_path / "out")
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(folder / "tests")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_plugin_with_two_hooks_has_both_contracts(idea: Path, tmp_path: Path) -> None:
    further = """
    @hookimpl
    def augment(self, images: Tensor) -> Tensor:
        return images
"""
    idea.write_text(IDEA + further)
    (test,) = (pack(idea, tmp_path / "out", "a-b") / "tests").glob("*.py")
    classes = [node.name for node in ast.parse(test.read_text()).body if isinstance(node, ast.ClassDef)]
    assert classes == ["TestRegularizer", "TestAugment"]


def test_the_command_packs(idea: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--from", str(idea), "smooth", "--into", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "[plugins.smooth]" in done.output
    assert (tmp_path / "mtl-smooth" / "pyproject.toml").is_file()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f(:", "expected a Python file"),
        ("x = 1", "expected one class that is declared with @plugin, found none"),
        (IDEA + "\n\n@plugin\nclass Other:\n    pass\n", "found MyIdea, Other"),
        (IDEA.replace("@hookimpl", ""), "MyIdea has no @hookimpl method"),
        (IDEA.replace("compute_regularizer", "transform_sample"), "MyIdea has transform_sample; expected one of"),
        (
            IDEA.replace("import math", "import no_such_module_here"),
            "imports no_such_module_here, which is no",
        ),
        (IDEA.replace("import math", "from . import helper"), "imports from a folder around it"),
    ],
)
def test_what_cannot_be_packed_is_said_and_nothing_is_written(
    idea: Path, tmp_path: Path, source: str, message: str
) -> None:
    idea.write_text(source)
    with pytest.raises(MtlError, match=message):
        pack(idea, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(idea: Path, tmp_path: Path) -> None:
    (tmp_path / "mtl-my-idea").mkdir()
    with pytest.raises(MtlError, match="is there already; nothing is overwritten"):
        pack(idea, tmp_path)


def test_a_missing_file_and_missing_words_are_said(tmp_path: Path) -> None:
    with pytest.raises(MtlError, match="there is no such file"):
        pack(tmp_path / "nothing.py", tmp_path)
    for arguments in (["regularizer"], []):
        done = CliRunner().invoke(app, arguments)
        assert isinstance(done.exception, MtlError)
        assert "expected KIND NAME" in str(done.exception)


@pytest.mark.parametrize(("name", "expected"), [("MyIdea", "my-idea"), ("JTRNet", "jtr-net"), ("UW", "uw")])
def test_names_of_classes_become_names_of_plugins(name: str, expected: str) -> None:
    assert _hyphenated(name) == expected
