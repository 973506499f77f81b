"""A plugin's name on what it raises and on what it logs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mtl_core.errors import ContractError
from mtl_core.hooks.attribution import guarded, logging_as, with_plugin_note
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.testing.factories import make_step, make_tasks


@plugin
class Two:
    """Has two hooks, and answers those that its option names."""

    fills: tuple[str, ...] = ("after_epoch", "setup")

    @hookimpl
    def setup(self) -> None: ...

    @hookimpl
    def after_epoch(self) -> None: ...


@pytest.mark.parametrize("fills", [("setup", "after_epoch"), ("setup",), ()])
def test_an_instance_has_the_hooks_that_it_fills(fills: tuple[str, ...]) -> None:
    assert set(vars(guarded("two", Two(fills=fills)))) == set(fills)


def raising(error: BaseException) -> Callable[[], None]:
    def setup() -> None:
        raise error

    return setup


def test_an_error_is_noted_and_stays_the_same_error() -> None:
    error = ValueError("no such file")
    with pytest.raises(ValueError, match="no such file") as raised:
        with_plugin_note("jtr#2", raising(error))()
    assert raised.value is error
    assert error.__notes__ == ['in plugin "jtr#2", hook setup']


def test_a_plugin_cannot_end_the_program_as_if_it_had_succeeded() -> None:
    with pytest.raises(ContractError, match=r'plugin "bad": setup ended the program \(exit code 0\)'):
        with_plugin_note("bad", raising(SystemExit(0)))()


def test_a_keyboard_interrupt_is_not_the_plugins_fault() -> None:
    with pytest.raises(KeyboardInterrupt) as raised:
        with_plugin_note("good", raising(KeyboardInterrupt()))()
    assert not hasattr(raised.value, "__notes__")


def test_what_is_logged_gets_the_name_of_the_plugin_that_logs_it() -> None:
    step = make_step(make_tasks())
    for name in ("uw", "uw#2"):
        with logging_as(name, step):
            assert step.logged == {}, "a plugin sees nothing that another one logged"
            step.log("weight", torch.ones(()))
    assert set(step.logged) == {"uw/weight", "uw#2/weight"}


def test_without_a_step_nothing_is_logged() -> None:
    with logging_as("ial", None):
        pass
