"""Places that one plugin fills: who can, who does, and what is wrong with the choice."""

from __future__ import annotations

import pytest
from attrs import field
from torch import nn

from mtl_core.errors import ExperimentError
from mtl_core.hooks.exclusive import check_places, check_use, choose
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.hooks.relay import Hooks


@plugin
class Encoder:
    """Fills one place, or two."""

    heads: bool = field(default=True)

    @property
    def fills(self) -> tuple[str, ...]:
        return ("build_backbone", "build_heads") if self.heads else ("build_backbone",)

    @hookimpl
    def build_backbone(self) -> nn.Module:
        return nn.Identity()

    @hookimpl
    def build_heads(self) -> nn.ModuleDict:
        return nn.ModuleDict()


def test_an_instance_fills_the_places_that_its_options_say() -> None:
    (problem,) = check_places({"a": Encoder(), "b": Encoder(heads=False)}, {})
    assert problem.startswith("build_backbone: a and b both fill this place")
    backbone, heads = check_places({"a": Encoder(), "b": Encoder()}, {})
    assert backbone == problem
    assert heads.startswith("build_heads: a and b both fill this place")


def test_two_plugins_for_one_place_are_settled_by_use() -> None:
    able = {"build_backbone": ["a", "b"], "build_heads": ["a"]}
    places, problems = choose(able, {"build_backbone": "b"})
    assert places == {"build_backbone": "b", "build_heads": "a"}
    assert problems == []
    _, problems = choose(able, {})
    line = '[use] build_backbone = "a" or build_backbone = "b"'
    assert problems == [f"build_backbone: a and b both fill this place; choose one: {line}"]


def test_a_plugin_that_does_not_fill_the_place_is_refused() -> None:
    _, problems = choose({"build_heads": ["a"]}, {"build_heads": "b"})
    assert problems == ["use.build_heads: plugin \"b\" does not fill it; expected one of ['a']"]


def test_names_in_use_are_checked_with_the_nearest_known_ones() -> None:
    problems = check_use({"build_head": "a", "build_heads": "bb"}, ["a", "b"])
    assert problems[0].startswith('use.build_head: no exclusive hook of this name; did you mean "build_heads"?')
    assert problems[1].startswith('use.build_heads: the experiment has no plugin "bb"')


def test_a_plugin_that_could_not_be_made_is_not_blamed_twice() -> None:
    assert check_places({"a": Encoder(), "broken": None}, {"build_backbone": "broken"}) == []
    (problem,) = check_places({"a": Encoder(), "b": Encoder(heads=False), "broken": None}, {})
    assert problem.startswith("build_backbone: a and b both fill this place")


def test_every_mistake_in_use_is_reported_when_the_plugins_are_opened() -> None:
    use = {"build_head": "a", "combine_losses": "gone"}
    with pytest.raises(ExperimentError) as error:
        Hooks({"a": Encoder(), "b": Encoder(heads=False)}, use, required=())
    unknown, absent, contested = error.value.problems
    assert unknown.startswith("use.build_head: no exclusive hook of this name")
    assert absent.startswith('use.combine_losses: the experiment has no plugin "gone"')
    assert contested.startswith("build_backbone: a and b both fill this place")
