"""Which plugins are installed, read from metadata; a plugin is imported when an experiment names it.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.metadata import Distribution, PackageNotFoundError, entry_points, version
from typing import Any

import attrs
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

GROUP = "mtl.plugins"

CORE = "mtl-core"


@attrs.frozen(kw_only=True)
class InstalledPlugin:
    """An installed plugin, as its distribution's metadata describes it.

    ``value`` is ``module:Class``; ``requires_core`` the versions of core that it works with; ``status`` is one of
    ``unchecked``, ``incompatible``, ``conflict`` (two distributions, one name), ``broken`` (half installed), and ``ok``
    or ``broken`` after :func:`mtl_core.hooks.isolation.check`, which also finds the ``hooks``; ``reason`` is one line.
    """

    name: str
    distribution: str
    version: str
    value: str
    requires_core: str = ""
    status: str = "unchecked"
    reason: str = ""
    hooks: tuple[str, ...] = ()


def installed_plugins(core: str | None = None, group: str = GROUP) -> list[InstalledPlugin]:
    """Every installed plugin, sorted by name, half installed ones behind others of the name; no plugin is imported.

    :param core: version of core to compare with; the installed one where it is None
    :param group: entry-point group to read
    """
    core = core_version() if core is None else core
    found = [_describe(e.name, e.value, e.dist, core) for e in entry_points(group=group) if e.dist is not None]
    return sorted(_with_conflicts(found), key=lambda f: (f.name, f.status == "broken", f.distribution))


def distribution_name(dist: Distribution) -> str:
    """A distribution's name; empty where its metadata are incomplete, as an interrupted installation leaves them."""
    try:
        return str((dist.metadata.get_all("Name") or [""])[0])
    except (TypeError, FileNotFoundError):  # there is no such file; the second from Python 3.15 on
        return ""


def core_version() -> str:
    try:
        return version(CORE)
    except PackageNotFoundError:
        return ""  # run from a source folder: there is no version to compare with


def _describe(name: str, value: str, dist: Distribution, core: str) -> InstalledPlugin:
    if not distribution_name(dist):
        return _half_installed(name, value)
    wanted = _requirement(dist.requires or (), CORE)
    fits = not core or wanted is None or wanted.specifier.contains(core, prereleases=True)
    requires = str(wanted.specifier) if wanted else ""
    reason = "" if fits else f"needs {CORE}{requires}, installed is {core}; install a version of {dist.name} for it"
    return InstalledPlugin(
        name=name, distribution=dist.name, version=dist.version, value=value, requires_core=requires,
        status="unchecked" if fits else "incompatible", reason=reason,
    )  # fmt: skip


def _half_installed(name: str, value: str) -> InstalledPlugin:
    package = value.partition(":")[0].partition(".")[0]
    return InstalledPlugin(
        name=name, distribution=package.replace("_", "-"), version="?", value=value, status="broken",
        reason="only half installed, its metadata are incomplete; install it again, or uninstall it",
    )  # fmt: skip


def _requirement(lines: Iterable[str], name: str) -> Requirement | None:
    """The requirement of ``name`` that holds here, if there is one; lines that cannot be read are passed over."""
    for line in lines:
        try:
            parsed = Requirement(line)
        except InvalidRequirement:
            continue
        # with no extra: what `mtl-x[test]` needs does not decide whether the plugin works
        if canonicalize_name(parsed.name) == name and (parsed.marker is None or parsed.marker.evaluate({"extra": ""})):
            return parsed
    return None


def _with_conflicts(found: Sequence[InstalledPlugin]) -> list[InstalledPlugin]:
    owners: dict[str, list[str]] = {}
    for plugin in found:
        if plugin.status != "broken":
            owners.setdefault(plugin.name, []).append(plugin.distribution)
    return [_conflicting(plugin, owners[plugin.name]) if plugin.status != "broken" else plugin for plugin in found]


def _conflicting(found: InstalledPlugin, owners: Sequence[str]) -> InstalledPlugin:
    if len(owners) == 1:
        return found
    reason = f"{' and '.join(sorted(owners))} both have a plugin of this name; uninstall one of them"
    return attrs.evolve(found, status="conflict", reason=reason)


def import_value(value: str) -> Any:
    module, _, attribute = value.partition(":")
    made: Any = import_module(module)
    for part in attribute.split("."):
        made = getattr(made, part)
    return made


def name_of(cls: type, found: Iterable[InstalledPlugin]) -> str:
    """The entry-point name of an imported class; its own name in lower case where no distribution has it."""
    for f in found:
        # names first: importing every installed plugin to find one class would be slow, and may fail
        if f.value.partition(":")[2] == cls.__qualname__ and _same_package(cls, f) and import_value(f.value) is cls:
            return f.name
    return cls.__name__.lower()


def _same_package(cls: type, found: InstalledPlugin) -> bool:
    return cls.__module__.partition(".")[0] == found.value.partition(":")[0].partition(".")[0]
