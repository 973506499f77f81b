"""The table of known plugins, for hints; that it is complete is tested where all distributions are."""

from __future__ import annotations

import re

from mtl_core.settings.plugin_distributions import distribution_of_plugins


def test_names_of_plugins_and_of_distributions() -> None:
    found = distribution_of_plugins()
    assert found["jtr"] == "mtl-jtr"
    assert found["gradnorm"] == "mtl-weighting"
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", name) for name in found)
    assert all(re.fullmatch(r"mtl-[a-z0-9-]+", distribution) for distribution in found.values())


def test_it_is_read_once() -> None:
    assert distribution_of_plugins() is distribution_of_plugins()
