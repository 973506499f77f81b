"""``mtl plugins``: the installed plugins as rows. Imports no torch."""

from __future__ import annotations

from typing import Any

from mtl_core.discovery import InstalledPlugin, installed_plugins


def listing(hooks: bool = False) -> list[dict[str, Any]]:
    """Installed plugins as plain rows: name, distribution, version, status, reason (or None), hooks (None: unknown).

    :param hooks: check every plugin (:func:`mtl_core.checking.check_all`); otherwise only metadata is read
    """
    from mtl_core.hooks.isolation import check_all

    found = installed_plugins()
    return [row(f) for f in (check_all(found) if hooks else found)]


def row(found: InstalledPlugin) -> dict[str, Any]:
    return {
        "name": found.name,
        "distribution": found.distribution,
        "version": found.version,
        "status": found.status,
        "reason": found.reason or None,
        "hooks": list(found.hooks) if found.status == "ok" else None,
    }
