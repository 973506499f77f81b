"""``mtl plugins``: the installed plugins as rows. Imports no torch."""

from __future__ import annotations

from typing import Any

from mtl_core.discovery import InstalledPlugin, installed_plugins
from mtl_core.hooks.outline import PLACES, outline_of


def listing(hooks: bool = False) -> list[dict[str, Any]]:
    """Installed plugins as plain rows.

    Name, place, summary, distribution, version, status, reason (or None), hooks (None: unknown).

    :param hooks: check every plugin (:func:`mtl_core.checking.check_all`); otherwise only metadata and source are read
    """
    from mtl_core.hooks.isolation import check_all

    found = installed_plugins()
    return [_row(f) for f in (check_all(found) if hooks else found)]


def _row(found: InstalledPlugin) -> dict[str, Any]:
    outline = outline_of(found)
    return {
        "name": found.name,
        "place": outline.place or None,
        "summary": outline.summary or None,
        "distribution": found.distribution,
        "version": found.version,
        "status": found.status,
        "reason": found.reason or None,
        "hooks": list(found.hooks) if found.status == "ok" else None,
    }


def by_place(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in the order of a run, those of one place together."""
    order = {place: number for number, place in enumerate(dict.fromkeys(PLACES.values()))}
    return sorted(rows, key=lambda row: (order.get(row["place"], len(order)), row["name"]))
