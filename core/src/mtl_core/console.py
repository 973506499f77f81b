"""Output for the terminal: progress and tables."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mtl_core.experiment import Experiment

Watcher = Callable[[int, int, int], None]
"""Called after every batch with (epoch, batch, batches)."""

_EVERY = 2.0
"""Seconds between two looks at the losses of the epoch that is under way: on a GPU each look waits for it."""


def is_rank_zero() -> bool:
    """Whether this process is the first of its run; true where there is one process."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    # before process groups exist the environment is all there is to know; torchrun sets RANK, Slurm SLURM_PROCID
    ranks = [os.environ[name] for name in names if name in os.environ]
    node = os.environ.get("NODE_RANK", "0")
    return (ranks or ["0"])[0] == "0" and ("RANK" in os.environ or node == "0")


class Monitor:
    """Shows how a run goes on: a bar with losses and metrics on a terminal, elsewhere a line for each epoch.

    :param quiet: show nothing
    """

    def __init__(self, experiment: Experiment, console: Console, quiet: bool = False) -> None:
        self.experiment = experiment
        self.console = console
        self.quiet = quiet
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = _Bar(*columns, console=console, disable=quiet or not console.is_terminal)
        self.task = self.bar.add_task(escape(experiment.name), total=None)
        self.headlines: tuple[str, ...] = ()
        self.validated = ""
        self.looked = self.started = time.monotonic()
        self.first: int | None = None

    def begin(self, headlines: Iterable[str]) -> None:
        """Which validation metrics are shown, as ``task/metric``."""
        self.headlines = tuple(headlines)
        self.started = time.monotonic()

    def __call__(self, epoch: int, batch: int, batches: int) -> None:
        """A batch is done."""
        self.first = epoch if self.first is None else self.first
        done = epoch * batches + batch
        total = self.experiment.epochs * batches
        name = f"{escape(self.experiment.name)}  epoch {epoch + 1}/{self.experiment.epochs}"
        self.bar.update(self.task, completed=done, total=total, description=name)

    @property
    def wants_losses(self) -> bool:
        """Whether it is time for another look at the losses."""
        return not self.bar.disable and time.monotonic() - self.looked >= _EVERY

    def show_losses(self, means: Mapping[str, float]) -> None:
        """The mean losses of the epoch that is under way."""
        self.looked = time.monotonic()
        self.bar.status = "  ".join(filter(None, (_losses_of(means), self.validated)))

    def show_epoch(self, record: Mapping[str, float], best: bool) -> None:
        """An epoch has ended.

        :param record: as ``metrics.jsonl`` has it
        :param best: whether it is the best so far
        """
        values = {name: record.get(f"val/{name}", math.nan) for name in self.headlines}
        found = {name: value for name, value in values.items() if math.isfinite(value)}
        self.validated = "val  " + ", ".join(f"{name} {value:.4g}" for name, value in found.items()) if found else ""
        self.bar.status = "  ".join(filter(None, (_losses_of(record), self.validated)))
        if self.quiet or self.console.is_terminal or not is_rank_zero():
            return
        epoch = int(record["epoch"]) + 1
        parts = (
            f"{self.experiment.name}: epoch {epoch}/{self.experiment.epochs}", _losses_of(record), self.validated,
            "best" if best and found else "", _skipped(record), f"{record['seconds']:.1f} s", self._left(epoch),
        )  # fmt: skip
        print("  ".join(filter(None, parts)), flush=True, file=self.console.file)

    def _left(self, epoch: int) -> str:
        """The time that the epochs to come will take, by those that this process has seen."""
        seen = epoch - (self.first or 0)
        seconds = (time.monotonic() - self.started) / max(1, seen) * (self.experiment.epochs - epoch)
        return f"{timedelta(seconds=round(seconds))} left" if seconds >= 1 else ""


class _Bar(Progress):
    """A bar with a line below it."""

    status = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.status:
            yield Text(self.status, style="dim")


def _losses_of(means: Mapping[str, float]) -> str:
    """``loss 0.81 (segmentation 0.5, depth 0.3)``, of what an epoch's record has."""
    total = means.get("train/loss", math.nan)
    if not math.isfinite(total):
        return ""
    tasks = {name.removeprefix("train/loss/"): v for name, v in means.items() if name.startswith("train/loss/")}
    shown = ", ".join(f"{name} {value:.4g}" for name, value in tasks.items() if math.isfinite(value))
    return f"loss {total:.4g}" + (f" ({shown})" if shown else "")


def _skipped(record: Mapping[str, float]) -> str:
    count = round(record.get("skipped_steps") or 0)
    return f"{count} steps skipped" if count else ""


@contextmanager
def progress(experiment: Experiment, quiet: bool = False) -> Iterator[Monitor]:
    """Show how a run goes on; silent on every rank but the first."""
    monitor = Monitor(experiment, Console(), quiet or not is_rank_zero())
    with monitor.bar:
        yield monitor


def print_metrics(metrics: Mapping[str, float | None], title: str) -> None:
    shown = Table("task", "metric", "value", title=escape(title), title_justify="left")
    for name, value in metrics.items():
        task, _, metric = name.partition("/")
        shown.add_row(task, metric, "–" if value is None else f"{value:.4g}")
    Console().print(shown)
