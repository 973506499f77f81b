"""A plugin that is a class in a plain file beside the experiment."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mtl_core import (
    ExperimentError,
    load_experiment,
)
from mtl_core.hooks.plain_file import KEY, load_from_file, origin, origins


def test_it_is_a_plugin_like_any_other(idea_file: Path) -> None:
    path = list(sys.path)
    made = load_experiment(idea_file, ["plugins.myidea.weight=3", 'plugins."./my_idea.py:MyIdea".weight=4'])
    assert sys.path == path
    assert list(made.plugins) == ["data", "labels", "network", "myidea"]
    assert repr(made.plugins["myidea"]) == "MyIdea(weight=4.0)"
    assert not (idea_file.parent / "__pycache__").exists()


WRONG = {
    "no file": ("./my_ideas.py:MyIdea", None, 'there is no file {folder}/my_ideas.py; did you mean "my_idea.py"?'),
    "no class": ("./my_idea.py:Idea", None, "there is no class 'Idea'; did you mean \"MyIdea\"? (it has: MyIdea)"),
    "the class is left out": ("./my_idea.py", None, 'expected the class behind the file, as in "./my_idea.py:MyIdea"'),
    "no syntax": ("./my_idea.py:MyIdea", "x = 1\nclass", "my_idea.py:2: cannot be imported: SyntaxError: "),
    "an error": ("./my_idea.py:MyIdea", "x = 1\n1 / 0\n", ":2: cannot be imported: ZeroDivisionError: division"),
    "it ends": ("./my_idea.py:MyIdea", "raise SystemExit(3)\n", "my_idea.py:1: cannot be imported: SystemExit: 3"),
    "a file beside it": (
        "./my_idea.py:MyIdea", "import helper_of_mine\n",
        "ModuleNotFoundError: No module named 'helper_of_mine'; install it (files beside this one are not found",
    ),
    "no plugin": ("./my_idea.py:MyIdea", "class MyIdea: pass\n", "is not a class declared with @plugin; write"),
    "no hook": (
        "./my_idea.py:MyIdea", "from mtl_core import plugin\n@plugin\nclass MyIdea:\n    x: int = 1\n",
        "MyIdea has no @hookimpl method",
    ),
    "a hook without a mark": (
        "./my_idea.py:MyIdea",
        "from mtl_core import plugin\n@plugin\nclass MyIdea:\n    def augment(self, images): return images\n",
        "ContractError: MyIdea.augment: has the name of a hook but no @hookimpl",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_line(case: str, idea_file: Path) -> None:
    key, text, message = WRONG[case]
    if text is not None:
        (idea_file.parent / "my_idea.py").write_text(text)
    idea_file.write_text(idea_file.read_text().partition('[plugins."./')[0] + f'[plugins."{key}"]\n')
    with pytest.raises(ExperimentError) as caught:
        load_experiment(idea_file)
    (line,) = caught.value.problems
    assert line.startswith(f"plugins.{key}: ")
    assert message.format(folder=idea_file.parent) in line
    assert "\n" not in line


def test_an_edited_file_is_loaded_anew(idea_file: Path) -> None:
    first = load_experiment(idea_file).plugins["myidea"]
    source = idea_file.parent / "my_idea.py"
    source.write_text(source.read_text().replace("mean of", "sum of"))
    second = load_experiment(idea_file).plugins["myidea"]
    assert (type(first).__doc__, type(second).__doc__) == (
        "The mean of the predicted depth.", "The sum of the predicted depth.",
    )  # fmt: skip


def test_other_processes_find_the_file(idea_file: Path) -> None:
    """A loader's worker that is spawned unpickles the plugin without having read the experiment."""
    cls: Any = load_from_file(idea_file.parent / "my_idea.py", "MyIdea")
    code = "import sys, pickle; made = pickle.load(sys.stdin.buffer); print(type(made).__name__, made.weight)"
    ended = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(cls(weight=3.0)), capture_output=True)
    assert ended.stdout.split() == [b"MyIdea", b"3.0"], ended.stderr


def test_a_plugin_knows_its_file(idea_file: Path) -> None:
    made = load_experiment(idea_file)
    found = origins(made.plugins)
    text = (idea_file.parent / "my_idea.py").read_bytes()
    assert {name: (one.path.name, one.text) for name, one in found.items()} == {"myidea": ("my_idea.py", text)}
    assert found["myidea"].digest == hashlib.sha256(text).hexdigest()[:32]
    assert origin(object()) is None


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("./my_idea.py:MyIdea", ("./my_idea.py", "MyIdea", None)),
        ("/a b/m.py:C#2", ("/a b/m.py", "C", "#2")),
        ("jtr", None),
        ("my_idea.py", None),
        ("my_idea.py:2C", None),
        ("my_idea.py:C#", None),
    ],
)
def test_the_name_of_a_plugin_in_a_file(key: str, parts: tuple[str, str, str | None] | None) -> None:
    found = KEY.fullmatch(key)
    assert (found and found.group("path", "cls", "instance")) == parts
