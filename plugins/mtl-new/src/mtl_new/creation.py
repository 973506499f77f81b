"""Make a distribution from a template."""

from __future__ import annotations

import re
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from mtl_core import MtlError, distribution_name, nearest

KINDS = {
    "regularizer": "a loss on predictions",
    "gradient-shaper": "how the tasks' gradients enter the encoder",
    "loss-rule": "one loss of the tasks' losses",
    "label-scenario": "which training sample keeps which label",
    "data-set": "images and labels",
    "backbone": "a shared encoder with a head per task",
    "task-kind": "a kind of task with its loss and metric",
    "augmentation": "the photometry of batches",
}
"""Kind → what a plugin of it does."""
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def create(
    kind: str, name: str, into: Path | str = ".", *, summary: str | None = None, author: str | None = None
) -> Path:
    """Make ``into/mtl-NAME``, a distribution with tests.

    :param kind: one of :data:`KINDS`
    :param name: the plugin's in experiment files: lower-case letters, digits and single hyphens
    :param into: a folder, which is made where it does not exist
    :param summary: what the plugin does, in one line; by default the kind's
    :return: the distribution's folder
    :raises MtlError: the kind or the name cannot be used, or a folder of that name is there; nothing is written then
    """
    folder = Path(into) / f"mtl-{name}"
    _check_kind(kind)
    check_name(name)
    check_free(name, folder)
    given = {"kind": kind, "name": name, "summary": summary, "author": author}
    _write(Path(into), {key: value for key, value in given.items() if value is not None})
    return folder


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise MtlError(f'there is no kind "{kind}"{nearest(kind, KINDS)} (there are: {", ".join(KINDS)})')


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        guess = re.sub(r"[^a-z0-9]+", "-", name.removeprefix("mtl-").lower()).strip("-")
        hint = f'; did you mean "{guess}"?' if _NAME.fullmatch(guess) else ""
        raise MtlError(
            f'the name "{name}": expected lower-case letters, digits and single hyphens, a letter first{hint}'
        )
    if name.startswith("mtl-"):
        raise MtlError(f'the name "{name}": "mtl-" is put before it; give "{name.removeprefix("mtl-")}"')


def check_free(name: str, folder: Path) -> None:
    """Nothing has the name yet: no plugin, no package, no folder."""
    if folder.exists():
        raise MtlError(f"{folder}: is there already; nothing is overwritten: choose another name or another --into")
    for plugin in metadata.entry_points(group="mtl.plugins"):
        if plugin.name == name:
            known = plugin.dist is not None and distribution_name(plugin.dist)
            owner = f" ({known} {plugin.dist.version})" if plugin.dist and known else ""
            raise MtlError(f'the name "{name}": a plugin of this name is installed{owner}; choose another')
    module = f"mtl_{name.replace('-', '_')}"
    if find_spec(module) is not None:
        raise MtlError(f'the name "{name}": a package {module} is installed; choose another')


def _templates() -> Path:
    """The folder of the templates: in the package, or in the repository that it was installed from, editable."""
    here = Path(__file__).parent
    places = [here / "templates", *(parent / "templates" for parent in here.parents[3:4])]
    for place in places:
        if (place / "copier.yml").is_file():
            return place
    raise MtlError(f"mtl-new: no templates in {places[0]}; install the distribution again")


def _write(into: Path, answers: dict[str, str]) -> None:
    """Generate from a template.

    :raises MtlError: an answer that the template does not take
    """
    from copier import run_copy

    try:
        run_copy(str(_templates()), into, data=answers, defaults=True, quiet=True)
    except ValueError as error:
        message = str(error).replace("Validation error for question ", "")
        raise MtlError(f"mtl new: {' '.join(message.split())}") from None
