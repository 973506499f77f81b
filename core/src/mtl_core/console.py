"""Progress bars for the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mtl_core.experiment import Experiment
from mtl_core.loop import Watcher


@contextmanager
def progress(experiment: Experiment, quiet: bool = False) -> Iterator[Watcher]:
    """A bar over all of a run's batches; silent on every rank but the first."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    rank = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))
    with Progress(*columns, disable=quiet or rank > 0) as bar:
        task = bar.add_task(experiment.name, total=None)

        def watch(epoch: int, batch: int, batches: int) -> None:
            done, total = epoch * batches + batch, experiment.epochs * batches
            bar.update(task, completed=done, total=total, description=f"{experiment.name}  epoch {epoch + 1}")

        yield watch
