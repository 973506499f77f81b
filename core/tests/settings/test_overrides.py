"""``--set KEY=VALUE``: keys become places in the document, mistakes in them one line each."""

from __future__ import annotations

from typing import Any

import pytest

from mtl_core.options.convert import Text
from mtl_core.settings.overrides import apply, split_key


@pytest.mark.parametrize(
    ("key", "steps"),
    [
        ("epochs", ["epochs"]),
        ("plugins.ial.primary", ["plugins", "ial", "primary"]),
        ('plugins."ial#2".primary', ["plugins", "ial#2", "primary"]),
        ("plugins.ial#2.primary", ["plugins", "ial#2", "primary"]),
        ("", [""]),
    ],
)
def test_keys_are_split_at_dots(key: str, steps: list[str]) -> None:
    assert split_key(key) == steps


def test_values_are_put_in_their_places_as_text() -> None:
    document: dict[str, Any] = {"epochs": 3, "plugins": {"ial": {}}}
    for override in ("epochs = 5", "plugins.ial.primary=depth", "use.combine_losses=ial"):
        assert apply(document, override) == []
    assert document == {
        "epochs": "5",
        "plugins": {"ial": {"primary": "depth"}},
        "use": {"combine_losses": "ial"},
    }
    assert isinstance(document["epochs"], Text)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("epochs", "--set epochs: expected KEY=VALUE"),
        ("plugins.ial=depth", "--set plugins.ial=depth: expected plugins.PLUGIN.OPTION=VALUE"),
        ("use=ial", "--set use=ial: expected use.HOOK=PLUGIN"),
        ("epochs.x=1", "--set epochs.x=1: expected epochs=VALUE"),
        ("plugins.ail.primary=depth", '--set plugins.ail.primary=depth: the experiment has no plugin "ail"; did you'),
    ],
)
def test_a_wrong_key_is_one_line_and_changes_nothing(override: str, problem: str) -> None:
    document: dict[str, Any] = {"plugins": {"ial": {}}}
    (found,) = apply(document, override)
    assert found.startswith(problem)
    assert document["plugins"] == {"ial": {}}
