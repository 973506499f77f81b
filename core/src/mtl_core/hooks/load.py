"""Import a plugin's class, with one line for whatever goes wrong. Imports no torch of its own."""

from __future__ import annotations

from typing import Any

from mtl_core.discovery import InstalledPlugin, import_value
from mtl_core.errors import ContractError, Terminated
from mtl_core.hooks.markers import HOOK_VERSION
from mtl_core.hooks.spec_table import hooks_of


def load(found: InstalledPlugin) -> type[Any]:
    """Import a plugin's class.

    :raises ContractError: it cannot be imported, is no ``@plugin`` class, or was written for another hook version; the
        message is one line with distribution, version, cause and remedy
    """
    who = f"{found.distribution} {found.version}"
    if found.reason:
        raise ContractError(f"{who}: {found.reason}")
    try:
        cls: type[Any] = import_value(found.value)
    except (KeyboardInterrupt, Terminated):
        raise
    except BaseException as error:  # a plugin may even leave the process while it is imported
        raise ContractError(f"{who}: cannot be imported: {cause(error)}; {_remedy(error, found)}") from error
    _check_class(cls, found)
    return cls


def cause(error: BaseException) -> str:
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _remedy(error: BaseException, found: InstalledPlugin) -> str:
    missing = (getattr(error, "name", None) or "") if isinstance(error, ModuleNotFoundError) else ""
    # a missing module of another package; one of the plugin's own package means a broken distribution
    if missing and missing.partition(".")[0] != found.value.partition(".")[0].partition(":")[0]:
        return f"install {missing.partition('.')[0]!r}, or {found.distribution} again"
    return f"install another version of {found.distribution}, or uninstall it"


def _check_class(cls: Any, found: InstalledPlugin) -> None:
    who = f"{found.distribution} {found.version}"
    # vars, not getattr: a subclass without @plugin would inherit the version of its base
    built = vars(cls).get("mtl_hook_version") if isinstance(cls, type) else None
    if built is None:
        raise ContractError(f"{who}: {found.value} is not a class declared with @plugin; the author has to correct it")
    if built != HOOK_VERSION:
        raise ContractError(
            f"{who}: built for hook version {built}, this core has {HOOK_VERSION}; "
            f"install a version of {found.distribution} for this core"
        )
    if not hooks_of(cls):
        raise ContractError(f"{who}: {found.value} has no @hookimpl method, so that nothing would ever call it")
