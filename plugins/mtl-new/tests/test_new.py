"""Names are checked first, nothing is overwritten, and every kind is made."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mtl_core import MtlError
from mtl_new import KINDS, create
from mtl_new.commands import app
from mtl_new.creation import _templates


def contents(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_made(kind: str, tmp_path: Path) -> None:
    folder = create(kind, "some-idea", tmp_path, summary="What it does", author="Ann")
    assert folder == tmp_path / "mtl-some-idea"
    assert contents(folder) == [
        "README.md", "pyproject.toml", "src/mtl_some_idea/__init__.py", "src/mtl_some_idea/py.typed",
        "tests/test_mtl_some_idea.py",
    ]  # fmt: skip
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    assert (project["description"], project["authors"]) == ("What it does", [{"name": "Ann"}])
    plugins = {} if kind == "task-kind" else {"mtl.plugins": {"some-idea": "mtl_some_idea:SomeIdea"}}
    assert project.get("entry-points", {}) == plugins
    for path in folder.rglob("*.py"):
        ast.parse(path.read_text("utf-8"))
    for path in folder.rglob("*"):
        assert "{{" not in path.name
        assert path.is_dir() or "{{" not in path.read_text("utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_a_summary_is_there_without_being_given(kind: str, tmp_path: Path) -> None:
    project = tomllib.loads((create(kind, "x1", tmp_path) / "pyproject.toml").read_text("utf-8"))["project"]
    assert len(project["description"]) > 10
    assert project["authors"] == [{"name": "Nobody"}]


def test_every_template_is_a_kind() -> None:
    folders = {path.name for path in _templates().iterdir() if path.is_dir()}
    assert folders - {"shared"} == set(KINDS)


MISTAKES = {
    ("regulariser", "x"): 'there is no kind "regulariser"; did you mean "regularizer"? (there are: regularizer, gr',
    ("regularizer", "My Idea"): 'the name "My Idea": expected lower-case letters, .*; did you mean "my-idea"\\?',
    ("regularizer", "3d"): 'the name "3d": expected lower-case letters, digits and single hyphens, a letter first',
    ("regularizer", "mtl-x"): 'the name "mtl-x": "mtl-" is put before it; give "x"',
    ("regularizer", "../x"): 'the name "../x": expected lower-case letters',
    ("regularizer", "core"): 'the name "core": a package mtl_core is installed; choose another',
    ("regularizer", "new"): 'the name "new": a package mtl_new is installed; choose another',
    ("regularizer", "tensor"): "a class cannot be called Tensor there: another word",
}


@pytest.mark.parametrize(("kind", "name"), MISTAKES)
def test_mistakes_write_nothing(kind: str, name: str, tmp_path: Path) -> None:
    expected = MISTAKES[kind, name]
    into = tmp_path / "new"
    with pytest.raises(MtlError, match=expected if ".*" in expected else None) as caught:
        create(kind, name, into)
    assert ".*" in expected or expected in str(caught.value)
    assert not contents(tmp_path)


@pytest.mark.parametrize("summary", ["two\nlines", 'three """ marks', "back\\slash", " ", "x" * 101])
def test_a_summary_that_would_break_the_code_is_refused(summary: str, tmp_path: Path) -> None:
    with pytest.raises(MtlError, match="'summary': one line of text, 100 characters at most"):
        create("regularizer", "x1", tmp_path, summary=summary)
    assert not contents(tmp_path)


def test_an_installed_plugin_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    known = metadata.EntryPoints([metadata.EntryPoint("taken", "somewhere:It", "mtl.plugins")])
    monkeypatch.setattr(metadata, "entry_points", lambda group: known)
    with pytest.raises(MtlError, match='the name "taken": a plugin of this name is installed; choose another'):
        create("regularizer", "taken", tmp_path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = create("regularizer", "mine1", tmp_path)
    (folder / "README.md").write_text("mine")
    with pytest.raises(MtlError, match="mtl-mine1: is there already; nothing is overwritten"):
        create("loss-rule", "mine1", tmp_path)
    assert (folder / "README.md").read_text("utf-8") == "mine"
    create("loss-rule", "other1", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"mtl-mine1", "mtl-other1"}


@pytest.mark.parametrize("kind", KINDS)
def test_no_name_hides_what_a_template_imports(kind: str, tmp_path: Path) -> None:
    """A plugin called ``step`` would be a class ``Step``, and hide core's."""
    folder = create(kind, "some-idea", tmp_path)
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Import)]
        used = {alias.asname or alias.name for node in imports for alias in node.names}
        used |= {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
        for word in used - {"SomeIdea"}:
            name = "".join(f"-{c.lower()}" if c.isupper() else c for c in word).strip("-")
            if word[0].isupper() and not word.isupper() and not word.endswith(("Contract", "SomeIdea")):
                with pytest.raises(MtlError, match=r"a class cannot be called|is installed"):
                    create(kind, name, tmp_path / "again")


def test_the_command(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["regularizer", "smooth1", "--into", str(tmp_path), "--author", "Ann"])
    assert done.exit_code == 0, done.output
    folder = tmp_path / "mtl-smooth1"
    assert done.output.startswith(f"{folder} is ready:\n")
    assert f'pip install -e "{folder}"' in done.output
    assert "[plugins.smooth1]" in done.output
    assert 'authors = [{ name = "Ann" }]' in (folder / "pyproject.toml").read_text("utf-8")


def test_the_command_tells_the_kinds() -> None:
    out = CliRunner().invoke(app, ["--help"]).output
    assert all(kind in out for kind in KINDS)
