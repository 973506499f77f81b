"""Discovery: metadata only, one line for what is broken, and nothing that a plugin does harms anything else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from mtl_core import discovery
from mtl_core.commands.plugins import listing
from mtl_core.discovery import InstalledPlugin, installed_plugins
from mtl_core.errors import ContractError
from mtl_core.hooks.isolation import check, check_all
from mtl_core.hooks.load import load
from mtl_core.hooks.markers import HOOK_VERSION
from mtl_core.hooks.spec_table import hooks_of

Install = Callable[..., None]
RAISES = "raise RuntimeError('no licence\\nsecond line')"
MISSING = "import fake_absent_package.part"
LEAVES = "import sys; sys.exit(3)"
KILLED = "import os; os._exit(7)"
NOT_A_CLASS = "Toy = 3"
UNDECORATED = "class Toy: ..."
NOTHING_TO_CALL = "from mtl_core import plugin\n@plugin\nclass Toy: ..."
NEWER = f"from mtl_core import plugin\n@plugin(hooks={HOOK_VERSION + 1})\nclass Toy: ..."
PRINTS = "print('hello'); import os; os.write(1, b'noise')\n"


def only(name: str) -> InstalledPlugin:
    return next(found for found in installed_plugins() if found.name == name)


def test_metadata_is_read_without_importing(install: Install) -> None:
    install("mtl-fake", {"fake": "fake_one:Toy"}, "raise RuntimeError", ("mtl-core>=0", "attrs"))
    found = only("fake")
    assert (found.distribution, found.version, found.value) == ("mtl-fake", "1.2", "fake_one:Toy")
    assert (found.status, found.reason, found.hooks, found.requires_core) == ("unchecked", "", (), ">=0")
    assert "fake_one" not in sys.modules


def test_discovery_and_settings_import_no_torch() -> None:
    code = (
        "import sys, mtl_core.discovery as d, mtl_core.settings.toml_file\n"
        "d.installed_plugins(); print('torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("requires", "core", "status"),
    [
        (("mtl-core>=0.1,<0.2",), "0.1.7", "unchecked"),
        (("mtl-core>=0.1,<0.2",), "0.2.0", "incompatible"),
        (("MTL_Core>=0.3",), "0.2.0", "incompatible"),
        (('mtl-core>=9; python_version < "3"',), "0.2.0", "unchecked"),
        (('mtl-core>=9; extra == "new"',), "0.2.0", "unchecked"),
        (("mtl-core>=0.1",), "0.2.0.dev1", "unchecked"),
        (("attrs", "not a requirement!"), "0.2.0", "unchecked"),
    ],
)
def test_required_core_is_compared(install: Install, requires: tuple[str, ...], core: str, status: str) -> None:
    install("mtl-fake", {"fake": "fake_one:Toy"}, requires=requires)
    assert [found.status for found in installed_plugins(core)] == [status]


def test_an_incompatible_plugin_says_what_it_needs_and_is_not_imported(install: Install) -> None:
    install("mtl-fake", {"fake": "fake_one:Toy"}, RAISES, ("mtl-core>=7",))
    (found,) = installed_plugins("0.1.0")
    assert found.reason == "needs mtl-core>=7, installed is 0.1.0; install a version of mtl-fake for it"
    with pytest.raises(ContractError, match=r"mtl-fake 1\.2: needs mtl-core>=7"):
        load(found)
    assert check(found) == found


def test_two_distributions_with_one_name_are_reported(install: Install) -> None:
    install("mtl-a", {"fake": "fake_a:Toy"})
    install("mtl-b", {"fake": "fake_b:Toy", "other": "fake_b:Toy"})
    found = installed_plugins()
    assert [(f.name, f.distribution, f.status) for f in found] == [
        ("fake", "mtl-a", "conflict"),
        ("fake", "mtl-b", "conflict"),
        ("other", "mtl-b", "unchecked"),
    ]
    assert "mtl-a and mtl-b both have a plugin of this name; uninstall one of them" in found[0].reason


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


@pytest.mark.parametrize(("source", "message"), BROKEN.items())
def test_a_broken_plugin_is_one_line(install: Install, source: str, message: str) -> None:
    install("mtl-fake", {"fake": "fake_one:Toy"}, source)
    with pytest.raises(ContractError) as error:
        load(only("fake"))
    text = str(error.value)
    assert text.startswith("mtl-fake 1.2: ")
    assert message in text
    assert "\n" not in text


def test_plugins_are_checked_in_processes_of_their_own(install: Install, capfd: pytest.CaptureFixture[str]) -> None:
    sound = subprocess_safe_source()
    install("mtl-noisy", {"noisy": "fake_noisy:Toy"}, PRINTS + sound)
    install("mtl-killed", {"killed": "fake_killed:Toy"}, KILLED)
    install("mtl-leaves", {"leaves": "fake_leaves:Toy"}, LEAVES)
    checked = {found.name: found for found in check_all(installed_plugins())}
    assert (checked["noisy"].status, checked["noisy"].hooks) == ("ok", ("augment",))
    assert checked["killed"].status == checked["leaves"].status == "broken"
    assert checked["killed"].reason == "mtl-killed 1.2: its import ended the process (exit code 7)"
    assert "SystemExit: 3" in checked["leaves"].reason
    assert capfd.readouterr() == ("", "")
    assert not {"fake_noisy", "fake_killed", "fake_leaves"} & set(sys.modules)


def subprocess_safe_source() -> str:
    return (
        "from mtl_core import hookimpl, plugin\n"
        "@plugin\nclass Toy:\n    @hookimpl\n    def augment(self, images): ...\n"
    )


def test_an_endless_import_is_cut_off(install: Install) -> None:
    install("mtl-slow", {"slow": "fake_slow:Toy"}, "import time; time.sleep(600)")
    found = check(only("slow"), timeout=0.5)
    assert (found.status, found.reason) == ("broken", "mtl-slow 1.2: its import took longer than 0.5 s")


def test_a_class_of_no_distribution_goes_by_its_own_name(install: Install) -> None:
    class Homemade: ...

    assert discovery.name_of(Homemade, installed_plugins()) == "homemade"


def test_the_listing_is_plain_rows(install: Install) -> None:
    install("mtl-fake", {"fake": "fake_one:Toy"}, subprocess_safe_source())
    about = {"name": "fake", "place": "photometry", "summary": None}
    row = about | {"distribution": "mtl-fake", "version": "1.2", "status": "unchecked", "reason": None}
    assert listing() == [row | {"hooks": None}]
    assert listing(hooks=True) == [row | {"status": "ok", "hooks": ["augment"]}]
