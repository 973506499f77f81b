"""A report for every run: results, curves and pictures in one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl_core import hookimpl, plugin, to_json, write_text
from mtl_report.report import write_report
from mtl_report.several import write_comparison

if TYPE_CHECKING:
    from torch import Tensor

    from mtl_core import Examples, FinishedRun, Tasks

__all__ = ["Report", "write_comparison", "write_report"]

_IMAGES = 4
"""Images of a sheet, evenly spread over the split."""

_EXTREMES = 3
"""Images of a sheet of the best or worst."""


@plugin
class Report:
    """Pictures and a report of every finished run."""

    @hookimpl
    def after_run(self, run: FinishedRun) -> None:
        from mtl_report import pictures

        folder = run.folder / "pictures"
        if examples := run.examples(_IMAGES):
            _save_sheet(run.tasks, examples, folder, f"predictions{run.suffix}")
        for title, found in run.extremes(_EXTREMES).items():
            _save_sheet(run.tasks, found, folder, f"{title}{run.suffix}")
        if drawings := run.drawings(_IMAGES):
            for name, titled in drawings.maps.items():
                _save(
                    folder, name, pictures.drawings(drawings.batch, run.tasks, titled), run.tasks,
                    pictures.drawing_limits(drawings.batch, run.tasks, titled),
                )  # fmt: skip
        write_report(run.folder)

    @hookimpl
    def after_predict(self, image: Tensor, labels: Mapping[str, Tensor], tasks: Tasks, folder: Path, name: str) -> Path:
        from mtl_report import pictures

        pairs = {task: (label, None) for task, label in labels.items()}
        path = folder / f"{name}_all.png"
        pictures.sheet([(image, pairs)], tasks).save(path)
        return path


def _save_sheet(tasks: Tasks, examples: Examples, folder: Path, name: str) -> None:
    """A sheet of predictions beside labels."""
    from mtl_report import pictures

    rows = pictures.pairs(tasks, examples.batch, examples.predictions)
    _save(folder, name, pictures.sheet(rows, tasks), tasks, pictures.sheet_limits(rows, tasks), examples.names)


def _save(
    folder: Path,
    name: str,
    picture: Any,
    tasks: Tasks,
    limits: Mapping[str, tuple[float, float]],
    rows: Any = (),
) -> None:
    """A picture, and beside it what its colours mean and what its rows are called."""
    from mtl_report.keys import key_of

    folder.mkdir(exist_ok=True)
    picture.save(folder / f"{name}.png")
    keys = [key_of(task, limits[task.name]) for task in tasks if task.name in limits]
    write_text(folder / f"{name}.json", to_json({"keys": keys, "rows": list(rows)}))
