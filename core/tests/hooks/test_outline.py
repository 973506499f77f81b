"""What a plugin is for, from its source alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mtl_core import discovery
from mtl_core.hooks.outline import PLACES, Outline, outline_of
from mtl_core.hooks.spec_table import hook_arguments

Install = Callable[..., None]

SOURCE = '''
raise RuntimeError("imported")

class Base:
    @hookimpl
    def combine_losses(self, losses): ...

@plugin
class Toy(Base):
    """Does toys.

    And more.
    """
    @hookimpl
    def compute_regularizer(self, step): ...

@plugin
class Silent:
    def build_dataset(self, split): ...

class Loop(Loop):
    """Derives from itself."""
'''


def outlines() -> dict[str, Outline]:
    return {found.name: outline_of(found) for found in discovery.installed_plugins()}


def test_nothing_is_imported(install: Install) -> None:
    install("mtl-toy", {"toy": "fake_outline:Toy", "silent": "fake_outline:Silent"}, SOURCE)
    assert outlines() == {"toy": Outline("loss rule", "Does toys."), "silent": Outline()}
    assert "fake_outline" not in sys.modules


def test_a_class_is_found_where_its_package_takes_it_from(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "more" / "fake_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("from fake_package.inner.deep import Real as Toy\nfrom .beside import Other\n")
    (package / "inner" / "__init__.py").write_text("")
    hook = "    @hookimpl\n    def {}(self): ...\n"
    (package / "inner" / "deep.py").write_text('class Real:\n    """Deep."""\n' + hook.format("augment"))
    (package / "beside.py").write_text('class Other:\n    """Beside."""\n' + hook.format("make_label_mask"))
    monkeypatch.syspath_prepend(str(tmp_path / "more"))
    install("mtl-toy", {"toy": "fake_package:Toy", "other": "fake_package:Other"})
    assert outlines() == {"toy": Outline("photometry", "Deep."), "other": Outline("label scenario", "Beside.")}


@pytest.mark.parametrize("value", ["fake_absent:Toy", "fake_outline:Absent", "fake_outline:Loop"])
def test_what_is_not_found_is_empty(value: str, install: Install, tmp_path: Path) -> None:
    install("mtl-toy", {"toy": value}, SOURCE)
    if value.startswith("fake_absent"):
        (tmp_path / "site" / "fake_absent.py").unlink()
    assert outlines()["toy"].place == ""


def test_a_file_that_is_no_python_is_empty(install: Install) -> None:
    install("mtl-toy", {"toy": "fake_broken:Toy"}, "class (")
    assert outlines() == {"toy": Outline()}


def test_places_are_of_hooks() -> None:
    assert set(PLACES) <= set(hook_arguments())
