"""A plugin's class is imported when it is asked for, and whatever goes wrong is one line."""

from __future__ import annotations

import sys

import pytest

from mtl_core import discovery
from mtl_core.discovery import InstalledPlugin, installed_plugins
from mtl_core.errors import ContractError
from mtl_core.hooks.load import load
from mtl_core.hooks.markers import HOOK_VERSION
from mtl_core.hooks.spec_table import hooks_of
from mtl_core.testing.distributions import Install

RAISES = "raise RuntimeError('no licence\\nsecond line')"
MISSING = "import fake_absent_package.part"
LEAVES = "import sys; sys.exit(3)"
NOT_A_CLASS = "Toy = 3"
UNDECORATED = "class Toy: ..."
NOTHING_TO_CALL = "from mtl_core import plugin\n@plugin\nclass Toy: ..."
NEWER = f"from mtl_core import plugin\n@plugin(hooks={HOOK_VERSION + 1})\nclass Toy: ..."
BROKEN = {
    RAISES: "cannot be imported: RuntimeError: no licence; install another version of mtl-fake, or uninstall it",
    MISSING: "No module named 'fake_absent_package'; install 'fake_absent_package', or mtl-fake again",
    LEAVES: "cannot be imported: SystemExit: 3",
    NOT_A_CLASS: "fake_one:Toy is not a class declared with @plugin",
    UNDECORATED: "fake_one:Toy is not a class declared with @plugin",
    NOTHING_TO_CALL: "has no @hookimpl method",
    NEWER: f"built for hook version {HOOK_VERSION + 1}, this core has {HOOK_VERSION}; install a version of mtl-fake",
    "": "AttributeError: module 'fake_one' has no attribute 'Toy'",
    "class": "cannot be imported: SyntaxError",
}


def only(name: str) -> InstalledPlugin:
    return next(found for found in installed_plugins() if found.name == name)


def test_a_sound_plugin_is_loaded(install: Install) -> None:
    install("mtl-fake", {"fake": "fake_one:Toy"})
    cls = load(only("fake"))
    assert cls.__name__ == "Toy"
    assert hooks_of(cls) == ("combine_losses",)
    assert discovery.name_of(cls, installed_plugins()) == "fake"


def test_only_the_plugin_asked_for_is_imported(install: Install) -> None:
    install("mtl-fake", {"fake": "fake_one:Toy"})
    install("mtl-other", {"other": "fake_two:Toy"}, RAISES)
    load(only("fake"))
    assert "fake_two" not in sys.modules


@pytest.mark.parametrize(("source", "message"), BROKEN.items())
def test_a_broken_plugin_is_one_line(install: Install, source: str, message: str) -> None:
    install("mtl-fake", {"fake": "fake_one:Toy"}, source)
    with pytest.raises(ContractError) as error:
        load(only("fake"))
    text = str(error.value)
    assert text.startswith("mtl-fake 1.2: ")
    assert message in text
    assert "\n" not in text
