"""A report for every run: results, curves and pictures in one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mtl_core import hookimpl, plugin
from mtl_report.report import write_report

if TYPE_CHECKING:
    from torch import Tensor

    from mtl_core import FinishedRun, Tasks

__all__ = ["Report", "write_report"]

IMAGES = 4
"""How many images a sheet shows."""


@plugin
class Report:
    """Pictures and a report of every finished run."""

    @hookimpl
    def after_run(self, run: FinishedRun) -> None:
        from mtl_report import pictures

        folder = run.folder / "pictures"
        if examples := run.examples(IMAGES):
            folder.mkdir(exist_ok=True)
            rows = pictures.pairs(run.tasks, examples.batch, examples.predictions)
            pictures.sheet(rows, run.tasks).save(folder / f"predictions{run.suffix}.png")
        if drawings := run.drawings(IMAGES):
            folder.mkdir(exist_ok=True)
            for name, titled in drawings.maps.items():
                pictures.drawings(drawings.batch, run.tasks, titled).save(folder / f"{name}.png")
        write_report(run.folder)

    @hookimpl
    def after_predict(self, image: Tensor, labels: Mapping[str, Tensor], tasks: Tasks, folder: Path, name: str) -> Path:
        from mtl_report import pictures

        pairs = {task: (label, None) for task, label in labels.items()}
        path = folder / f"{name}_all.png"
        pictures.sheet([(image, pairs)], tasks).save(path)
        return path
