"""What ``mtl explain`` says of a plugin, of one in a plain file, and of the settings of an experiment."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import ClassVar

import pytest
from attrs import field
from rich.console import Console

from mtl_core import About, MtlError, help, hookimpl, plugin
from mtl_core.commands.explain import _record_of, as_default, explain, show
from mtl_core.testing import command


def test_a_plugin_in_a_plain_file_is_read(idea_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("explain", f"{idea_file.parent}/my_idea.py:MyIdea") == 0
    shown = capsys.readouterr().out
    assert "The mean of the predicted depth." in shown
    assert "coefficient" in shown


@plugin
class Sharp:
    """Entropy of
    class probabilities.

    * a list
    * keeps its lines
    """

    about: ClassVar[About] = About(formula="w · H", source="nowhere", cost="one pass", departs="in nothing")
    weight: float = field(default=0.1, metadata=help("coefficient [0, 1]"))
    tasks: tuple[str, ...] = field(factory=tuple)
    primary: str = field()

    @hookimpl
    def augment(self, images: object) -> object:
        return images


def test_a_record_says_all_that_a_class_says_of_itself() -> None:
    found = _record_of("sharp", "mtl-sharp 1.0", Sharp)
    assert json.loads(json.dumps(found)) == found, "plain types only"
    assert found["summary"] == "Entropy of class probabilities.\n\n* a list\n* keeps its lines"
    assert found["hooks"] == ["augment"]
    assert found["about"]["formula"] == "w · H"
    weight, tasks, primary = found["options"]
    assert weight == {
        "name": "weight", "type": "a number", "default": 0.1, "required": False, "help": "coefficient [0, 1]",
    }  # fmt: skip
    assert (tasks["default"], as_default(tasks)) == ([], "[]")
    assert (primary["required"], primary["default"], as_default(primary)) == (True, None, "required")


def test_brackets_are_text_and_no_markup() -> None:
    console = Console(file=io.StringIO(), width=120)
    show(_record_of("sharp", "mtl-sharp [1.0]", Sharp), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "sharp  (mtl-sharp [1.0])" in shown
    assert "coefficient [0, 1]" in shown
    assert "in nothing" in shown


def test_the_settings_of_an_experiment() -> None:
    found = explain("experiment")
    assert found["distribution"].startswith("mtl-core")
    (epochs,) = [option for option in found["options"] if option["name"] == "epochs"]
    assert epochs["type"] == "a whole number"
    assert epochs["help"]


@pytest.mark.usefixtures("toy")
def test_names_that_are_none() -> None:
    assert explain("toy")["distribution"] == "mtl-toy 1.2"
    with pytest.raises(MtlError, match=r'experimant: no plugin of this name is installed; did you mean "experiment"\?'):
        explain("experimant")
    with pytest.raises(MtlError, match=r'tiy: no plugin of this name is installed; did you mean "toy"\?'):
        explain("tiy")
    with pytest.raises(MtlError, match="jtr: this plugin comes with mtl-jtr, which is not installed"):
        explain("jtr")
