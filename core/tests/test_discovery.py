"""Discovery: metadata only, one line for what is broken, and nothing that a plugin does harms anything else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from mtl_core import discovery
from mtl_core.discovery import InstalledPlugin, installed_plugins
from mtl_core.errors import ContractError
from mtl_core.hooks.isolation import check
from mtl_core.hooks.load import load

Install = Callable[..., None]
RAISES = "raise RuntimeError('no licence\\nsecond line')"


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


def test_a_class_of_no_distribution_goes_by_its_own_name(install: Install) -> None:
    class Homemade: ...

    assert discovery.name_of(Homemade, installed_plugins()) == "homemade"
