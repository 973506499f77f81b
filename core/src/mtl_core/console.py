"""Output for the terminal: progress and tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mtl_core.experiment import Experiment

Watcher = Callable[[int, int, int], None]
"""Called after every batch with (epoch, batch, batches)."""


def is_rank_zero() -> bool:
    """Whether this process is the first of its run; true where there is one process."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    # before process groups exist the environment is all there is to know; torchrun sets RANK, Slurm SLURM_PROCID
    ranks = [os.environ[name] for name in names if name in os.environ]
    node = os.environ.get("NODE_RANK", "0")
    return (ranks or ["0"])[0] == "0" and ("RANK" in os.environ or node == "0")


@contextmanager
def progress(experiment: Experiment, quiet: bool = False) -> Iterator[Watcher]:
    """A bar over all of a run's batches; silent on every rank but the first."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=quiet or not is_rank_zero()) as bar:
        task = bar.add_task(escape(experiment.name), total=None)

        def watch(epoch: int, batch: int, batches: int) -> None:
            done = epoch * batches + batch
            total = experiment.epochs * batches
            bar.update(task, completed=done, total=total, description=f"{escape(experiment.name)}  epoch {epoch + 1}")

        yield watch


def print_metrics(metrics: Mapping[str, float | None], title: str) -> None:
    shown = Table("task", "metric", "value", title=escape(title), title_justify="left")
    for name, value in metrics.items():
        task, _, metric = name.partition("/")
        shown.add_row(task, metric, "–" if value is None else f"{value:.4g}")
    Console().print(shown)
