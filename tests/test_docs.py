"""The documentation is true: links lead somewhere, code is code, and example experiments can be built."""

from __future__ import annotations

import ast
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from source_files import import_file

from mtl_core import MtlError, load_experiment
from mtl_core.commands.explain import as_default, explain
from mtl_core.hooks.spec_table import exclusive_hooks
from mtl_core.testing import DatasetContract, RegularizerContract, hook_arguments, main, make_tasks
from mtl_suite.plan import load_suite

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
def test_nothing_waits_to_be_filled_in(page: Path) -> None:
    assert re.findall(r"@@\S*|TODO|FIXME|XXX", page.read_text("utf-8")) == []


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


SUITES = [
    path
    for path in sorted(ROOT.glob("docs/examples/suites/**/*.toml"))
    if not path.name.endswith(".base.toml") and path.parent.name != "published"
]


@pytest.mark.parametrize("path", SUITES, ids=name)
def test_every_experiment_of_a_suite_can_be_built(path: Path, tmp_path: Path) -> None:
    assert load_suite(path, folder=tmp_path).jobs


RUN = [
    "README.md",
    "docs/tutorial.md",
    "docs/writing-a-plugin.md",
    "docs/standalone.md",
    "docs/how-to/logging.md",
    "docs/how-to/export.md",
]


@pytest.mark.parametrize("page", RUN)
def test_python_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    found = list(blocks(ROOT / page, "python"))
    assert found
    for block in found:
        exec(compile(block, page, "exec", dont_inherit=True), names)


def imported(path: Path) -> Iterator[ModuleType]:
    """A file as a module, for one test."""
    yield import_file(path)
    del sys.modules[path.stem]


def module_of(page: str, folder: Path) -> Iterator[ModuleType]:
    """A page's first python block as a module that can be imported, as a reader would save it."""
    path = folder / "block_of_a_page.py"
    path.write_text(next(blocks(ROOT / page, "python")), "utf-8")
    yield from imported(path)


class TestTheTutorialsData(DatasetContract):
    """What the tutorial recommends passes what it recommends to check it by."""

    @pytest.fixture
    def plugin(self, tmp_path: Path) -> Iterator[object]:
        for module in module_of("docs/tutorial.md", tmp_path):
            yield module.MyData(samples=4)


class TestTheReadmesRegularizer(RegularizerContract):
    @pytest.fixture
    def plugin(self, tmp_path: Path) -> Iterator[object]:
        for module in module_of("README.md", tmp_path):
            yield module.Sharpness()


def test_the_readmes_regularizer_says_what_it_needs(tmp_path: Path) -> None:
    for module in module_of("README.md", tmp_path):
        with pytest.raises(MtlError, match='no task "segmentation"'):
            module.Sharpness().setup(make_tasks("depth"))


def test_every_setting_is_in_the_list_with_its_type_and_default() -> None:
    text = (ROOT / "docs" / "experiments.md").read_text("utf-8").partition("\n## Settings")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+) \|$", text, re.MULTILINE)
    listed = {name: (kind, default.strip("`")) for name, kind, default, _ in rows}
    settings = explain("experiment")["options"]
    assert len(rows) == len(listed)
    assert listed == {s["name"]: (s["type"], as_default(s)) for s in settings}


def test_the_experiment_of_the_list_can_be_built(tmp_path: Path) -> None:
    file = tmp_path / "rooms.toml"
    file.write_text(next(blocks(ROOT / "docs" / "experiments.md", "toml")), "utf-8")
    assert load_experiment(file).use == {"combine_losses": "ial"}


def test_settings_are_explained_in_the_terminal_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["explain", "experiment"])
    page = capsys.readouterr().out
    assert stop.value.code == 0
    assert "hooks" not in page
    for part in ("drop_factor", "checkpoint_steps", "required", '"constant"', "false"):
        assert part in page


@pytest.fixture(scope="module")
def hook_tables() -> Iterator[ModuleType]:
    """The script that writes the tables of hooks."""
    yield from imported(ROOT / "tests" / "hook_tables.py")


@pytest.mark.parametrize("page", ["README.md", "docs/writing-a-plugin.md"])
def test_tables_of_hooks_are_what_the_specs_say(page: str, hook_tables: ModuleType) -> None:
    text = (ROOT / page).read_text("utf-8")
    assert page in hook_tables.PAGES
    assert hook_tables.BLOCK.search(text)
    assert hook_tables.generated(text) == text, "stale: run `make format`"


def test_a_table_of_hooks_that_was_changed_by_hand_is_stale(hook_tables: ModuleType) -> None:
    text = (ROOT / "docs" / "writing-a-plugin.md").read_text("utf-8")
    assert hook_tables.generated(text.replace("| a chain |", "| all |")) == text


def test_every_spec_has_the_fields_of_the_tables(hook_tables: ModuleType) -> None:
    for hook in hook_arguments():
        fields = hook_tables.fields_of(hook)
        assert {"gives", "how many"} <= fields.keys(), hook
        assert (hook in exclusive_hooks()) == (fields["how many"].partition(";")[0] == "one"), hook


def test_conditions_of_the_table_name_hooks_that_the_plugins_have(hook_tables: ModuleType) -> None:
    known = hook_tables.fillers()
    assert [(hook, plugin) for hook, plugin in hook_tables.CONDITIONS if plugin not in known[hook]] == []


def test_every_hook_comes_with_its_first_plugin(hook_tables: ModuleType) -> None:
    assert set(hook_arguments()) == set(hook_tables.fillers())


def test_every_plugin_has_a_page_and_a_row() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    projects = [
        tomllib.loads(p.read_text("utf-8"))["project"]
        for p in [*ROOT.glob("plugins/*/pyproject.toml"), *ROOT.glob("contrib/*/pyproject.toml")]
    ]
    names = [name for p in projects for name in p.get("entry-points", {}).get("mtl.plugins", ())]
    assert len(names) >= 14
    for name in names:
        assert re.search(rf"[\[ ]{name}[\],]", index), f"{name} is not in docs/README.md"
        assert re.search(rf"\b{name}\b", readme), f"{name} is not in README.md"
