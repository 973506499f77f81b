"""The command ``mtl report``. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtl_core import MtlError


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs' folders.")],
    out: Annotated[Path | None, typer.Option(help="The page; RUN/report.html for one run, else report.html.")] = None,
) -> None:
    """Write the report of a run again, or one page about several runs.

    Example: mtl report runs/supervised-0 runs/jtr-0 --out both.html
    """
    from mtl_report.report import write_report
    from mtl_report.several import write_comparison

    if len(runs) == 1 and out is None:
        path = write_report(runs[0])
    else:
        path = out or Path("report.html")
        if path.is_dir():
            raise MtlError(f"{path}: is a folder; give --out the name of a page, such as {path / 'report.html'}")
        write_comparison(runs, path)
    print(path)
