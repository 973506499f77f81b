"""The command ``mtl export``. Imports no torch until it is needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from mtl_core import MtlError


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    form: Annotated[str, typer.Option("--format", help="onnx, torch-export or safetensors.")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="The file; RUN/network.ENDING by default.")] = None,
    checkpoint: Annotated[str, typer.Option(help="last, or best on validation data.")] = "last",
    size: Annotated[str | None, typer.Option(metavar="HxW", help="Size of the images; that of the training.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting.")
    ] = None,
) -> None:
    """Write a run's network in another format, and compare what the file predicts with the network.

    Example: mtl export runs/rooms-0 --format onnx
    """
    from mtl_export.export import export_run

    made = export_run(run, form, out, checkpoint, _read_size(size), overrides or ())
    print(f"{made.file}: {made.compared}")


def _read_size(text: str | None) -> tuple[int, int] | None:
    """``256x320`` as (H, W)."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if match is None or not int(match[1]) or not int(match[2]):
        raise MtlError(f"--size {text}: expected HxW in pixels, such as 256x320")
    return int(match[1]), int(match[2])
