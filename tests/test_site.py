"""The site: its reference is complete, and every page is reached from the front."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
from source_files import import_file

from mtl_core import installed_plugins
from mtl_core.commands.explain import explain
from mtl_core.testing import hook_arguments

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site() -> ModuleType:
    return import_file(ROOT / "site" / "generate.py")


@pytest.fixture(scope="module")
def reference(site: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("reference")
    site.write(folder)
    return {path.stem: path.read_text("utf-8") for path in folder.glob("*.md")}


def test_every_hook_has_its_signature_and_words(reference: dict[str, str]) -> None:
    assert re.findall(r"^## (\w+)$", reference["hooks"], re.MULTILINE) == list(hook_arguments())
    for name, arguments in hook_arguments().items():
        assert re.search(rf"^def {name}\({'.*'.join(arguments)}", reference["hooks"], re.MULTILINE)


def test_every_option_of_every_plugin_is_there(reference: dict[str, str]) -> None:
    for found in installed_plugins():
        part = reference["plugins"].partition(f"\n## {found.name}\n")[2].partition("\n## ")[0]
        named = re.findall(r"^\| `([^`]+)` \|", part, re.MULTILINE)
        assert named == [option["name"] for option in explain(found.name)["options"]]


def test_objects_kinds_contracts_and_commands_are_there(reference: dict[str, str]) -> None:
    for name in ("Step", "EncoderGradients", "Shaped", "LookAhead", "Sample", "MultiTaskDataset"):
        assert f"\n## {name}\n" in reference["objects"]
    for name in ("segmentation", "depth", "normals", "edges", "classification", "regression"):
        assert f"\n## {name}\n" in reference["tasks"]
    assert "| segmentation | **miou** | % | higher |" in reference["metrics"]
    assert "\n## RegularizerContract\n" in reference["contracts"]
    assert "- keeps no graph" in reference["contracts"]
    for name in ("train", "check", "doctor", "new", "compare", "data check"):
        assert f"\n## mtl {name}\n" in reference["commands"]


def test_a_plugin_without_a_page_stops_the_build(site: ModuleType) -> None:
    with pytest.raises(site.Undocumented, match=r"plugin smooth has no page in docs/README\.md"):
        site.page_of("smooth", "[smooth-3d](methods/smooth.md)")
    assert site.page_of("full", "[full, onelabel](methods/labels.md)") == "methods/labels.md"


def test_an_option_without_help_stops_the_build(site: ModuleType) -> None:
    silent = {"name": "weight", "type": "a number", "default": 1.0, "required": False, "help": " "}
    with pytest.raises(site.Undocumented, match="options of smooth without help: weight"):
        site.options_table("smooth", [silent])


def test_a_hook_without_a_docstring_stops_the_build(site: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.hookspecs.augment, "__doc__", None)
    with pytest.raises(site.Undocumented, match="hook augment has no docstring"):
        site.hooks()


def test_docstrings_become_markdown(site: ModuleType) -> None:
    text = "Does it.\n\nWith ``a`` and :class:`mtl_core.Step`.\n\n:param x: first\n    line\n:return: a scalar\n"
    assert site.prose(text) == "Does it.\n\nWith `a` and `Step`.\n\n- `x`: first line\n- returns a scalar"


def test_every_page_is_reached_from_the_front() -> None:
    front = (DOCS / "index.md").read_text("utf-8")
    entries = {
        line
        for block in re.findall(r"```\{toctree\}\n(.*?)```", front, re.DOTALL)
        for line in block.splitlines()
        if line and not line.startswith(":")
    }
    pages = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md")}
    pages -= {"index", "README", *(page for page in pages if page.startswith(("methods/", "reference/", "examples/")))}
    assert entries - {"methods/*"} - {entry for entry in entries if entry.startswith("reference/")} == pages


def test_every_page_of_the_reference_is_reached(reference: dict[str, str]) -> None:
    front = (DOCS / "index.md").read_text("utf-8")
    assert set(re.findall(r"^reference/(\w+)$", front, re.MULTILINE)) == set(reference)
