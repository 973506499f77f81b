"""Which plugins keep state that no module holds."""

from __future__ import annotations

from typing import Any

import torch

from mtl_core.hooks.relay import Hooks


def stateful(hooks: Hooks) -> dict[str, Any]:
    """Plugins that are no modules and keep state of their own."""
    return {
        name: plugin
        for name, plugin in hooks.plugins.items()
        if hasattr(plugin, "load_state_dict") and not isinstance(plugin, torch.nn.Module)
    }
