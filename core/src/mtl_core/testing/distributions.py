"""Distributions that exist on disk only for one test, as pytest fixtures.

``from mtl_core.testing.distributions import install  # noqa: F401`` in a ``conftest.py`` makes the fixture known.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, distributions
from importlib.metadata import entry_points as all_entry_points
from pathlib import Path

import pytest

from mtl_core import discovery

PLUGIN = """
from typing import Literal
from attrs import field, validators
from mtl_core import hookimpl, plugin

@plugin
class Toy:
    rate: float = field(default=0.5, validator=validators.gt(0))
    mode: Literal["cosine", "l1"] = "cosine"
    size: tuple[int, int] = (4, 8)
    names: tuple[str, ...] = ()
    limit: float | Literal["auto"] = "auto"
    bias: bool = True
    root: str | None = None

    @hookimpl
    def combine_losses(self, losses):
        return losses.sum() * self.rate
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Write a distribution with plugins; only those written here are installed for discovery."""
    site = tmp_path / "site"
    site.mkdir()

    def write(
        name: str, plugins: dict[str, str], source: str = PLUGIN, requires: tuple[str, ...] = (), version: str = "1.2"
    ) -> None:
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = "".join(f"Requires-Dist: {line}\n" for line in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}")
        entries = "".join(f"{plugin} = {value}\n" for plugin, value in plugins.items())
        (info / "entry_points.txt").write_text(f"[{discovery.GROUP}]\n{entries}")
        for value in plugins.values():
            (site / f"{value.partition(':')[0]}.py").write_text(source)

    def entry_points(group: str) -> list[EntryPoint]:
        # commands, observers and kinds of tasks stay those that are installed
        if group != discovery.GROUP:
            return list(all_entry_points(group=group))
        # read at each call: a test writes distributions after the fixture was made
        return [e for d in distributions(path=[str(site)]) for e in d.entry_points.select(group=group)]

    monkeypatch.setattr(discovery, "entry_points", entry_points)
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)
    yield write
    # the next test may write another module of the same name
    for module in [m for m in set(sys.modules) - before if m.startswith("fake_")]:
        del sys.modules[module]


@pytest.fixture
def toy(install: Install) -> None:
    """One installed plugin, ``toy``."""
    install("mtl-toy", {"toy": "fake_toy:Toy"})


TOYS = {"data": "ToyData", "labels": "ToyLabels", "network": "ToyNetwork"}
"""Name in an experiment → class of :mod:`mtl_core.testing.toys`."""


@pytest.fixture
def toys(install: Install) -> None:
    """Three installed plugins that train together: ``data``, ``labels`` and ``network``."""
    source = f"from mtl_core.testing.toys import {', '.join(TOYS.values())}\n"
    install("mtl-toys", {name: f"fake_toys:{cls}" for name, cls in TOYS.items()}, source)
