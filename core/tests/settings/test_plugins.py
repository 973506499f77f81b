"""Tables of an experiment file become plugins, and every one that cannot be made is one problem."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtl_core.discovery import installed_plugins
from mtl_core.errors import ExperimentError
from mtl_core.settings.plugins import read_plugins
from mtl_core.settings.toml_file import load_experiment, parse_experiment
from mtl_core.testing.distributions import Install


def test_names_that_clash(idea_file: Path) -> None:
    idea, text = (idea_file.parent / "my_idea.py").read_text(), idea_file.read_text()
    (idea_file.parent / "other").mkdir()
    (idea_file.parent / "other" / "my_idea.py").write_text(idea.replace("MyIdea", "Second"))
    (idea_file.parent / "third.py").write_text(idea)
    idea_file.write_text(text + '[plugins."./other/my_idea.py:Second"]\n')
    with pytest.raises(ExperimentError, match=r"my_idea.py and .*/other/my_idea.py have the same name; rename one"):
        load_experiment(idea_file)
    idea_file.write_text(text + '[plugins."./third.py:MyIdea"]\n')
    with pytest.raises(ExperimentError, match='another plugin is called "myidea" too; rename the class'):
        load_experiment(idea_file)


HEAD = 'name = "trial"\n'


def problems(text: str, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(ExperimentError) as error:
        parse_experiment(text, "trial.toml", overrides)
    return error.value.problems


@pytest.mark.usefixtures("toy")
def test_misspelt_and_not_installed_are_different_messages() -> None:
    (line,) = problems(HEAD + "[plugins.weather]\n")
    assert line.startswith("plugins.weather: no plugin of this name is installed (installed: toy)")
    assert "pip install" not in line
    assert problems(HEAD + "[plugins.jtr]\n") == (
        "plugins.jtr: this plugin comes with mtl-jtr, which is not installed: pip install mtl-jtr",
    )
    (line,) = problems(HEAD + "[plugins.gradnrom]\n")
    assert line.endswith('; did you mean "gradnorm", which comes with mtl-weighting: pip install mtl-weighting?')


def test_a_broken_plugin_is_one_problem_among_others(install: Install) -> None:
    install("mtl-bad", {"bad": "fake_bad:Toy"}, "import fake_absent_package")
    found = problems("name = 3\n[plugins.bad]\n")
    assert found[0].startswith("name: expected text")
    assert found[1].startswith("plugins.bad: mtl-bad 1.2: cannot be imported: ModuleNotFoundError")
    assert len(found) == 2


HEAD_OF_ONE = """
import sys
from attrs import field
from mtl_core import hookimpl, plugin

def wrong(instance, attribute, value):
    raise RuntimeError("boom")

@plugin
class Toy:
    @hookimpl
    def after_epoch(self): pass
"""


FAULTY = {
    "a validator that raises": ("    x: float = field(default=1.0, validator=wrong)", "raised RuntimeError: boom when"),
    "one that raises when it is made": (
        "    def __attrs_post_init__(self): raise KeyError('a')",
        "raised KeyError: 'a' when its options were read; the author has to correct it",
    ),
    "one that leaves when it is made": ("    def __attrs_post_init__(self): sys.exit(0)", "raised SystemExit: 0 when"),
    "an option of any type": ("    x: object = 1", "Toy.x: an experiment file cannot carry the type <class 'object'>"),
    "an option of no type": ("    x: 'Nope' = 1", "Toy.x: type 'Nope': name 'Nope' is not defined"),
}


@pytest.mark.parametrize("case", FAULTY)
def test_a_plugin_whose_options_cannot_be_read_is_named_with_its_distribution(install: Install, case: str) -> None:
    body, expected = FAULTY[case]
    install("mtl-bad", {"bad": "fake_bad:Toy"}, HEAD_OF_ONE + body + "\n")
    given = "x = 2.0\n" if "validator" in case else ""
    found = problems(f"name = 3\n[plugins.bad]\n{given}")
    assert found[0].startswith("name: expected text")
    assert found[1].startswith("plugins.bad: mtl-bad 1.2: ")
    assert expected in found[1]
    assert len(found) == 2


def test_plugins_that_are_not_named_are_not_imported(install: Install) -> None:
    install("mtl-toy", {"toy": "fake_toy:Toy"})
    install("mtl-bad", {"bad": "fake_bad:Toy"}, "raise RuntimeError")
    assert list(parse_experiment(HEAD + "[plugins.toy]\n", "trial.toml").named) == ["toy"]


ODD = {
    3: "plugins: expected a table for each plugin, found 3 (whole number)",
    None: "plugins: missing; expected a table for each plugin, such as [plugins.NAME] (`mtl plugins` lists them)",
}


@pytest.mark.parametrize("tables", ODD)
def test_tables_that_are_none(tables: object) -> None:
    assert read_plugins(tables, []) == ({}, [ODD[tables]])


ACROSS = """
from mtl_core import hookimpl, plugin

@plugin
class Toy:
    low: float = 0.0
    high: float = 1.0
    def __attrs_post_init__(self):
        if self.low > self.high: raise ValueError("low is above high")
    @hookimpl
    def after_epoch(self): pass
"""


def test_what_a_plugin_checks_across_options_is_a_problem_of_its_table(install: Install) -> None:
    install("mtl-toy", {"toy": "fake_toy:Toy"}, ACROSS)
    made, problems = read_plugins({"toy": {"low": 2.0}, "toy#2": {"low": 0.5}}, installed_plugins())
    assert problems == ["plugins.toy: low is above high"]
    assert made["toy"] is None
    assert made["toy#2"].low == 0.5  # type: ignore[attr-defined]


def test_a_setting_below_a_plugins_header_is_sent_back(install: Install) -> None:
    install("mtl-toy", {"toy": "fake_toy:Toy"}, ACROSS)
    _, (problem,) = read_plugins({"toy": {"epochs": 3}}, installed_plugins())
    assert '"epochs" is a setting of the experiment: write it above the first [plugins.…]' in problem
