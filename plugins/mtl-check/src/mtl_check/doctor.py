"""What ``mtl doctor`` looks at. Each look gives lines; one with a remedy is a fault."""

from __future__ import annotations

import platform
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mtl_core import InstalledPlugin, MtlError, check_all, distribution_name, installed_plugins

_GROUPS = ("mtl.commands", "mtl.observers", "mtl.tasks")
"""Entry points beside plugins."""
_SMALLEST = 2 * 1024**3
"""Bytes of free disk below which a run is likely to end early."""


@attrs.frozen
class Line:
    """One thing that was looked at.

    :param remedy: what to do; empty where all is well
    """

    what: str
    found: str
    remedy: str = ""


def look(folder: Path) -> list[Line]:
    """Everything, in the order of its weight.

    :param folder: where runs would be written
    """
    return [
        *_versions(),
        *_requirements(),
        *_twice(),
        *_plugins(),
        *_entry_points(),
        *_devices(),
        _disk(folder),
        _training(),
    ]


def _versions() -> Iterator[Line]:
    yield Line("Python", f"{platform.python_version()} ({sys.executable})")
    for name in ("mtl-core", "torch", "lightning-fabric", "torchmetrics", "numpy"):
        yield Line(name, metadata.version(name))


def _requirements() -> Iterator[Line]:
    """What distributions of mtl need and is not there, or in another version."""
    ours = [d for d in metadata.distributions() if canonicalize_name(distribution_name(d)).startswith("mtl-")]
    faults = sorted({fault for d in ours for fault in _unmet(d)})
    yield from (Line("requirement", fault, "install what is missing") for fault in faults)
    if not faults:
        yield Line("requirements", f"{len(ours)} distributions of mtl have what they need")


def _unmet(distribution: metadata.Distribution) -> Iterator[str]:
    for text in distribution.requires or ():
        try:
            needed = Requirement(text)
        except InvalidRequirement:
            continue
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            yield f"{distribution.name} needs {needed.name}{needed.specifier}, which is not installed"
            continue
        if not needed.specifier.contains(found, prereleases=True):
            yield f"{distribution.name} needs {needed.name}{needed.specifier}, installed is {found}"


def _twice() -> Iterator[Line]:
    """Distributions with two versions in one folder, of which chance decides which one counts."""
    places = [(distribution_name(d), str(d.locate_file(""))) for d in metadata.distributions()]
    counts = Counter((canonicalize_name(name), folder) for name, folder in places)
    for (name, folder), count in sorted(counts.items()):
        if count > 1 and name.startswith("mtl"):
            yield Line(
                name, f"installed {count} times in {folder}", f"pip uninstall {name} until it is gone, then install it"
            )


def _plugins() -> Iterator[Line]:
    """Each plugin is imported in a process of its own."""
    found = check_all(installed_plugins())
    broken = [one for one in found if one.status != "ok"]
    yield from (Line(f'plugin "{one.name}"', one.status, _cure(one)) for one in broken)
    if not broken:
        yield Line("plugins", f"{len(found)} can be imported")


def _cure(plugin: InstalledPlugin) -> str:
    return plugin.reason or f"install {plugin.distribution} again"


def _entry_points() -> Iterator[Line]:
    """Commands, observers and kinds of tasks that cannot be imported: left over from another version, mostly."""
    count, stale = 0, []
    for group in _GROUPS:
        for entry in metadata.entry_points(group=group):
            count += 1
            try:
                entry.load()
            except Exception as error:
                owner = (distribution_name(entry.dist) if entry.dist else "") or "its distribution"
                found = f"{entry.value} cannot be imported ({type(error).__name__}: {error})"
                stale.append(Line(f"{group} {entry.name}", found, f"install {owner} again, or uninstall it"))
    yield from stale
    if not stale:
        yield Line("entry points", f"{count} commands, observers and kinds of tasks can be imported")


def _devices() -> Iterator[Line]:
    import torch

    yield Line("CPU", f"{torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            made = torch.cuda.get_device_properties(index)
            yield Line(f"cuda:{index}", f"{made.name}, {made.total_memory / 1024**3:.0f} GiB")
    elif torch.version.cuda is not None:
        yield Line("CUDA", f"none that torch can use (torch is built for CUDA {torch.version.cuda}); runs use the CPU")
    if torch.backends.mps.is_available():
        yield Line("mps", "available")


def _disk(folder: Path) -> Line:
    free = shutil.disk_usage(folder).free
    remedy = "" if free > _SMALLEST else "free some space, or write runs elsewhere with --out"
    return Line("disk", f"{free / 1024**3:.1f} GiB free in {folder}", remedy)


def _training() -> Line:
    """Two steps on toy data, on the device that a run would take."""
    from mtl_core import Experiment, train
    from mtl_core.testing import ToyData, ToyLabels, ToyNetwork

    plugins = {"data": ToyData(), "labels": ToyLabels(), "network": ToyNetwork()}
    with TemporaryDirectory() as folder:
        try:
            run = train(Experiment(name="doctor", plugins=plugins, epochs=1, batch_size=4), Path(folder) / "run")
        except (MtlError, RuntimeError, OSError) as error:
            text = str(error).strip().partition("\n")[0]
            return Line("a training of two steps", f"failed: {text}", "see the message; `mtl train` would say the same")
        losses = [record.get("train/loss") for record in run.history()]
    return Line("a training of two steps", f"ends with a loss of {losses[-1]:.3g}" if losses[-1] else "ends")
