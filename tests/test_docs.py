"""The documentation is true: links lead somewhere, code is code, and example experiments can be built."""

from __future__ import annotations

import ast
import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtl_core.plugin import hook_arguments
from mtl_core.settings import load_experiment
from mtl_core.suite import load_suite

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "core/*.md", "plugins/*/*.md", "contrib/**/*.md", "templates/*.md")
    for page in ROOT.glob(pattern)
)
FENCE = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|<img[^>]+src=\"([^\"]+)\"")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(page: Path, language: str) -> Iterator[str]:
    for indent, found, text in FENCE.findall(page.read_text("utf-8")):
        if found == language:
            yield textwrap.dedent(text) if indent else text


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text("utf-8"))
    targets = [a or b for a, b in LINK.findall(text)]
    local = [t.partition("#")[0] for t in targets if not re.match(r"https?:|mailto:|#", t)]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_blocks_are_python(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block, f"{name(page)}, a python block")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_toml_blocks_are_toml(page: Path) -> None:
    for block in blocks(page, "toml"):
        tomllib.loads(block)


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/examples/*.toml")), ids=name)
def test_example_experiments_can_be_built(path: Path) -> None:
    assert load_experiment(path).plugins


SUITES = [path for path in sorted(ROOT.glob("docs/examples/suites/**/*.toml")) if not path.name.endswith(".base.toml")]


@pytest.mark.parametrize("path", SUITES, ids=name)
def test_every_experiment_of_a_suite_can_be_built(path: Path, tmp_path: Path) -> None:
    assert load_suite(path, folder=tmp_path).jobs


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md", "docs/writing-a-plugin.md", "docs/standalone.md"])
def test_python_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    found = list(blocks(ROOT / page, "python"))
    assert found
    for block in found:
        exec(compile(block, page, "exec", dont_inherit=True), names)


def test_every_hook_is_in_the_table_and_every_row_is_a_hook() -> None:
    table = (
        (ROOT / "docs" / "writing-a-plugin.md").read_text("utf-8").partition("## The hooks")[2].partition("\n## ")[0]
    )
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(hook_arguments())
    places = re.findall(
        r"`(\w+)`", (ROOT / "README.md").read_text("utf-8").partition("## What composes")[2].partition("##")[0]
    )
    assert set(places) <= set(hook_arguments())


def test_every_hook_has_a_contract_or_is_called_by_one() -> None:
    """A hook comes with its first plugin and with a check of what it promises."""
    from mtl_core import testing

    contracts = [getattr(testing, n) for n in testing.__all__ if n.endswith("Contract") and n != "PluginContract"]
    lifecycle = {"setup", "parameter_groups", "after_epoch", "build_heads"}
    lifecycle |= {"before_run", "build_extra_datasets", "relabel", "draw_pictures", "before_step", "after_step"}
    assert {c.hook for c in contracts} | lifecycle == set(hook_arguments())


def test_every_plugin_has_a_page_and_a_row() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    projects = [
        tomllib.loads(p.read_text("utf-8"))["project"]
        for p in [*ROOT.glob("plugins/*/pyproject.toml"), *ROOT.glob("contrib/*/pyproject.toml")]
    ]
    names = [name for project in projects for name in project["entry-points"]["mtl.plugins"]]
    assert len(names) >= 14
    for name in names:
        assert re.search(rf"[\[ ]{name}[\],]", index), f"{name} is not in docs/README.md"
        assert re.search(rf"\b{name}\b", readme), f"{name} is not in README.md"
