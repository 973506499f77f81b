"""The hook specs say of themselves what the tables and the relay need."""

from __future__ import annotations

import inspect
import re

import pytest

from mtl_core.hooks import hookspecs
from mtl_core.hooks.relay import Hooks
from mtl_core.hooks.spec_table import exclusive_hooks, hook_arguments

HOOKS = list(hook_arguments())


def doc_of(hook: str) -> str:
    return inspect.cleandoc(getattr(hookspecs, hook).__doc__ or "")


@pytest.mark.parametrize("hook", HOOKS)
def test_a_spec_explains_its_arguments_and_no_others(hook: str) -> None:
    explained = re.findall(r"^:param (\w+):", doc_of(hook), re.MULTILINE)
    assert not set(explained) - set(hook_arguments()[hook])
    assert len(set(explained)) == len(explained)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_spec_says_what_it_gives_and_of_how_many_plugins(hook: str) -> None:
    text = doc_of(hook)
    assert re.search(r"^:gives: \S", text, re.MULTILINE)
    assert re.search(r"^:how many: \S", text, re.MULTILINE)
    assert text.splitlines()[0].endswith(".")


@pytest.mark.parametrize("hook", HOOKS)
def test_an_exclusive_place_is_said_to_be_one(hook: str) -> None:
    assert (hook in exclusive_hooks()) == bool(re.search(r"(^|\. )Exclusive\b", doc_of(hook), re.MULTILINE))


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_called_by_the_relay(hook: str) -> None:
    assert hook in inspect.getsource(inspect.getmodule(Hooks))  # type: ignore[arg-type]
