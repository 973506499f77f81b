"""``mtl new``: a plugin from a template."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtl_core import MtlError
from mtl_new.creation import KINDS, create
from mtl_new.packing import pack

app = typer.Typer(name="new", add_completion=False)


@app.command(epilog="Example: mtl new regularizer smoothness")
def new(
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help=f"One of {', '.join(KINDS)}.")] = None,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Its name in experiment files, such as smoothness.")
    ] = None,
    plain: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Pack a plain file with one plugin; then NAME alone.")
    ] = None,
    into: Annotated[Path, typer.Option(help="The folder that receives mtl-NAME.")] = Path(),
    summary: Annotated[str | None, typer.Option(help="What it does, in one line.")] = None,
    author: Annotated[str | None, typer.Option(help="Who wrote it.")] = None,
) -> None:
    """Make a plugin from a template, or of a plain file: a distribution that can be installed, with tests."""
    if plain is not None:
        if name is not None:
            raise MtlError("mtl new --from FILE [NAME]: the kind is read from the file; give the name alone")
        folder = pack(plain, into, kind, summary=summary, author=author)
    elif kind is None or name is None:
        raise MtlError(f"mtl new: expected KIND NAME (kinds: {', '.join(KINDS)}), or --from FILE")
    else:
        folder = create(kind, name, into, summary=summary, author=author)
    print(f"{folder} is ready:")
    print(f'  pip install -e "{folder}"\n  pytest "{folder}"')
    if kind != "task-kind":
        print(f"and in an experiment file:\n  [plugins.{folder.name.removeprefix('mtl-')}]")
