"""A plugin's name on what it raises and on what it logs."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from attrs import field
from torch import Tensor

from mtl_core.errors import ContractError, ExperimentError, Terminated
from mtl_core.hooks.attribution import guarded, logging_as, with_plugin_note
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.hooks.relay import Hooks
from mtl_core.step.step import Step
from mtl_core.testing.factories import make_step, make_tasks


@plugin
class Broken:
    """Cannot augment."""

    @hookimpl
    def augment(self, images: Tensor) -> Tensor:
        raise RuntimeError("out of order")


def test_what_a_plugin_raises_names_plugin_and_hook() -> None:
    hooks = Hooks({"b": Broken()}, required=())
    with pytest.raises(RuntimeError, match="out of order") as caught:
        hooks.augment(torch.ones(1), torch.Generator())
    assert caught.value.__notes__ == ['in plugin "b", hook augment']


@plugin
class Partly:
    """Combines losses, or augments, or both."""

    only: tuple[str, ...] = field(default=("combine_losses", "augment"))

    @property
    def fills(self) -> tuple[str, ...]:
        return self.only

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return losses.sum()

    @hookimpl
    def augment(self, images: Tensor) -> Tensor:
        return images * 3


def test_an_instance_may_answer_some_of_its_hooks_only() -> None:
    plugins = {"a": Partly(only=("augment",)), "b": Partly(only=("combine_losses",))}
    hooks = Hooks(plugins, required=())
    assert hooks.places == {"combine_losses": "b"}
    assert hooks.augment(torch.ones(1), torch.Generator()).tolist() == [3]
    with pytest.raises(ExperimentError, match='"a" does not fill it'):
        Hooks(plugins, {"combine_losses": "a"}, required=())


class Helped:
    """A method with the name of a hook that is not marked as one, which @plugin would refuse, and one of its own."""

    @hookimpl
    def augment(self, images: Tensor) -> Tensor:
        return self.doubled(images)

    def after_run(self) -> None:
        raise AssertionError("not a hook: it is not marked")

    def doubled(self, images: Tensor) -> Tensor:
        return images * 2


def test_only_marked_methods_are_implementations() -> None:
    found = guarded("helped", Helped())
    assert list(vars(found)) == ["augment"]
    assert found.augment(torch.ones(1)).tolist() == [2]


def raising(error: BaseException) -> Callable[[], None]:
    def setup() -> None:
        raise error

    return cast("Callable[[], None]", with_plugin_note("bad", setup))


@pytest.mark.parametrize("code", [0, 3, None])
def test_a_hook_that_ends_the_program_is_an_error(code: int | None) -> None:
    """With exit code 0 the run would look as if it had succeeded."""
    with pytest.raises(ContractError, match=rf'plugin "bad": setup ended the program \(exit code {code}\)'):
        raising(SystemExit(code))()


@pytest.mark.parametrize("error", [Terminated(143), KeyboardInterrupt()])
def test_who_ends_the_program_from_outside_is_not_taken_for_the_plugin(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        raising(error)()
    assert caught.value is error
    assert not hasattr(error, "__notes__")


def logged_by(name: str, step: Step, **values: float) -> None:
    with logging_as(name, step):
        for key, value in values.items():
            step.log(key, torch.tensor(value))


def test_logged_values_carry_the_plugins_name_beside_those_of_others() -> None:
    step = make_step(make_tasks())
    step.logged = {"core": torch.tensor(1.0)}
    logged_by("a", step, weight=2.0)
    logged_by("a#2", step, weight=3.0)
    assert {key: float(value) for key, value in step.logged.items()} == {"core": 1, "a/weight": 2, "a#2/weight": 3}


def test_a_plugin_sees_nothing_of_what_others_logged() -> None:
    step = make_step(make_tasks())
    logged_by("a", step, weight=2.0)
    with logging_as("b", step):
        assert step.logged == {}


def test_without_a_step_there_is_nothing_to_name() -> None:
    called = SimpleNamespace(times=0)
    with logging_as("a", None):
        called.times += 1
    assert called.times == 1
