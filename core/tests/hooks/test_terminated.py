"""SIGTERM that arrives while a plugin is imported, made or called ends the program, and is not taken for its fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtl_core.discovery import installed_plugins
from mtl_core.errors import Terminated
from mtl_core.hooks.attribution import with_plugin_note
from mtl_core.hooks.load import load
from mtl_core.hooks.plain_file import _load_module
from mtl_core.settings.toml_file import parse_experiment
from mtl_core.testing.distributions import Install

IMPORTED = "from mtl_core.errors import Terminated\nraise Terminated(143)\n"
MADE = """
from mtl_core import hookimpl, plugin
from mtl_core.errors import Terminated

@plugin
class Toy:
    def __attrs_post_init__(self): raise Terminated(143)
    @hookimpl
    def after_epoch(self): pass
"""


def test_while_a_plugin_is_imported(install: Install) -> None:
    install("mtl-bad", {"bad": "fake_bad:Toy"}, IMPORTED)
    (found,) = installed_plugins()
    with pytest.raises(Terminated):
        load(found)


def test_while_a_plugin_is_made(install: Install) -> None:
    install("mtl-bad", {"bad": "fake_bad:Toy"}, MADE)
    with pytest.raises(Terminated):
        parse_experiment('name = "x"\n[plugins.bad]\n', "x.toml")


def test_while_a_hook_is_called() -> None:
    def setup() -> None:
        raise Terminated(143)

    with pytest.raises(Terminated):
        with_plugin_note("bad", setup)()


def test_while_a_plain_file_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "my_idea.py"
    file.write_text(IMPORTED, "utf-8")
    with pytest.raises(Terminated):
        _load_module(file)
