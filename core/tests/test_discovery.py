"""Discovery: metadata only, one line for what is broken, and nothing that a plugin does harms anything else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mtl_core import discovery
from mtl_core.discovery import InstalledPlugin, installed_plugins
from mtl_core.errors import ContractError
from mtl_core.hooks.isolation import check
from mtl_core.hooks.load import load
from mtl_core.settings.toml_file import parse_experiment
from mtl_core.testing import command

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


@pytest.fixture(params=["no metadata", "empty metadata"])
def half_installed(request: pytest.FixtureRequest, install: Install, tmp_path: Path) -> None:
    """The plugin ``half`` of a distribution whose installation was interrupted."""
    install("mtl-half", {"half": "fake_half:Toy"})
    (metadata,) = (tmp_path / "site").glob("mtl_half-*.dist-info/METADATA")
    metadata.unlink() if request.param == "no metadata" else metadata.write_text("")


@pytest.mark.usefixtures("half_installed")
def test_a_half_installed_distribution_is_listed_with_what_to_do(install: Install) -> None:
    install("mtl-fake", {"fake": "fake_one:Toy"})
    fake, half = installed_plugins()
    assert fake.status == "unchecked"
    assert (half.name, half.distribution, half.status) == ("half", "fake-half", "broken")
    assert half.reason == "only half installed, its metadata are incomplete; install it again, or uninstall it"
    with pytest.raises(ContractError, match=r"^fake-half \?: only half installed"):
        load(half)
    assert check(half) == half


@pytest.mark.usefixtures("half_installed")
def test_the_command_lists_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--hooks"], ["--json"]):
        assert command("plugins", *arguments) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "only half installed" in shown


@pytest.mark.usefixtures("half_installed")
def test_a_whole_installation_goes_before_a_half_one(install: Install) -> None:
    install("mtl-whole", {"half": "fake_whole:Toy"})
    assert [(f.distribution, f.status) for f in installed_plugins()] == [
        ("mtl-whole", "unchecked"), ("fake-half", "broken"),
    ]  # fmt: skip
    made = parse_experiment('name = "x"\n[plugins.half]\n', "x.toml").plugins["half"]
    assert type(made).__module__ == "fake_whole"
