"""``mtl new``: a plugin from a template."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtl_new.creation import KINDS, create

app = typer.Typer(name="new", add_completion=False)


@app.command(epilog="Example: mtl new regularizer smoothness")
def new(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(KINDS)}.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name in experiment files, such as smoothness.")],
    into: Annotated[Path, typer.Option(help="The folder that receives mtl-NAME.")] = Path(),
    summary: Annotated[str | None, typer.Option(help="What it does, in one line.")] = None,
    author: Annotated[str | None, typer.Option(help="Who wrote it.")] = None,
) -> None:
    """Make a plugin from a template: a distribution that can be installed, with tests that pass."""
    folder = create(kind, name, into, summary=summary, author=author)
    print(f"{folder} is ready:")
    print(f'  pip install -e "{folder}"\n  pytest "{folder}"')
    if kind != "task-kind":
        print(f"and in an experiment file:\n  [plugins.{name}]")
