"""Which distribution has which plugin, of those that this project knows: for hints where one is not installed."""

from __future__ import annotations

import functools
import json
from importlib.resources import files


@functools.cache
def distribution_of_plugins() -> dict[str, str]:
    """Name of a plugin → its distribution. The table is data of the package; a test compares it with the repository."""
    table = files("mtl_core.settings").joinpath("plugin_distributions.json")
    found: dict[str, str] = json.loads(table.read_text("utf-8"))
    return found
