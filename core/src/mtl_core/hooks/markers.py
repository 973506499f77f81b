"""The markers of hook specs and implementations, and the version of the specs. Imports no torch."""

from __future__ import annotations

import pluggy

HOOK_VERSION = 2
"""Version of the hook specs; a plugin written for another one is listed with that reason and never called."""

hookspec = pluggy.HookspecMarker("mtl")

hookimpl = pluggy.HookimplMarker("mtl")
