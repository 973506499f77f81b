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

from mtl_core.errors import ContractError
from mtl_core.plugin import HOOK_VERSION, hook_arguments

GROUP = "mtl.plugins"
CORE = "mtl-core"


@attrs.frozen(kw_only=True)
class Found:
    """An installed plugin, as its distribution's metadata describes it.

    ``value`` is ``module:Class``; ``requires_core`` the versions of core that it works with; ``status`` is one of
    ``unchecked``, ``incompatible``, ``conflict`` (two distributions, one name), and ``ok`` or ``broken`` after
    :func:`mtl_core.checking.check`, which also finds the ``hooks``; ``reason`` is one line.
    """

    name: str
    distribution: str
    version: str
    value: str
    requires_core: str = ""
    status: str = "unchecked"
    reason: str = ""
    hooks: tuple[str, ...] = ()


def installed(core: str | None = None) -> list[Found]:
    """Every installed plugin, sorted by name; no plugin is imported.

    :param core: version of core to compare with; the installed one where it is None
    """
    core = core_version() if core is None else core
    found = [describe(e.name, e.value, e.dist, core) for e in entry_points(group=GROUP) if e.dist is not None]
    return sorted(with_conflicts(found), key=lambda f: (f.name, f.distribution))


def core_version() -> str:
    try:
        return version(CORE)
    except PackageNotFoundError:
        return ""  # run from a source folder: there is no version to compare with


def describe(name: str, value: str, dist: Distribution, core: str) -> Found:
    wanted = requirement(dist.requires or (), CORE)
    fits = not core or wanted is None or wanted.specifier.contains(core, prereleases=True)
    requires = str(wanted.specifier) if wanted else ""
    reason = "" if fits else f"needs {CORE}{requires}, installed is {core}; install a version of {dist.name} for it"
    return Found(
        name=name, distribution=dist.name, version=dist.version, value=value, requires_core=requires,
        status="unchecked" if fits else "incompatible", reason=reason,
    )  # fmt: skip


def requirement(lines: Iterable[str], name: str) -> Requirement | None:
    """The requirement of ``name`` that holds here, if there is one; lines that cannot be read are passed over."""
    for line in lines:
        try:
            parsed = Requirement(line)
        except InvalidRequirement:
            continue
        if canonicalize_name(parsed.name) == name and (parsed.marker is None or parsed.marker.evaluate({"extra": ""})):
            return parsed
    return None


def with_conflicts(found: Sequence[Found]) -> list[Found]:
    return [conflicting(f, [o.distribution for o in found if o.name == f.name]) for f in found]


def conflicting(found: Found, owners: Sequence[str]) -> Found:
    if len(owners) == 1:
        return found
    reason = f"{' and '.join(sorted(owners))} both have a plugin of this name; uninstall one of them"
    return attrs.evolve(found, status="conflict", reason=reason)


def load(found: Found) -> type[Any]:
    """Import a plugin's class.

    :raises ContractError: it cannot be imported, is no ``@plugin`` class, or was written for another hook version; the
        message is one line with distribution, version, cause and remedy
    """
    who = f"{found.distribution} {found.version}"
    if found.reason:
        raise ContractError(f"{who}: {found.reason}")
    try:
        cls: type[Any] = import_value(found.value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may even leave the process while it is imported
        raise ContractError(f"{who}: cannot be imported: {cause(error)}; {remedy(error, found)}") from error
    check_class(cls, found)
    return cls


def import_value(value: str) -> Any:
    module, _, attribute = value.partition(":")
    made: Any = import_module(module)
    for part in attribute.split("."):
        made = getattr(made, part)
    return made


def cause(error: BaseException) -> str:
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def remedy(error: BaseException, found: Found) -> str:
    missing = (getattr(error, "name", None) or "") if isinstance(error, ModuleNotFoundError) else ""
    if missing and missing.partition(".")[0] != found.value.partition(".")[0].partition(":")[0]:
        return f"install {missing.partition('.')[0]!r}, or {found.distribution} again"
    return f"install another version of {found.distribution}, or uninstall it"


def check_class(cls: Any, found: Found) -> None:
    who = f"{found.distribution} {found.version}"
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


def hooks_of(cls: type) -> tuple[str, ...]:
    """The hooks that a plugin's class implements, in the order of a run."""
    return tuple(name for name in hook_arguments() if hasattr(getattr(cls, name, None), "mtl_impl"))


def name_of(cls: type, found: Iterable[Found]) -> str:
    """The entry-point name of an imported class; its own name in small letters where no distribution has it."""
    for f in found:
        if f.value.partition(":")[2] == cls.__qualname__ and same_package(cls, f) and import_value(f.value) is cls:
            return f.name
    return cls.__name__.lower()


def same_package(cls: type, found: Found) -> bool:
    return cls.__module__.partition(".")[0] == found.value.partition(":")[0].partition(".")[0]


def listing(hooks: bool = False) -> list[dict[str, Any]]:
    """Installed plugins as plain rows: name, distribution, version, status, reason (or None), hooks (None: unknown).

    :param hooks: check every plugin (:func:`mtl_core.checking.check_all`); otherwise only metadata is read
    """
    from mtl_core.checking import check_all

    found = installed()
    return [row(f) for f in (check_all(found) if hooks else found)]


def row(found: Found) -> dict[str, Any]:
    return {
        "name": found.name,
        "distribution": found.distribution,
        "version": found.version,
        "status": found.status,
        "reason": found.reason or None,
        "hooks": list(found.hooks) if found.status == "ok" else None,
    }
