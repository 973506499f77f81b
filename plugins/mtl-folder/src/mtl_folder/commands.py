"""``mtl data init``: describe a folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from mtl_core import MtlError

app = typer.Typer(
    name="data",
    help="Look at a data set, check every file of it, describe your own.",
    no_args_is_help=True,
    add_completion=False,
)
_FILE = "mtl-folder.toml"

_FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder with your data.")]


@app.callback()
def data() -> None:
    """Look at a data set, check every file of it, describe your own."""


@app.command(epilog="Example: mtl data init leaves")
def init(
    folder: _FolderArgument,
    show: Annotated[bool, typer.Option("--show", help="Print the description; write nothing.")] = False,
) -> None:
    """Look at a folder and write mtl-folder.toml with guesses, each with its reason; an existing one is kept."""
    from mtl_folder.init import look

    path = folder / _FILE
    if path.exists() and not show:
        raise MtlError(f"{path}: is there already and is kept; --show prints what would be written")
    plan = look(folder)
    if show:
        print(plan.toml(), end="")
        return
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(plan.toml())
    except OSError as error:
        raise MtlError(f"{path}: cannot be written ({error.strerror}); --show prints it") from None
    print(f"{path} is written; read its guesses, and give the classes their names. What was found:")
    print("\n".join(f"  {line}" for line in plan.summary()))
    print(f"\nThen check every file (mtl data check {folder}), and train, for example:\n")
    print(_example(folder, None if plan.has_one_size else plan.sizes[0]))


def _example(folder: Path, size: tuple[int, int] | None) -> str:
    """An experiment for a folder."""
    name = folder.resolve().name
    lines = [f'name = "{name}"', "", "[plugins.folder]", f'root = "{folder.as_posix()}"']
    if size is not None:
        lines.append(f"size = [{size[0]}, {size[1]}]")
    return "\n".join(f"  {line}".rstrip() for line in [*lines, "[plugins.full]", "[plugins.segnet]"])


def main(arguments: list[str] | None = None) -> None:
    """Run the commands; a user's mistake is one message on standard error and exit code 2."""
    run: Callable[..., object] = app
    try:
        run(arguments)
    except MtlError as error:
        print(f"mtl: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
