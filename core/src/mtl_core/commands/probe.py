"""``mtl probe``: train, and compare each regularizer's gradient with that of the labels that are withheld."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mtl_core.commands.train import train
from mtl_core.console import is_rank_zero, progress
from mtl_core.experiment import Experiment
from mtl_core.run_folder import RunFolder

_PLACES = ("predictions", "head", "encoder")

_Record = dict[str, dict[str, float]]
"""``PLUGIN/TERM/TASK/PLACE`` → cosine and ratio, each the mean over the epochs, and of the last epoch."""


def probe(experiment: Experiment, folder: Path, batches: int, resume: bool, quiet: bool) -> _Record:
    """Train with a probe at the end of every epoch.

    :return: what it found; empty on other ranks than the first
    """
    with progress(experiment, quiet) as watch:
        run = train(experiment, folder, resume=resume, watch=watch, probe=batches)
    return _summary(run) if is_rank_zero() else {}


def _summary(run: RunFolder) -> _Record:
    """The probe's lines in a run's history."""
    epochs = [record for record in run.history() if record.get("event") == "epoch"]
    names = {key.rpartition("/")[0] for record in epochs for key in record if key.startswith("probe/")}
    return {name.removeprefix("probe/"): _over_epochs(name, epochs) for name in sorted(names)}


def _over_epochs(name: str, epochs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for key in ("cosine", "ratio"):
        values = [record[f"{name}/{key}"] for record in epochs if record.get(f"{name}/{key}") is not None]
        if values:
            found[key] = fmean(values)
            found[f"last {key}"] = values[-1]
    return found


def show(record: _Record, console: Console) -> None:
    """A row for every term and task; the regularizer's size as a multiple of the true gradient's."""
    title = "cosine with the gradient of the withheld labels (size in multiples of it), means over the epochs"
    table = Table(title=title, title_justify="left", box=None)
    for column in ("term", "task", *_PLACES):
        table.add_column(column)
    for name in dict.fromkeys(key.rpartition("/")[0] for key in record):
        term, _, task = name.rpartition("/")
        table.add_row(escape(term), escape(task), *(_cell(record.get(f"{name}/{place}")) for place in _PLACES))
    console.print(table)


def _cell(found: Mapping[str, float] | None) -> str:
    return "–" if not found else f"{found['cosine']:+.2f} ({_short(found['ratio'])})"


def _short(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"
