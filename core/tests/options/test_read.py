"""Every mistake in a table of values, each with its place."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from attrs import field, validators

from mtl_core.errors import ContractError
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.options.convert import Text
from mtl_core.options.fields import help
from mtl_core.options.read import listing, place, read_options, what_is_wrong


@plugin
class Mean:
    """A plugin with options that depend on each other."""

    factor: float = field(default=1.0, validator=validators.gt(0))
    low: float = 0.0
    high: float = field(default=1.0)
    size: tuple[int, int] | None = None

    @high.validator
    def above(self, attribute: object, value: float) -> None:
        if value <= self.low:
            raise ValueError(f"'high' must be above low, {self.low}")

    @hookimpl
    def combine_losses(self, losses: Any) -> Any:
        return losses.mean() * self.factor


def test_a_validator_that_compares_options_runs_beside_the_others() -> None:
    assert read_options(Mean, {"low": 2.0, "high": 1.0, "factor": -1.0}, "plugins.mean")[1] == [
        "plugins.mean.factor: must be > 0, found -1.0",
        "plugins.mean.high: must be above low, 2.0",
    ]
    assert read_options(Mean, {"low": "x", "high": 1.0}, "m")[1] == ['m.low: expected a number, found "x" (text)']


def test_what_could_be_converted_is_given_beside_the_mistakes() -> None:
    made, problems = read_options(Mean, {"factor": 2, "size": [1, "x"], "lou": 1.0}, "plugins.mean")
    assert made == {"factor": 2.0}
    assert problems == [
        'plugins.mean.lou: unknown option; did you mean "low"?',
        'plugins.mean.size[1]: expected a whole number, found "x" (text)',
    ]


def test_a_value_of_the_command_line_is_named_as_one() -> None:
    _, problems = read_options(Mean, {"factor": Text("fast"), "lou": Text("1")}, "plugins.mean")
    assert problems == [
        '--set plugins.mean.lou: unknown option; did you mean "low"?',
        '--set plugins.mean.factor: expected a number, found "fast" (text)',
    ]
    assert place("a.b", Text("1")) == "--set a.b"
    assert place("a.b", "1") == "a.b"


@attrs.define
class Needs:
    """A class with a required option and one that no file could carry."""

    root: str = attrs.field(metadata=help("folder of the data"))
    other: object = None


def test_a_required_option_says_what_it_is() -> None:
    assert read_options(Needs, {})[1] == ["root: missing; expected text (folder of the data)"]
    assert read_options(Needs, {"root": "x", "rot": 1}, settings=["rot"])[1] == [
        'rot: unknown setting (known: root, other); "rot" is a setting of the experiment: write it above the first'
        " [plugins.…]"
    ]


def test_a_type_that_no_file_carries_is_the_authors_fault_and_free_in_python() -> None:
    with pytest.raises(ContractError, match=r"Needs\.other: an experiment file cannot carry the type"):
        read_options(Needs, {"root": "x", "other": 1})
    assert what_is_wrong(Needs, {"root": "x", "other": 1}) == []
    assert what_is_wrong(Mean, {"factor": 0.0}) == ["factor: must be > 0, found 0.0"]


def test_a_class_without_options_says_so() -> None:
    @attrs.define
    class Bare:
        pass

    assert read_options(Bare, {"x": 1}, "plugins.bare")[1] == ["plugins.bare.x: unknown option (it has no options)"]
    assert listing([]) == " (it has no options)"
